"""Patterns of channel names, such as `room:{room}`."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ("ChannelPattern",)

_TOKEN = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}|([^{}]+)")


class ChannelPattern:
    """A channel name with `{parameters}`; each stands for one or more characters except `:`.

    Args:
        pattern: For example `room:{room}` or `game:{game}:{team}`.

    Raises:
        ValueError: The pattern is empty, begins with `$`, has a brace without its partner, a parameter that is not an
            identifier, the same parameter twice, or two parameters without `:` between them.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._literals, self.parameters = _parse(pattern)
        self._regex = re.compile("([^:]+)".join(map(re.escape, self._literals)), re.DOTALL)

    def __repr__(self) -> str:
        return f"ChannelPattern({self.pattern!r})"

    def matches(self, name: str) -> bool:
        """Return whether `name` is one of this pattern's channels."""
        return self._regex.fullmatch(name) is not None

    def parameters_of(self, name: str) -> dict[str, str] | None:
        """Return what the parameters stand for in `name`, or `None` if it is not one of this pattern's channels."""
        match = self._regex.fullmatch(name)
        return None if match is None else dict(zip(self.parameters, match.groups(), strict=True))

    def name(self, parameters: dict[str, object]) -> str:
        """Return the channel of these parameters.

        Raises:
            TypeError: A parameter is missing or unknown.
            ValueError: A parameter is empty or contains `:`.
        """
        if parameters.keys() != set(self.parameters):
            raise TypeError(f"channel {self.pattern!r} takes {self.parameters}, not {tuple(parameters)}")
        values = [str(parameters[parameter]) for parameter in self.parameters]
        for parameter, value in zip(self.parameters, values, strict=True):
            if not value or ":" in value:
                raise ValueError(f"channel {self.pattern!r}: {parameter}={value!r} must be non-empty and without ':'")
        return self._literals[0] + "".join(
            value + literal for value, literal in zip(values, self._literals[1:], strict=True)
        )

    def overlaps(self, other: ChannelPattern) -> bool:
        """Return whether some name belongs to both patterns."""
        return _intersect(self._symbols(), other._symbols())

    def _symbols(self) -> tuple[str, ...]:
        """The pattern as characters, with a parameter as one `{` (any character) and one `}` (any number more)."""
        symbols = list(self._literals[0])
        for literal in self._literals[1:]:
            symbols += ["{", "}", *literal]
        return tuple(symbols)


def _parse(pattern: str) -> tuple[list[str], tuple[str, ...]]:
    if not pattern or pattern.startswith("$"):
        raise ValueError(f"channel pattern {pattern!r}: it must be non-empty and not begin with '$', which is reserved")
    tokens = list(_TOKEN.finditer(pattern))
    if "".join(token.group() for token in tokens) != pattern:
        raise ValueError(f"channel pattern {pattern!r}: write each parameter as {{name}}, an identifier in braces")
    literals, parameters = [""], list[str]()
    for token in tokens:
        if token.group(1) is None:
            literals[-1] += token.group()
            continue
        if parameters and ":" not in literals[-1]:
            # Or different parameters could give one channel: {a}-{b} of ("x-y", "z") and of ("x", "y-z").
            raise ValueError(f"channel pattern {pattern!r}: put ':' between two parameters")
        parameters.append(token.group(1))
        literals.append("")
    if len(set(parameters)) != len(parameters):
        raise ValueError(f"channel pattern {pattern!r}: a parameter appears twice")
    return literals, tuple(parameters)


def _intersect(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Return whether two symbol sequences match a common string: walk both at once, from place to place."""
    places = [(0, 0)]
    seen = set(places)
    while places:
        place = places.pop()
        if place == (len(left), len(right)):
            return True
        ahead = set(_steps(left, right, *place)) - seen
        seen |= ahead
        places += ahead
    return False


def _steps(left: tuple[str, ...], right: tuple[str, ...], i: int, j: int) -> Iterator[tuple[int, int]]:
    a = left[i] if i < len(left) else None
    b = right[j] if j < len(right) else None
    # "}" stands for any number of characters: it ends here, or takes what the other side has.
    if a == "}":
        yield i + 1, j
        if b not in (None, ":", "}"):
            yield i, j + 1
    if b == "}":
        yield i, j + 1
        if a not in (None, ":", "}"):
            yield i + 1, j
    if a is None or b is None or "}" in (a, b):
        return
    if a == b or ("{" in (a, b) and ":" not in (a, b)):
        yield i + 1, j + 1
