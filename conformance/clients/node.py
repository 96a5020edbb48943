"""The conversation with `ws` on Node, which npm installs under `build/`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from ..server import ROOT
from .outcome import Results, Unavailable

SOURCES = Path(__file__).parent
MANIFEST = SOURCES / "package.json"
BUILD = ROOT / "build" / "clients"
DEADLINE_S = 240.0


def name() -> str:
    """Return what this client is, with its version."""
    return f"ws {json.loads(MANIFEST.read_text())['dependencies']['ws']} on Node"


def run(base: str, deflate: bool, authority: Path) -> Results:
    """Have the conversation and return what each step has ended with (see `outcome`).

    Raises:
        Unavailable: There is no Node with npm, npm says no, or Node has failed.
    """
    install()
    command = ["node", str(SOURCES / "node.js"), base, "on" if deflate else "off", "node", str(authority)]
    environment = {**os.environ, "NODE_PATH": str(BUILD / "node_modules")}
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Node has not ended after {DEADLINE_S:g} seconds") from None
    if ran.returncode:
        raise Unavailable(f"Node has failed: {' '.join(ran.stderr.split())[:300]}")
    results: Results = json.loads(ran.stdout)
    return results


def install() -> None:
    """Install `ws`, unless it is there in the version that `package.json` has.

    Raises:
        Unavailable: There is no Node with npm, or npm says no.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} here: install Node.js with npm")
    marker = BUILD / "installed.json"
    if marker.exists() and marker.read_text() == MANIFEST.read_text():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    shutil.copy(MANIFEST, BUILD)
    command = ["npm", "install", "--prefix", str(BUILD), "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    npm = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if npm.returncode:
        raise Unavailable(f"npm could not install ws: {' '.join(npm.stdout.split())[:300]}")
    marker.write_text(MANIFEST.read_text())
