"""Patterns: what they refuse, the names they give, and which of them could give the same name."""

import functools
import itertools

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from hubbub.state.pattern import ChannelPattern

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

ALPHABET = "ab:"


@functools.cache
def all_names(longest: int) -> tuple[str, ...]:
    """Return every name over the small alphabet up to a length."""
    return tuple(
        "".join(characters)
        for length in range(1, longest + 1)
        for characters in itertools.product(ALPHABET, repeat=length)
    )


def pattern_of(pieces: list[str]) -> str:
    """Join literal pieces with parameters between them."""
    return pieces[0] + "".join(f"{{p{index}}}{piece}" for index, piece in enumerate(pieces[1:]))


def patterns(longest_literal: int, most_parameters: int) -> st.SearchStrategy[ChannelPattern]:
    """Return patterns over the small alphabet; between two parameters there is always a `:`."""
    literal = st.text(ALPHABET, max_size=longest_literal)
    between = st.text(ALPHABET, min_size=1, max_size=longest_literal).map(
        lambda text: text if ":" in text else text + ":"
    )
    pieces = st.one_of(
        st.tuples(st.text(ALPHABET, min_size=1, max_size=longest_literal)),
        *(st.tuples(literal, *[between] * (parameters - 1), literal) for parameters in range(1, most_parameters + 1)),
    )
    return pieces.map(list).map(pattern_of).map(ChannelPattern)


SMALL = patterns(longest_literal=2, most_parameters=2)
LARGER = patterns(longest_literal=6, most_parameters=4)
VALUES = st.text(st.characters(exclude_characters=":"), min_size=1)


def parses(pattern: str) -> bool:
    try:
        ChannelPattern(pattern)
    except ValueError:
        return False
    return True


# What is a pattern


@pytest.mark.parametrize(
    ("pattern", "parameters"),
    [
        ("lobby", ()),
        ("{room}", ("room",)),
        ("room:{room}", ("room",)),
        ("game:{game}:{team}", ("game", "team")),
        ("{a}-:{b}", ("a", "b")),
        ("{_x1}:é{Y}", ("_x1", "Y")),
        ("a$", ()),
    ],
)
def test_a_pattern_names_its_parameters_in_order(pattern: str, parameters: tuple[str, ...]) -> None:
    assert ChannelPattern(pattern).parameters == parameters
    assert ChannelPattern(pattern).pattern == pattern
    assert repr(ChannelPattern(pattern)) == f"ChannelPattern({pattern!r})"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "must be non-empty"),
        ("$all", "reserved"),
        ("$user:{user}", "reserved"),
        ("room:{", "identifier in braces"),
        ("room:}", "identifier in braces"),
        ("room:{room", "identifier in braces"),
        ("room:room}", "identifier in braces"),
        ("room:{}", "identifier in braces"),
        ("room:{1}", "identifier in braces"),
        ("room:{a b}", "identifier in braces"),
        ("room:{a:int}", "identifier in braces"),
        ("room:{{room}}", "identifier in braces"),
        ("room:{a}}", "identifier in braces"),
        ("room:{é}", "identifier in braces"),
        ("{a}{b}", "between two parameters"),
        ("x:{a}{b}:y", "between two parameters"),
        ("{a}:{a}", "twice"),
        ("{a}:{b}:{a}", "twice"),
    ],
)
def test_a_pattern_that_is_none_is_refused_with_the_pattern_and_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        ChannelPattern(pattern)
    assert repr(pattern) in str(refused.value)


@UNTIMED
@given(st.text("ab:{}$_1", max_size=12))
@example("{a}:{a}")
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    if parses(text):
        assert ChannelPattern(text).pattern == text
        assert not text.startswith("$")


# Names


def test_a_name_is_the_pattern_with_its_parameters() -> None:
    pattern = ChannelPattern("game:{game}:{team}")
    assert pattern.name({"team": "red", "game": 7}) == "game:7:red"


@UNTIMED
@given(LARGER, st.data())
def test_a_name_that_a_pattern_gives_is_one_of_its_channels(pattern: ChannelPattern, data: st.DataObject) -> None:
    values: dict[str, object] = {name: data.draw(VALUES) for name in pattern.parameters}
    assert pattern.matches(pattern.name(values))


@UNTIMED
@given(LARGER, st.data())
def test_the_parameters_of_a_name_are_those_that_gave_it(pattern: ChannelPattern, data: st.DataObject) -> None:
    values: dict[str, object] = {name: data.draw(VALUES) for name in pattern.parameters}
    assert pattern.parameters_of(pattern.name(values)) == values


def test_a_name_of_no_parameters_is_told_from_one_of_another_pattern() -> None:
    assert ChannelPattern("lobby").parameters_of("lobby") == {}
    assert ChannelPattern("lobby").parameters_of("lobbies") is None
    assert ChannelPattern("room:{room}").parameters_of("room:1:2") is None


@UNTIMED
@given(st.lists(VALUES, min_size=2, max_size=2), st.lists(VALUES, min_size=2, max_size=2))
def test_different_parameters_between_colons_never_give_the_same_name(left: list[str], right: list[str]) -> None:
    assume(left != right)
    pattern = ChannelPattern("game:{a}:{b}")
    assert pattern.name(dict(zip("ab", left, strict=True))) != pattern.name(dict(zip("ab", right, strict=True)))


