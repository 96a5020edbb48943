"""What is measured beside Hubbub: where it is, how it gets there, and which versions there are."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).parent
PEERS = SOURCES / "peers"
BUILD = ROOT / "build" / "benchmarks"
CACHE = Path(os.environ.get("HUBBUB_BENCHMARKS") or Path.home() / ".cache" / "hubbub-benchmarks")
"""Where the peers are installed."""
VENV = CACHE / "venv"
NODE_MODULES = CACHE / "node_modules"

HEADERS = {"zlib.h": "the headers of zlib are missing: on Debian and Ubuntu, install zlib1g-dev"}
COMPILER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra")


class Unavailable(Exception):
    """Something that the benchmarks need is not on this machine; the message names the remedy."""


def install_peers() -> None:
    """Install the peers, in the versions that `peers/` names, into the cache directory.

    Raises:
        subprocess.CalledProcessError: pip or npm has failed, and has said why.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"Installing the peers into {CACHE}")
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip: list[str | Path] = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements: list[str | Path] = [
        "--requirement",
        PEERS / "requirements.txt",
        "--constraint",
        ROOT / "constraints.txt",
    ]
    subprocess.run([*pip, *requirements], check=True)
    if shutil.which("npm") is None:
        print("There is no npm, so that the peers on Node and Bun are left out: install Node.js with npm for them.")
        return
    shutil.copy(PEERS / "package.json", CACHE)
    subprocess.run(["npm", "install", "--prefix", CACHE, "--no-audit", "--no-fund", "--silent"], check=True)


def build(name: str, *sources: Path, libraries: tuple[str, ...] = ()) -> Path:
    """Compile a program where its sources are newer than it is, and return where it is.

    Raises:
        Unavailable: There is no compiler, or a header is missing.
    """
    program = BUILD / name
    newest = max(source.stat().st_mtime for source in sources)
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    files = [source for source in sources if source.suffix == ".c"]
    try:
        command: list[str | Path] = [*COMPILER, "-o", program, *files, *libraries]
        compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable("There is no gcc: on Debian and Ubuntu, install gcc and libc6-dev.") from None
    if compiled.returncode:
        remedy = next((text for header, text in HEADERS.items() if f"{header}: No such file" in compiled.stderr), None)
        raise Unavailable(f"{name} does not compile: {remedy or compiled.stderr}")
    return program


def load_generator() -> Path:
    """Return the load generator, compiled."""
    parts = sorted((SOURCES / "wsload").iterdir())
    return build("wsload", SOURCES / "wsload.c", *parts, libraries=("-lz",))


def floor() -> Path:
    """Return the peer in C, compiled."""
    return build("floor", PEERS / "floor.c")


def version_in(venv: Path, name: str) -> str | None:
    """Return which version of a Python distribution is installed there, if any."""
    paths = [str(path) for path in venv.glob("lib/python*/site-packages")]
    return next((found.version for found in distributions(name=name, path=paths)), None)


@dataclass(frozen=True)
class PythonPackage:
    """A package in the peers' virtual environment."""

    name: str

    @property
    def version(self) -> str | None:
        """Which version is installed, if any."""
        return version_in(VENV, self.name)


@dataclass(frozen=True)
class NodePackage:
    """A package in the peers' `node_modules`."""

    name: str

    @property
    def version(self) -> str | None:
        """Which version is installed, if any."""
        manifest = NODE_MODULES / self.name / "package.json"
        return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else None
