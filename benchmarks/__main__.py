"""`python -m benchmarks [stalled] [fanout] [--rounds 5]`"""

import argparse
import asyncio

from . import fanout, stalled

BENCHMARKS = {"stalled": stalled.run, "fanout": fanout.run}


def main() -> None:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the hub costs.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"{' or '.join(BENCHMARKS)}; all if none is given")
    parser.add_argument("--rounds", type=int, default=5, help="how often each measurement is taken (default: 5)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    for name in arguments.names or BENCHMARKS:
        print(asyncio.run(BENCHMARKS[name](arguments.rounds)), end="\n\n", flush=True)


main()
