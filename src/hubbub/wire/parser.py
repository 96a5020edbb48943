"""From bytes to messages, as they come: an incremental parser of what a client sends (RFC 6455 section 5).

Theory of operation. `feed` takes whatever has arrived and returns the events that are complete. Nothing is trusted
before it is checked, and everything is checked as early as its bytes allow: a header before its payload has come, the
size and the number of fragments before memory is taken, UTF-8 in the part of a payload that has arrived. The first
fault ends the parser: `fault` then says which close code the peer has earned, and the events before it still count.

A message that has arrived whole in one frame, as nearly all have, is handled at once (`only`); so is any other frame
that has (`_whole`). One that has not is unmasked and collected in pieces (`_piece`), in one `bytearray` a message, so
that a peer which sends bytes one by one costs no more memory than its bytes.

One `feed` takes only so many frames and inflates only so many bytes, or a peer that sends tiny ones would hold up all
others for as long as 256 KiB of them last: `has_more` then says that the rest is to be asked for.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple, Protocol

from ..model import CloseCode, Data
from .frames import CLOSE_CODES, COMPRESSED, CONTROL_BYTES, Opcode
from .mask import mask

__all__ = ("Closed", "Event", "Fault", "Inflater", "Parser", "Ping", "Pong", "only_message")

_FIN = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_CONTROL = 0x08
_KEY_BYTES = 4
_FINAL_TEXT = _FIN | Opcode.TEXT
_FINAL_BINARY = _FIN | Opcode.BINARY
_KNOWN = frozenset(Opcode)
_INFLATED_AT_ONCE = 262_144
"""Bytes that one `feed` inflates before it leaves the rest to the next one: a few bytes may become very many."""
_UTF8 = codecs.getincrementaldecoder("utf-8")


class Ping(NamedTuple):
    """The peer asks for a pong with this payload (section 5.5.2)."""

    payload: bytes


class Pong(NamedTuple):
    """The peer answers a ping, or just says that it is there (section 5.5.3)."""

    payload: bytes


class Closed(NamedTuple):
    """The peer closes; the code is 1005 where it gave none (section 5.5.1 and 7.1.5)."""

    code: int
    reason: str


Event = Data | Ping | Pong | Closed


class Fault(Exception):
    """The peer broke the protocol or a limit.

    Args:
        code: The close code to answer with.
        reason: Why; for a limit its name.
    """

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code.value}: {reason}")
        self.code = code
        self.reason = reason


class Inflater(Protocol):
    """Decompresses messages, one after the other."""

    def inflate(self, data: bytes, room: int | None, final: bool) -> bytes:
        """Return what `data`, the next part of a message, decompresses to.

        Raises:
            Fault: That would be more than `room` bytes (`None` for any), or `data` is not deflate data.
        """


class _Message:
    """A message that is not complete."""

    __slots__ = ("data", "fragments", "is_compressed", "is_text", "utf8")

    def __init__(self, opcode: int, is_compressed: bool) -> None:
        self.is_text = opcode == Opcode.TEXT
        self.is_compressed = is_compressed
        self.data = bytearray()
        self.fragments = 0
        self.utf8 = _UTF8() if self.is_text else None


def only_message(data: bytes, max_bytes: int | None) -> Data | None:
    """Return the message that `data` is, if it is just one in one frame, and nothing is wrong with it.

    That is how nearly all messages come, and a connection without a message under way needs no parser for it. What this
    does not take is for a `Parser`.

    Args:
        data: What has arrived.
        max_bytes: Size of a message at most; `None` for any.
    """
    size = len(data)
    if size < 2 + _KEY_BYTES:
        return None
    first, length = data[0], data[1] - _MASKED
    if first != _FINAL_TEXT and first != _FINAL_BINARY:
        return None
    start = 2 + _KEY_BYTES
    if length == 126:
        start += 2
        length = data[2] << 8 | data[3]
        if length < 126:
            return None
    elif length == 127:
        return None
    if start + length != size or (max_bytes is not None and length > max_bytes):
        return None
    payload = mask(data[start:], data[start - _KEY_BYTES : start])
    if first == _FINAL_BINARY:
        return payload
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


class Parser:
    """Parses the frames of one client.

    Args:
        max_bytes: Size of a message at most, decompressed; `None` for any.
        max_fragments: Frames of one message at most; `None` for any.
        inflater: Decompresses messages, if that was negotiated.
        frames_at_once: Frames that one `feed` takes at most; `None` for any.

    Attributes:
        fault: Why the parser has stopped, once it has.
        has_more: Whether the last `feed` has left frames for the next one, which may bring no new bytes.
    """

    __slots__ = (
        "_allowed",
        "_buffer",
        "_closed",
        "_control",
        "_first",
        "_frames_at_once",
        "_inflated",
        "_inflater",
        "_key",
        "_left",
        "_max_bytes",
        "_max_fragments",
        "_message",
        "_rests",
        "_taken",
        "fault",
        "has_more",
    )

    def __init__(
        self,
        *,
        max_bytes: int | None = None,
        max_fragments: int | None = None,
        inflater: Inflater | None = None,
        frames_at_once: int | None = None,
    ) -> None:
        self.fault: Fault | None = None
        self.has_more = False
        self._max_bytes = max_bytes
        self._max_fragments = max_fragments
        self._inflater = inflater
        self._inflated = 0
        self._frames_at_once = frames_at_once
        self._allowed = _FIN | _OPCODE | (COMPRESSED if inflater is not None else 0)
        self._buffer = b""
        self._message: _Message | None = None
        # The frame whose payload has come in part
        self._first = 0
        self._key = b""
        self._left = 0
        self._taken = 0
        self._control = b""
        self._closed = False
        self._rests = True

    @property
    def is_idle(self) -> bool:
        """Whether the parser is between messages, with nothing begun."""
        return not self._buffer and not self._left and self._message is None

    def limit(self, max_bytes: int | None, max_fragments: int | None) -> None:
        """Replace the limits, for what has not come yet."""
        self._max_bytes = max_bytes
        self._max_fragments = max_fragments

    def feed(self, data: bytes) -> list[Event]:
        """Take what has arrived and return what it completes.

        After a close frame and after a fault everything is ignored (section 5.5.1).
        """
        events: list[Event] = []
        if self.fault is None and not self._closed:
            self._take(data, events)
            self._rests = self.is_idle and self.fault is None and not self._closed
        return events

    def only(self, data: bytes) -> Data | None:
        """Return the message that has arrived, as `only_message` does, if nothing has come before it."""
        return only_message(data, self._max_bytes) if self._rests else None

    def _take(self, data: bytes, events: list[Event]) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            self._parse(data, events)
        except Fault as fault:
            # Not this one: its traceback, and that of the error behind it, would keep all that was being worked on.
            self.fault = Fault(fault.code, fault.reason)
            self._release()
        except UnicodeDecodeError:
            self.fault = Fault(CloseCode.INVALID_PAYLOAD, "invalid UTF-8")
            self._release()

    def _parse(self, data: bytes, events: list[Event]) -> None:
        position, end = 0, len(data)
        frames = 0
        self.has_more = False
        self._inflated = 0
        while position < end and not self._closed:
            if frames == self._frames_at_once or self._inflated > _INFLATED_AT_ONCE:
                self.has_more = True
                self._buffer = data[position:]
                return
            frames += 1
            if self._left:
                chunk = data[position : position + self._left]
                position += len(chunk)
                self._piece(chunk, events)
                continue
            start = self._header(data, position, end)
            if start is None:
                self._buffer = data[position:]
                return
            if end - start < self._left:
                self._begin()
                position = start
                continue
            position = start + self._left
            payload = mask(data[start:position], self._key)
            self._left = 0
            self._whole(payload, events)

    # A header

    def _header(self, data: bytes, position: int, end: int) -> int | None:
        """Read the header at `position` and return where its payload starts, or `None` if it has not come whole."""
        if end - position < 2:
            return None
        first, second = data[position], data[position + 1]
        self._check_kind(first, second)
        size, start = second & _LENGTH, position + 2
        if size > CONTROL_BYTES:
            width = 2 if size == 126 else 8
            if end - start < width:
                return None
            size = int.from_bytes(data[start : start + width], "big")
            start += width
            if size >> 63 or size < (126 if width == 2 else 65_536):
                raise _broken("a length that is not in its shortest form")
        if not first & _CONTROL:
            self._check_size(first, size)
        if end - start < _KEY_BYTES:
            return None
        self._first, self._left, self._key = first, size, data[start : start + _KEY_BYTES]
        return start + _KEY_BYTES

    def _check_kind(self, first: int, second: int) -> None:
        """Check what the first two bytes say (section 5.2)."""
        opcode = first & _OPCODE
        if not second & _MASKED:
            raise _broken("a frame that is not masked")
        if opcode not in _KNOWN:
            raise _broken("an unknown opcode")
        if first & _RESERVED and (first & ~self._allowed or opcode & _CONTROL or opcode == Opcode.CONTINUATION):
            raise _broken("a reserved bit")
        if opcode & _CONTROL:
            if not first & _FIN or second & _LENGTH > CONTROL_BYTES:
                raise _broken("a control frame that is fragmented or too long")
        elif (opcode == Opcode.CONTINUATION) != (self._message is not None):
            raise _broken("a fragment out of turn")

    def _check_size(self, first: int, size: int) -> None:
        """Check a data frame against the limits before its payload has come."""
        message = self._message
        if message is not None and self._max_fragments is not None and message.fragments >= self._max_fragments:
            raise Fault(CloseCode.POLICY_VIOLATION, "message_fragments")
        if self._max_bytes is None:
            return
        is_compressed = first & COMPRESSED if message is None else message.is_compressed
        most = _most_compressed(self._max_bytes) if is_compressed else self._max_bytes
        if size + (0 if message is None else len(message.data)) > most:
            raise Fault(CloseCode.MESSAGE_TOO_BIG, "message_bytes")

    # A payload

    def _whole(self, payload: bytes, events: list[Event]) -> None:
        """Take a frame that has arrived whole."""
        first = self._first
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            self._take_control(opcode, payload, events)
        elif self._message is None and first & _FIN and not first & COMPRESSED:
            events.append(payload.decode() if opcode == Opcode.TEXT else payload)
        else:
            self._collect(self._open_message(), payload, True, events)

    def _begin(self) -> None:
        """Take note of a frame whose payload has not arrived whole."""
        self._taken = 0
        if self._first & _CONTROL:
            self._control = b""
        else:
            self._open_message()

    def _piece(self, chunk: bytes, events: list[Event]) -> None:
        """Take the next part of a payload."""
        payload = mask(chunk, self._key, self._taken)
        self._taken += len(chunk)
        self._left -= len(chunk)
        if self._message is not None and not self._first & _CONTROL:
            self._collect(self._message, payload, not self._left, events)
            return
        self._control += payload
        if not self._left:
            self._take_control(self._first & _OPCODE, self._control, events)

    def _open_message(self) -> _Message:
        if self._message is None:
            self._message = _Message(self._first & _OPCODE, bool(self._first & COMPRESSED))
        self._message.fragments += 1
        return self._message

    def _collect(self, message: _Message, payload: bytes, ends_frame: bool, events: list[Event]) -> None:
        final = ends_frame and bool(self._first & _FIN)
        if message.is_compressed:
            assert self._inflater is not None
            room = None if self._max_bytes is None else self._max_bytes - len(message.data)
            payload = self._inflater.inflate(payload, room, final)
            self._inflated += len(payload)
        if message.utf8 is not None:
            _check_utf8(message.utf8, payload, final)
        message.data += payload
        if final:
            self._message = None
            events.append(message.data.decode() if message.is_text else bytes(message.data))

    # Control frames

    def _take_control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.PING:
            events.append(Ping(payload))
        elif opcode == Opcode.PONG:
            events.append(Pong(payload))
        else:
            events.append(_closed(payload))
            self._closed = True
            self._release()

    def _release(self) -> None:
        """Let go of what only a parser that goes on needs; zlib holds 40 KB for a message that is under way."""
        self._message = None
        self._inflater = None


def _most_compressed(size: int) -> int:
    """Return how large a message of `size` bytes becomes at most where zlib makes it larger (its `deflateBound`)."""
    return size + (size >> 3) + 64


def _broken(what: str) -> Fault:
    return Fault(CloseCode.PROTOCOL_ERROR, what)


def _check_utf8(decoder: codecs.IncrementalDecoder, payload: bytes, final: bool) -> None:
    decoder.decode(payload, final)
    pending = decoder.getstate()[0]
    # Python waits for the third byte of a surrogate, but the second is wrong already (RFC 3629 section 4).
    if pending[:1] == b"\xed" and pending >= b"\xed\xa0":
        raise Fault(CloseCode.INVALID_PAYLOAD, "invalid UTF-8")


def _closed(payload: bytes) -> Closed:
    if not payload:
        return Closed(CloseCode.NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in CLOSE_CODES:
        raise _broken("a close code that nobody may send")
    return Closed(code, payload[2:].decode())
