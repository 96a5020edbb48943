"""The front end of the chat: what is committed is what its sources make, and what does not fit is an error."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node import tsc

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def test_what_the_browser_loads_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "front.py", "--check"], capture_output=True, encoding="utf-8", timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def front(tmp_path: Path) -> Path:
    """A copy of the page's source, with all that it imports."""
    shutil.copytree(EXAMPLES / "chat" / "front", tmp_path / "chat" / "front")
    shutil.copytree(EXAMPLES / "shared", tmp_path / "shared")
    return tmp_path / "chat" / "front"


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ('type: "say", text: words', 'type: "shout", text: words', "'\"shout\"'"),
        ('type: "say", text: words', 'type: "say", txt: words', "'txt'"),
        ('case "absent":', 'case "away":', "'\"away\"'"),
        ("{ room, name: me }", "{ room, nick: me }", "'nick'"),
    ],
)
def test_what_does_not_fit_the_messages_is_an_error(front: Path, right: str, wrong: str, fault: str) -> None:
    source = front / "chat.ts"
    text = source.read_text("utf-8")
    assert right in text
    source.write_text(text.replace(right, wrong), "utf-8")
    config = front / "tsconfig.json"
    config.write_text(config.read_text("utf-8").replace('"strict"', '"noEmit": true, "strict"'), "utf-8")
    complaints = tsc(front)
    assert "error TS" in complaints[0]
    assert fault in "\n".join(complaints)
