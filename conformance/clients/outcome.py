"""How a conversation went, and all of them as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

Results = dict[str, str | None]
"""What each step has ended with: `None`, or what is wrong."""

_HEAD = ("client", "TLS", "deflate", "outcome")


class Unavailable(Exception):
    """A client cannot be run here; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one client's conversation with one server went.

    Args:
        client: The client, with its version.
        tls: Whether it was over TLS.
        deflate: Whether the server had compression on.
        results: Its steps.
        failure: Why there are no steps, if there are none.
    """

    client: str
    tls: bool
    deflate: bool
    results: Results
    failure: str = ""

    @property
    def has_passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.failure and bool(self.results) and not any(self.results.values())

    @property
    def summary(self) -> str:
        """The outcome in a line, or in one for each step that failed."""
        wrong = [f"{step}: {text}" for step, text in self.results.items() if text]
        return self.failure or "; ".join(wrong) or f"passed {len(self.results)} steps"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a table of all outcomes."""
    words = ("no", "yes")
    rows = [(each.client, words[each.tls], words[each.deflate], each.summary) for each in outcomes]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (_HEAD, *rows))
    return "\n".join(line.rstrip() for line in lines)
