"""`python -m benchmarks [NAME …] [--only SERVER …] [--rounds 3] [--seconds 3] [--json FILE]`, or `--setup`."""

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import abuse, stalled, workers
from .comparison import Comparison, compare
from .contestants import CONTESTANTS, Contestant
from .installation import Unavailable, floor, install_peers, load_generator
from .machine import describe
from .report import summary, workload_table
from .running import cores, raise_open_files
from .workloads import WORKLOADS

STALLED = "stalled"
ABUSE = "abuse"
WORKERS = "workers"
RESUME = "resume"
NAMES = (STALLED, ABUSE, WORKERS, RESUME, *(workload.name for workload in WORKLOADS))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Hubbub beside what else there is.",
        epilog="Servers: " + ", ".join(contestant.name for contestant in CONTESTANTS),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all if none is given")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="measure these servers only")
    parser.add_argument("--rounds", type=int, default=3, help="how often each measurement is taken (default: 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each one is (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, those of each round too")
    parser.add_argument("--setup", action="store_true", help="install the peers, and end")
    given = parser.parse_args()
    for asked, known in ((given.names, NAMES), (given.only or (), [each.name for each in CONTESTANTS])):
        if unknown := [name for name in asked if name not in known]:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("--rounds and --seconds are above 0")
    return given


def main() -> None:
    """Run what is asked for, or everything."""
    given = arguments()
    try:
        if given.setup:
            install_peers()
        else:
            run(given)
    except (Unavailable, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted")


def run(given: argparse.Namespace) -> None:
    """Print the tables."""
    names = given.names or NAMES
    comparisons: list[Comparison] = []
    if STALLED in names:
        print(asyncio.run(stalled.run(given.rounds)), end="\n\n", flush=True)
    if ABUSE in names:
        print(abuse.run(given.seconds), end="\n\n", flush=True)
    if WORKERS in names:
        print(asyncio.run(workers.run(given.rounds, given.seconds)), end="\n\n", flush=True)
    if RESUME in names:
        print(asyncio.run(workers.run_resume(given.rounds)), end="\n\n", flush=True)
    contestants = chosen(given.only)
    for workload in WORKLOADS:
        if workload.name in names:
            if not comparisons:
                prepare()
            comparisons.append(compare(workload, contestants, given.rounds, given.seconds, progress))
            print(workload_table(comparisons[-1], given.rounds), end="\n\n", flush=True)
    if comparisons:
        conclude(given, contestants, comparisons)


def chosen(only: Sequence[str] | None) -> list[Contestant]:
    """Return the servers that are asked for and installed, and print which are not installed."""
    asked = [contestant for contestant in CONTESTANTS if only is None or contestant.name in only]
    missing = [contestant.name for contestant in asked if not contestant.is_installed]
    if missing:
        print(f"Not installed and left out: {', '.join(missing)}. `make bench-peers` installs what it can.\n")
    return [contestant for contestant in asked if contestant.name not in missing]


def prepare() -> None:
    """Compile the programs in C, and see to the machine."""
    load_generator()
    floor()
    raise_open_files()
    server, generator = cores()
    if server == generator:
        print("There is one core for the server and the load generator: they take it from each other.\n")


def progress(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def conclude(given: argparse.Namespace, contestants: Sequence[Contestant], comparisons: Sequence[Comparison]) -> None:
    """Print the table of all, the machine and the command; write the file."""
    about = {**describe(contestants), "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])}
    print(summary(comparisons), end="\n\n")
    print("\n".join(f"- {name}: {value}" for name, value in about.items()))
    if given.json:
        given.json.write_text(json.dumps({"about": about, "results": list(records(comparisons))}, indent=1) + "\n")


def records(comparisons: Iterable[Comparison]) -> Iterable[dict[str, object]]:
    """Return all results as what JSON has."""
    for comparison in comparisons:
        for result in comparison.results:
            yield {
                "workload": comparison.workload.name,
                "server": result.contestant.name,
                "endpoint": result.endpoint.how or result.endpoint.path,
                "medians": result.figures,
                "rounds": result.runs,
                "failure": result.failure,
            }


main()
