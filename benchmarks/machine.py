"""What was measured on and with: figures mean nothing without it."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .contestants import Contestant
from .installation import VENV, PythonPackage, version_in

OURS = ("uvicorn", "uvloop", "httptools", "fastapi", "starlette", "websockets")


def describe(contestants: Sequence[Contestant]) -> dict[str, str]:
    """Return the machine and all versions."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Hubbub with": _listed((name, version_in(Path(sys.prefix), name)) for name in OURS),
        "peers": _listed(_peer_versions(contestants)),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _peer_versions(contestants: Sequence[Contestant]) -> Iterable[tuple[str, str | None]]:
    packages = dict.fromkeys(contestant.package for contestant in contestants if contestant.package)
    yield from ((package.name, package.version) for package in packages)
    if any(isinstance(package, PythonPackage) for package in packages):
        yield from ((name, version_in(VENV, name)) for name in ("uvicorn", "uvloop"))
    if any(contestant.command[0] == "node" for contestant in contestants):
        yield "Node", _node_version()


def _node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip().lstrip("v")


def _listed(versions: Iterable[tuple[str, str | None]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions if version) or "none"
