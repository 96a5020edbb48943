"""The entry point: with what the extra `server` brings, and without it."""

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from hubbub.cli import main


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys; {before}\nfrom hubbub.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=30)


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="hubbub")
    assert command.load() is main


def test_it_can_be_run_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "hubbub.cli", "--version"], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout) == (0, f"hubbub {version('hubbub')}\n")


@pytest.mark.parametrize("missing", ["typer", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    ran = run("--version", before=f"sys.modules[{missing!r}] = None")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == (
        f"hubbub: {missing} is not installed. Install it with the command: pip install 'hubbub[server]'\n"
    )


def test_another_module_that_is_missing_is_a_fault() -> None:
    ran = run("--version", before="sys.modules['uvicorn.importer'] = None")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Traceback")
