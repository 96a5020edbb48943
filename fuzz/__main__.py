"""`python -m fuzz [parser] [handshake] [--seconds 60]`"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import seeds

ROOT = Path(__file__).parents[1]
BUILD = Path("build/fuzz")
TARGETS: dict[str, Callable[[], Iterable[bytes]]] = {"parser": seeds.parser, "handshake": seeds.handshake}
LIMITS = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=2048")
"""Bytes of an input, and seconds and memory for one: beyond these is a finding, too."""
_SUMMARY = re.compile(r"#\d+\s+DONE|Done ")
_LONGEST_LINE = 1_000


def main() -> int:
    """Fuzz what is asked for, or everything, and return 1 where there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz the wire layer.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"{' or '.join(TARGETS)}; all if none is given")
    parser.add_argument("--seconds", type=int, default=60, help="how long, in all (default: 60)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    os.chdir(ROOT)
    names = arguments.names or list(TARGETS)
    findings = [name for name in names if not _fuzz(name, max(1, arguments.seconds // len(names)))]
    return int(bool(findings))


def _fuzz(name: str, seconds: int) -> bool:
    """Run a target and return whether it has found nothing.

    What it has found before is run first, so that a finding is one until it is mended.
    """
    corpus, findings, start = (BUILD / name / part for part in ("corpus", "findings", "seeds"))
    for directory in (corpus, findings, start):
        directory.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(TARGETS[name]()):
        (start / f"{index:03}").write_bytes(seed)
    dictionary = BUILD / "words.txt"
    dictionary.write_text("".join(map(_quoted, seeds.words())))
    command = [sys.executable, "-m", f"fuzz.{name}", *LIMITS, f"-dict={dictionary}", f"-max_total_time={seconds}"]
    command += [f"-artifact_prefix={findings}/", *map(str, (corpus, start, findings))]
    print(f"fuzz.{name}: {seconds} s", flush=True)
    log = BUILD / name / "log.txt"
    with log.open("wb") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    _report(name, log, findings, bool(status))
    return not status


def _quoted(word: bytes) -> str:
    """Return a line of libFuzzer's dictionary."""
    escaped = "".join(f"\\x{byte:02x}" for byte in word)
    return f'"{escaped}"\n'


def _report(name: str, log: Path, findings: Path, has_failed: bool) -> None:
    """Print what the fuzzer said at the end, and for a finding what it is and how to see it again."""
    lines = log.read_text(errors="replace").splitlines()
    if not has_failed:
        print("\n".join(line for line in lines if _SUMMARY.match(line)))
        return
    # Not what it says of each input that reaches something new
    print("\n".join(line[:_LONGEST_LINE] for line in lines if not line.startswith("#")))
    print(f"\nfuzz.{name} has found something, or could not run: see above.")
    for path in sorted(findings.iterdir(), key=lambda path: path.stat().st_mtime):
        print(f"To see it again: {os.path.relpath(sys.executable)} -m fuzz.{name} {path}")


sys.exit(main())