@pytest.mark.parametrize("value", ["", ":", "a:b", ":a", "a:"])
def test_a_parameter_that_is_empty_or_has_a_colon_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="team=") as refused:
        ChannelPattern("game:{game}:{team}").name({"game": "chess", "team": value})
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("parameters", [{}, {"romm": 1}, {"room": 1, "more": 2}])
def test_a_missing_or_unknown_parameter_is_a_type_error(parameters: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"'room:\{room\}' takes \('room',\)"):
        ChannelPattern("room:{room}").name(parameters)


@pytest.mark.parametrize(
    ("name", "is_matched"),
    [
        ("room:1", True),
        ("room:1\n", True),
        ("room:\u2028", True),
        ("room:", False),
        ("room:1:2", False),
        ("xroom:1", False),
        ("Room:1", False),
        ("room", False),
        ("", False),
    ],
)
def test_a_parameter_stands_for_one_or_more_characters_except_colons(name: str, is_matched: bool) -> None:
    assert ChannelPattern("room:{room}").matches(name) is is_matched


@pytest.mark.parametrize("literal", [".", "a+", "(x)", "[a]", "^a$", "\\d", "a|b", "*"])
def test_literals_are_no_regular_expressions(literal: str) -> None:
    assert [name for name in ("a", "aa", "x", "5", "b", literal) if ChannelPattern(literal).matches(name)] == [literal]


# Overlaps


@pytest.mark.parametrize(
    ("left", "right", "overlap"),
    [
        ("room:{a}", "room:{b}", True),
        ("room:{a}", "room:lobby", True),
        ("room:{a}", "rooms:{a}", False),
        ("room:{a}", "room:{a}:{b}", False),
        ("{a}", "{b}:{c}", False),
        ("{a}x", "y{b}", True),
        ("a{x}", "{y}a", True),
        ("{a}b", "b", False),
        ("b{a}", "{a}b", True),
        ("ab", "a{x}b", False),
        ("{a}:-{b}", "x:{c}-y", True),
        ("{a}:x", "{b}:y", False),
        ("a", "b", False),
        ("a", "a", True),
    ],
)
def test_patterns_overlap_where_one_name_belongs_to_both(left: str, right: str, overlap: bool) -> None:
    assert ChannelPattern(left).overlaps(ChannelPattern(right)) is overlap


@UNTIMED
@given(SMALL, SMALL)
def test_patterns_overlap_if_trying_all_short_names_finds_a_common_one(
    left: ChannelPattern, right: ChannelPattern
) -> None:
    common = [name for name in all_names(6) if left.matches(name) and right.matches(name)]
    assert left.overlaps(right) or not common


@UNTIMED
@given(LARGER, LARGER)
def test_where_patterns_overlap_there_is_a_name_that_both_match(left: ChannelPattern, right: ChannelPattern) -> None:
    name = witness(left, right)
    assert left.overlaps(right) is (name is not None)
    if name is not None:
        assert left.matches(name)
        assert right.matches(name)


@UNTIMED
@given(LARGER, LARGER, st.data())
def test_a_name_of_one_that_the_other_matches_is_an_overlap(
    left: ChannelPattern, right: ChannelPattern, data: st.DataObject
) -> None:
    name = left.name({parameter: data.draw(st.text("ab", min_size=1)) for parameter in left.parameters})
    if right.matches(name):
        assert left.overlaps(right)


@UNTIMED
@given(LARGER, LARGER)
def test_overlapping_is_mutual_and_a_pattern_overlaps_with_itself(left: ChannelPattern, right: ChannelPattern) -> None:
    assert left.overlaps(right) == right.overlaps(left)
    assert left.overlaps(left)


def test_patterns_of_any_length_are_compared() -> None:
    assert ChannelPattern("a" * 5_000).overlaps(ChannelPattern("{x}"))


def witness(left: ChannelPattern, right: ChannelPattern) -> str | None:
    """Search breadth-first for a name that both match, character by character, as two automata would.

    A state of an automaton is the set of places in the pattern where the name so far may have led: a place is a number
    of symbols behind it and whether a parameter is open there.
    """
    automata = tuple(Automaton(pattern.pattern) for pattern in (left, right))
    start = tuple(automaton.start for automaton in automata)
    seen, queue = {start}, [("", start)]
    for name, places in queue:
        if all(automaton.accepts(place) for automaton, place in zip(automata, places, strict=True)):
            return name
        for character in ALPHABET:
            after = tuple(automaton.step(place, character) for automaton, place in zip(automata, places, strict=True))
            if all(after) and after not in seen:
                seen.add(after)
                queue.append((name + character, after))
    return None


class Automaton:
    """The textbook automaton of a pattern: literals are themselves, a parameter is one or more of anything but ':'."""

    start = frozenset({0})

    def __init__(self, pattern: str) -> None:
        self.symbols: list[str] = []
        while pattern:
            length = pattern.index("}") + 1 if pattern.startswith("{") else 1
            self.symbols.append(pattern[:length])
            pattern = pattern[length:]

    def step(self, places: frozenset[int], character: str) -> frozenset[int]:
        after: set[int] = set()
        for place in places:
            if place < len(self.symbols) and self.takes(self.symbols[place], character):
                after.add(place + 1)
            if place > 0 and len(self.symbols[place - 1]) > 1 and self.takes(self.symbols[place - 1], character):
                after.add(place)
        return frozenset(after)

    def takes(self, symbol: str, character: str) -> bool:
        return character != ":" if len(symbol) > 1 else symbol == character

    def accepts(self, places: frozenset[int]) -> bool:
        return len(self.symbols) in places
