"""`hubbub schema` and `hubbub types`, each in a process of its own: what they print, where, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
from typing import Annotated, Literal

from fastapi import Depends, FastAPI
from hubbub import Connection, Hub
from pydantic import BaseModel

hub = Hub()
other = Hub()
app = FastAPI(title="Tea")
zebras = hub.channels("zebra:{zebra}")
apes = other.channels("ape:{ape}")


class Brew(BaseModel):
    type: Literal["brew"]
    sort: str = "Grüner"


@app.websocket("/tea")
async def tea(connection: Annotated[Connection[Brew, Brew], Depends(hub)]): ...


def make():
    return app
"""
ODD = """
    model_config = {"json_schema_extra": {"properties": [1]}}
    sort:"""
OPAQUE = """
class Opaque: ...


@app.websocket("/opaque")
async def opaque(connection: Annotated[Connection[Opaque], Depends(hub)]): ...
"""


def hubbub(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hubbub.cli", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, encoding="utf-8", timeout=30)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APPLICATION, "utf-8")
    return tmp_path


def test_the_schema_is_json(directory: Path) -> None:
    done = hubbub(directory, "schema", "main:app")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["info"]["title"] == "Tea"
    assert [*document["channels"]] == ["tea", "ape", "zebra"]
    assert "servers" not in document
    assert "Grüner" in done.stdout


def test_it_is_the_same_in_every_process(directory: Path) -> None:
    first, second = (hubbub(directory, "schema", "main:app").stdout for _ in range(2))
    assert first == second


def test_an_application_may_be_made_and_elsewhere(directory: Path) -> None:
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    done = hubbub(elsewhere, "schema", "main:make", "--factory", "--app-dir", str(directory))
    assert "tea" in json.loads(done.stdout)["channels"]


def test_it_says_where_the_application_is_served(directory: Path) -> None:
    done = hubbub(directory, "schema", "main:app", "--server", "wss://example.org/api/")
    server = {"host": "example.org", "protocol": "wss", "pathname": "/api"}
    assert json.loads(done.stdout)["servers"] == {"current": server}


def test_what_the_application_prints_is_not_in_the_output(directory: Path) -> None:
    with (directory / "main.py").open("a", encoding="utf-8") as file:
        file.write('print("Loading the model")')
    done = hubbub(directory, "schema", "main:app")
    assert json.loads(done.stdout)["info"]["title"] == "Tea"
    assert done.stderr == "Loading the model\n"


def test_the_output_is_utf_8_whatever_the_terminal_has(directory: Path) -> None:
    command = [sys.executable, "-m", "hubbub.cli", "schema", "main:app"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, timeout=30)
    assert "Grüner" in done.stdout.decode()


def test_the_types_are_typescript(directory: Path) -> None:
    done = hubbub(directory, "types", "main:app", "--typescript")
    assert (done.returncode, done.stderr) == (0, "")
    assert "export function connectTea(" in done.stdout


@pytest.mark.parametrize("command", [("schema",), ("types", "--typescript")])
def test_what_cannot_be_described_is_said_beside_the_output(directory: Path, command: tuple[str, ...]) -> None:
    with (directory / "main.py").open("a", encoding="utf-8") as file:
        file.write(OPAQUE)
    done = hubbub(directory, *command, "main:app")
    assert done.returncode == 0
    assert done.stderr.startswith("hubbub: opaque: Opaque has no JSON Schema: ")
    assert "Traceback" not in done.stderr
    assert "opaque" in done.stdout


@pytest.mark.parametrize("command", [("schema",), ("types", "--typescript")])
def test_an_empty_application_is_said_to_be_empty(directory: Path, command: tuple[str, ...]) -> None:
    (directory / "empty.py").write_text("from fastapi import FastAPI\napp = FastAPI()", "utf-8")
    done = hubbub(directory, *command, "empty:app")
    assert done.returncode == 0
    assert done.stderr == "hubbub: empty:app has no WebSocket endpoints, and its hubs have no channels.\n"
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("schema", "nowhere:app"), 1, 'hubbub: Could not import module "nowhere".'),
        (("schema", "main:make"), 1, "hubbub: main:make is a function, not an application."),
        (("schema", "main:hub"), 1, "hubbub: main:hub is a Hub, not an application."),
        (("schema", "broken:app"), 1, "hubbub: cannot import broken:app: ZeroDivisionError: division by zero"),
        (("schema", "main:app", "--server", "https://example.org"), 2, "Invalid value for --server"),
        (("schema", "main:app", "--server", "ws://[x"), 2, "Invalid value for --server"),
        (("types", "main:app"), 2, "--typescript"),
        (("types", "odd:app", "--typescript"), 1, "Look at its json_schema_extra."),
    ],
)
def test_a_mistake_is_one_message(directory: Path, arguments: tuple[str, ...], status: int, complaint: str) -> None:
    (directory / "broken.py").write_text("1 / 0", "utf-8")
    (directory / "odd.py").write_text(APPLICATION.replace("    sort:", ODD), "utf-8")
    done = hubbub(directory, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["schema", "types"])
def test_help_has_an_example(directory: Path, command: str) -> None:
    done = hubbub(directory, command, "--help")
    assert done.returncode == 0
    assert f"hubbub {command} main:app" in done.stdout
