"""Figures: read from the load generator, and put together."""

import re
from collections.abc import Mapping, Sequence
from statistics import median

Figures = Mapping[str, float]


def parse(line: str) -> dict[str, float]:
    """Return the figures of a line of `key=value`."""
    return {key: float(value) for key, value in re.findall(r"(\w+)=(-?\d+(?:\.\d+)?)(?!\S)", line)}


def fault_in(figures: Figures) -> str | None:
    """Return what has gone wrong in a run, or `None`: figures of fewer clients than there should be are not shown."""
    opened, lost = int(figures["ready"]), int(figures["dead"])
    if lost:
        return f"{lost:,} of {opened + lost:,} connections were refused or lost at once"
    if alive := opened - int(figures["alive"]):
        return f"{alive:,} of {opened:,} connections were lost under load"
    return None


def medians(runs: Sequence[Figures]) -> dict[str, float]:
    """Return the median of each figure that all runs have."""
    common = set.intersection(*(set(run) for run in runs))
    return {key: median(run[key] for run in runs) for key in runs[0] if key in common}


def ratio(value: float, base: float | None) -> float | None:
    """Return how many times the base a value is, or `None` without one."""
    return value / base if base else None
