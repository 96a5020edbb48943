"""Comparisons as text: a table for each workload, and one of all, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from .comparison import FIRST, Comparison, Result
from .contestants import BASES
from .figures import Figures, ratio
from .table import markdown, number, table
from .workloads import Column

SUBJECT = "hubbub"
"""The server whose ratios end the table of all workloads."""


def workload_table(comparison: Comparison, rounds: int) -> str:
    """Return the table of one workload, and below it what has failed."""
    workload = comparison.workload
    title = f"{workload.name}: {workload.title}; medians of {rounds} rounds"
    good = [result for result in comparison.results if result.figures is not None]
    if not good:
        return "\n".join([title, *_failures(comparison.results)])
    names = _ratio_names(comparison, good)
    head = ["", *(name for column in workload.columns for name in _heads(column, names))]
    rows = [[result.label, *_cells(comparison, result, names)] for result in good]
    return "\n".join([table(title, head, rows), *_failures(comparison.results)])


def _ratio_names(comparison: Comparison, results: Iterable[Result]) -> list[str]:
    """Return the bases that there are figures of."""
    bases = [comparison.bases(result) for result in results]
    return [name for name in bases[0] if any(base[name] is not None for base in bases)]


def _heads(column: Column, names: Sequence[str]) -> list[str]:
    return [column.head, *(f"× {name}" for name in names if column.has_ratio)]


def _cells(comparison: Comparison, result: Result, names: Sequence[str]) -> list[str]:
    figures, bases = result.figures or {}, comparison.bases(result)
    cells = []
    for column in comparison.workload.columns:
        cells.append(_text(column, figures))
        if column.has_ratio:
            cells += [_ratio_text(column, figures, bases[name]) for name in names]
    return cells


def _text(column: Column, figures: Figures) -> str:
    return column.text(figures[column.figure] * column.scale) if column.figure in figures else "–"


def _ratio_text(column: Column, figures: Figures, base: Figures | None) -> str:
    value = ratio(figures[column.figure], base.get(column.figure) if base else None)
    return "–" if value is None else number(value)


def _failures(results: Iterable[Result]) -> list[str]:
    return [f"  {result.label}: no figures, {result.failure}" for result in results if result.failure]


def summary(comparisons: Sequence[Comparison]) -> str:
    """Return one table: a row for each workload, a column for each server, and the ratios of Hubbub."""
    contestants = {result.contestant.name: result.contestant for each in comparisons for result in each.results}
    labels = list(dict.fromkeys(contestant.label for contestant in contestants.values()))
    bases = [label for name, label in BASES.items() if name in contestants and SUBJECT in contestants]
    head = ["work", *labels, *(f"{contestants[SUBJECT].label} × {base}" for base in bases)]
    return markdown(head, [_summary_row(comparison, labels, bases) for comparison in comparisons])


def _summary_row(comparison: Comparison, labels: Iterable[str], bases: Iterable[str]) -> list[str]:
    workload = comparison.workload
    good = [result for result in comparison.results if result.figures is not None]
    values = [
        {each.endpoint.how: _summary_text(comparison, each) for each in good if each.contestant.label == label}
        for label in labels
    ]
    subjects = [each for each in good if each.contestant.name == SUBJECT and not workload.compares_endpoints]
    ratios = [{each.endpoint.how: _summary_ratio(comparison, each, base) for each in subjects} for base in bases]
    return [f"{workload.title}: {workload.unit}", *map(_joined, values), *map(_joined, ratios)]


def _summary_text(comparison: Comparison, result: Result) -> str:
    figures, workload = result.figures or {}, comparison.workload
    text = " / ".join(_text(column, figures) for column in workload.summary)
    if not workload.compares_endpoints or comparison.bases(result)[FIRST] == figures:
        return text
    return f"{text} (× {_summary_ratio(comparison, result, FIRST)})"


def _summary_ratio(comparison: Comparison, result: Result, base: str) -> str:
    return _ratio_text(comparison.workload.summary[0], result.figures or {}, comparison.bases(result)[base])


def _joined(values: Mapping[str, str]) -> str:
    """Return one value as it is, several each with what it belongs to."""
    return ", ".join(f"{value} {how}".rstrip() for how, value in values.items()) or "–"
