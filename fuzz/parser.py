"""Target: whatever a client sends, however it is split, ends in events, in a close code, or in nothing.

An input is four bytes of settings (`Settings`) and what the client sends: a stream as it is, or frames of which the
input has the first byte, the size in one byte and the payload, and which are masked here. Changes to a frame's payload
leave the frames behind it in place then. The size 255 makes the first frame a large one, which repeats its payload.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["hubbub"]):
    from hubbub.wire.deflate import Inflater
    from hubbub.wire.mask import mask
    from hubbub.wire.parser import Closed, Event, Parser

LIMITS = (None, 0, 1, 50, 125, 126, 1_000, 65_536)
COMPRESSED, FRAMED, FEW_AT_ONCE = 0x10, 0x20, 0x40
LARGE_BYTES = 65_536
MOST_SINGLE_BYTES = 1_024
MOST_PARTS = 100
KEY = bytes.fromhex("37fa213d")
HEADER_BYTES = 14
CONTROL_BYTES = 125
AFTERWARDS = bytes.fromhex("818037fa213d ffff 818037fa213d")


class Settings(NamedTuple):
    """How the input is to be parsed: its first four bytes.

    Args:
        flags: An index of `LIMITS`, `COMPRESSED`, `FRAMED` and `FEW_AT_ONCE`.
        max_fragments: Frames of a message; 0 for any number.
        odd: The size of the first part and every second one after it, less 1.
        even: The size of the others, less 1; what is left after `MOST_PARTS` comes at once.
    """

    flags: int
    max_fragments: int
    odd: int
    even: int

    @property
    def max_bytes(self) -> int | None:
        return LIMITS[self.flags % len(LIMITS)]

    def parser(self) -> Parser:
        return Parser(
            max_bytes=self.max_bytes,
            max_fragments=self.max_fragments or None,
            inflater=Inflater() if self.flags & COMPRESSED else None,
            frames_at_once=2 if self.flags & FEW_AT_ONCE else None,
        )

    def parts(self, stream: bytes) -> Iterator[bytes]:
        start = 0
        for size in itertools.islice(itertools.cycle((self.odd + 1, self.even + 1)), MOST_PARTS):
            yield stream[start : start + size]
            start += size
        yield stream[start:]


class Outcome(NamedTuple):
    """What has come of a stream."""

    events: list[Event]
    code: int | None
    reason: str
    is_idle: bool


def check(data: bytes) -> None:
    """Parse the input whole, frame by frame, in parts and byte by byte: any exception is a finding."""
    if len(data) < 4:
        return
    settings = Settings(*data[:4])
    frames = list(_frames(data[4:])) if settings.flags & FRAMED else [data[4:]]
    stream = b"".join(frames)
    whole = _parse(settings, [stream])
    _compare(settings, whole, _parse(settings, frames))
    _compare(settings, whole, _parse(settings, settings.parts(stream)))
    if len(stream) <= MOST_SINGLE_BYTES:
        _compare(settings, whole, _parse(settings, (stream[index : index + 1] for index in range(len(stream)))))


def _frames(data: bytes) -> Iterator[bytes]:
    may_be_large = True
    while len(data) >= 2:
        first, size = data[0], data[1]
        payload, data = data[2 : 2 + size], data[2 + size :]
        if size == 255 and may_be_large:
            payload = (payload * LARGE_BYTES)[:LARGE_BYTES]
            size = LARGE_BYTES
        may_be_large = False
        yield bytes((first,)) + _length(size) + KEY + mask(payload, KEY)


def _length(size: int) -> bytes:
    if size < 126:
        return bytes((0x80 | size,))
    return b"\xfe" + size.to_bytes(2, "big") if size < LARGE_BYTES else b"\xff" + size.to_bytes(8, "big")


def _parse(settings: Settings, parts: Iterable[bytes]) -> Outcome:
    parser = settings.parser()
    events: list[Event] = []
    for part in parts:
        has_ended = _has_ended(parser, events)
        new = parser.feed(part)
        while parser.has_more:
            new += parser.feed(b"")
        assert not (has_ended and new), f"{new} after the end"
        events += new
        _check_memory(parser, settings.max_bytes)
    _check_end(parser, events)
    for event in events:
        _check_size(event, settings.max_bytes)
    if parser.fault is None:
        return Outcome(events, None, "", parser.is_idle)
    return Outcome(events, parser.fault.code, parser.fault.reason, False)


def _has_ended(parser: Parser, events: list[Event]) -> bool:
    return parser.fault is not None or bool(events and isinstance(events[-1], Closed))


def _check_memory(parser: Parser, max_bytes: int | None) -> None:
    """What is kept between two parts is an incomplete header, a control frame and an unfinished message."""
    assert len(parser._buffer) < HEADER_BYTES, f"{len(parser._buffer)} bytes of a header"
    assert len(parser._control) <= CONTROL_BYTES, f"{len(parser._control)} bytes of a control frame"
    if parser._message is not None and max_bytes is not None:
        assert len(parser._message.data) <= max_bytes, f"{len(parser._message.data)} bytes of a message"


def _check_end(parser: Parser, events: list[Event]) -> None:
    """After a fault and after a close frame everything is ignored, and nothing is kept."""
    assert not any(isinstance(event, Closed) for event in events[:-1]), "an event after the close frame"
    if not _has_ended(parser, events):
        return
    fault = parser.fault
    assert fault is None or fault.code in (1002, 1007, 1008, 1009), f"fault {fault.code}"
    assert parser.feed(AFTERWARDS) == [], "events after the end"
    assert parser.fault is fault, "another fault after the end"
    assert not parser._buffer, "bytes kept after the end"
    assert parser._message is None, "a message kept after the end"
    assert parser._inflater is None, "an inflater kept after the end"


def _check_size(event: Event, max_bytes: int | None) -> None:
    if isinstance(event, str | bytes):
        size = len(event.encode() if isinstance(event, str) else event)
        assert max_bytes is None or size <= max_bytes, f"a message of {size} bytes, {max_bytes} are allowed"
    else:
        assert len(event[-1]) <= CONTROL_BYTES, f"{event} is too long"


def _compare(settings: Settings, whole: Outcome, split: Outcome) -> None:
    """Of two faults in one compressed frame, the first to be seen depends on what has come of it: codes may differ."""
    assert whole.events == split.events, f"{whole} is split into {split}"
    assert (whole.code is None) == (split.code is None), f"{whole} is split into {split}"
    assert whole.is_idle == split.is_idle, f"{whole} is split into {split}"
    assert settings.flags & COMPRESSED or whole == split, f"{whole} is split into {split}"


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
