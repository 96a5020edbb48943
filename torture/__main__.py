"""`python -m torture [--seed 1] [--publications 200000] [--faults 34] …`, which fails if anything is wrong."""

import argparse
import sys
from dataclasses import fields

import uvloop

from .plan import Kind, Plan
from .report import summary
from .run import torture

HELP = {
    "seed": "what the faults come from",
    "publications": "how many at least, in all",
    "faults": "how many",
    "workers": "processes that serve, each behind a proxy of its own to Redis",
    "clients": "WebSocket connections",
    "channels": "channels, each with a publisher",
    "rate": "publications a second, in all",
    "pause": "seconds from a recovery to the next fault, at most",
    "history": "publications that a channel keeps",
}


def arguments() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description="Publish numbers, let workers, Redis and the network fail, and see whether clients get each number "
        "once and in order, or are told that they do not.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for field in fields(Plan):
        if field.name in HELP:
            parser.add_argument(
                f"--{field.name}", type=type(field.default), default=field.default, help=HELP[field.name]
            )
    names = [kind.name.lower().replace("_", "-") for kind in Kind]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, metavar="KIND", help=f"{', '.join(names)}")
    given = vars(parser.parse_args())
    kinds = [Kind[name.upper().replace("-", "_")] for name in given.pop("kinds")]
    try:
        return Plan(kinds=kinds, **given)
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    """Run it."""
    plan = arguments()
    say(
        f"Seed {plan.seed}: {plan.publications:,} publications, {plan.clients} clients, {plan.workers} workers; faults:"
    )
    for number, fault in enumerate(plan.schedule(), 1):
        say(f"{number:5}  {fault}, {fault.pause_s:g} s after the one before")
    say("")
    try:
        outcome = uvloop.run(torture(plan, say))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    say("\n" + summary(outcome))
    sys.exit(not outcome.is_good)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
