"""What a run has come to, in words."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from .plan import Kind
from .run import Outcome


def summary(outcome: Outcome) -> str:
    """Return the figures."""
    tally = outcome.tally
    lines = [
        f"published    {outcome.published:12,}  in {outcome.seconds:.0f} s, with {len(outcome.recoveries)} faults;"
        f" not acknowledged at once: {_listed(outcome.answers) or 'none'}",
        f"delivered    {tally.delivered:12,}  over {outcome.connections:,} connections",
        f"lost         {tally.lost:12,}",
        f"duplicated   {tally.duplicated:12,}",
        f"reordered    {tally.reordered:12,}",
        f"contradicted {tally.contradicted:12,}  positions that do not follow the one before",
        f"declared     {tally.declared:12,}  times recovered=False after a start of Redis: {tally.missed:,}"
        f" publications missed, {tally.repeated:,} published again",
        f"undue        {tally.undue:12,}  times recovered=False though nothing was lost",
        "",
        *_recoveries(outcome),
    ]
    if tally.complaints:
        lines += ["", "What is wrong, at first:", *(f"  {text}" for text in tally.complaints)]
    if outcome.tracebacks:
        lines += ["", f"{len(outcome.tracebacks)} tracebacks of workers, the first of them:", outcome.tracebacks[0]]
    return "\n".join([*lines, "", "PASSED" if outcome.is_good else "FAILED"])


def _listed(answers: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {answer}" for answer, count in sorted(answers.items()))


def _recoveries(outcome: Outcome) -> list[str]:
    """Return a table of the seconds from the end of a fault until all clients have what was published after it."""
    of_kind: defaultdict[Kind, list[float | None]] = defaultdict(list)
    for recovery in outcome.recoveries:
        of_kind[recovery.fault.kind].append(recovery.seconds)
    lines = [f"{'seconds to recover after':50} {'times':>5} {'median':>7} {'most':>7}"] if of_kind else []
    for kind, all_seconds in of_kind.items():
        seconds = [value if value is not None else float("inf") for value in all_seconds]
        lines.append(f"{kind.value:50} {len(seconds):5} {median(seconds):7.2f} {max(seconds):7.2f}")
    return lines
