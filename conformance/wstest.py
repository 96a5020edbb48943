"""Autobahn's fuzzing client: a program for Python 2.7, installed under `build/` and run as a process."""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_STARTED = re.compile(r"Ok, will run (\d+) test cases")
_CASE = re.compile(r"Running test case ID (\d+)\.")


class Unavailable(Exception):
    """The fuzzing client cannot be run here; the message says why and what helps."""


def find_python2(named: str | None) -> str:
    """Return an interpreter of Python 2.7 with pip.

    Args:
        named: The one to take, if it is one.

    Raises:
        Unavailable: There is none.
    """
    pyenv = Path.home().glob(".pyenv/versions/2.7*/bin/python")
    for candidate in [named] if named else ["python2.7", "python2", *map(str, pyenv)]:
        if _is_python2(candidate):
            return candidate
    missing = f"{named} is no Python 2.7 with pip" if named else "there is no Python 2.7 with pip here"
    raise Unavailable(f"{missing}; the Autobahn testsuite needs one: make autobahn PYTHON2=/path/to/python2.7")


def install(python2: str, directory: Path) -> None:
    """Install the testsuite, unless it is there in the versions that `requirements.txt` has.

    Args:
        python2: An interpreter of Python 2.7.
        directory: Where to; it is to that interpreter what `~/.local` is.

    Raises:
        Unavailable: pip says no.
    """
    marker = directory / "installed.txt"
    wanted = f"# {python2}\n{REQUIREMENTS.read_text()}"
    if marker.exists() and marker.read_text() == wanted:
        return
    print(f"Installing the Autobahn testsuite for {python2}", flush=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location", "--user", "--ignore-installed"]
    command = [python2, "-m", "pip", "install", *options, "--requirement", str(REQUIREMENTS)]
    # pip for Python 2 has much to say about its age; it is heard when it fails.
    pip = subprocess.run(
        command, env=_environment(directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if pip.returncode:
        raise Unavailable(f"the Autobahn testsuite could not be installed:\n{pip.stdout}")
    marker.write_text(wanted)


def run(directory: Path, url: str, cases: Sequence[str], reports: Path) -> int:
    """Run test cases against a server and return how many there were to run; the reports say how they went.

    Args:
        directory: Where the testsuite is installed.
        url: The server's.
        cases: Patterns such as `1.*`.
        reports: Directory of the reports; what the client prints is in its `wstest.log`.

    Raises:
        Unavailable: The client has failed.
    """
    specification = reports / "specification.json"
    specification.write_text(
        json.dumps({"outdir": str(reports), "servers": [{"agent": "server", "url": url}], "cases": list(cases)})
    )
    command = [str(directory / "bin" / "wstest"), "--mode", "fuzzingclient", "--spec", str(specification)]
    log = reports / "wstest.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, env=_environment(directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        count = _follow(process.stdout, output)
    if process.returncode or not count:
        raise Unavailable(f"the Autobahn testsuite has failed (status {process.returncode}): see {log}")
    return count


def _follow(lines: Iterable[str], output: TextIO) -> int:
    """Copy what the client prints, say which section it has come to, and return how many cases it has."""
    count, section = 0, ""
    for line in lines:
        output.write(line)
        if started := _STARTED.search(line):
            count = int(started[1])
            print(f"Running {count} test cases", flush=True)
        elif (case := _CASE.search(line)) and case[1] != section:
            section = case[1]
            print(f"  section {section}", flush=True)
    return count


def _is_python2(candidate: str) -> bool:
    check = "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        return not subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode
    except OSError:
        return False


def _environment(directory: Path) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**others, "PYTHONUSERBASE": str(directory), "PYTHONUNBUFFERED": "1"}
