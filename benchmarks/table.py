"""Results as text."""

from collections.abc import Sequence


def number(value: float) -> str:
    """Return a number with as many decimals as it is worth."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.2f}"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Return a title and aligned columns, the first one of names."""
    lines = [head, *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([title, *(_line(line, widths) for line in lines)])


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = (
        cell.ljust(width) if not index else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(("", name, *numbers))
