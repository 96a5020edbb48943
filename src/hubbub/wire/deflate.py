"""permessage-deflate without context takeover on either side (RFC 7692).

Each message is compressed on its own. So a broadcast is compressed once for all who hear it, no context is kept for a
connection, and no message says anything about another one (CRIME, BREACH).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from ..model import CloseCode
from .handshake import ExtensionOffer
from .parser import Fault

__all__ = ("Inflater", "compress", "negotiate")

_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
_EMPTY_LAST_BLOCK = b"\x03\x00"
_WINDOWS = {str(bits): bits for bits in range(8, 16)}
_MOST_STREAMS = 64
"""Streams in one message at most; each costs as much as a message does, but an empty one takes two bytes."""
_LEVEL = 6
_MEMORY_LEVEL = 8
_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")


def negotiate(offers: Iterable[ExtensionOffer]) -> tuple[bytes, int] | None:
    """Choose among a client's offers (sections 5.1 and 7.1).

    Args:
        offers: What the client offers, in order.

    Returns:
        The value of the answer's `Sec-WebSocket-Extensions` header and the window bits that the server compresses
        with, or `None` when no offer can be accepted.
    """
    for offer in offers:
        if offer.name == _NAME and _is_acceptable(offer):
            bits = dict(offer.parameters).get("server_max_window_bits")
            # What the client asks for must be in the answer, even if it is what holds anyway (section 7.1.2.1).
            window = "" if bits is None else f"; server_max_window_bits={bits}"
            return f"{_NAME}; {'; '.join(_FLAGS)}{window}".encode(), 15 if bits is None else _WINDOWS[bits]
    return None


def compress(payload: bytes, window_bits: int = 15) -> bytes:
    """Return the payload of a compressed message (section 7.2.1).

    Args:
        payload: What the message says.
        window_bits: What was negotiated; zlib cannot make raw data for 8, which `negotiate` therefore declines.
    """
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -window_bits, _MEMORY_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


class Inflater:
    """Decompresses the messages of one client; holds memory only while a message is under way.

    A block that is marked as the last ends a deflate stream, but not the message: more may follow (section 7.2.1).
    """

    __slots__ = ("_stream", "_streams")

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._streams = 0

    def inflate(self, data: bytes, room: int | None, final: bool) -> bytes:
        """Return what the next part of a message decompresses to (section 7.2.2).

        Args:
            data: The part.
            room: Bytes that it may decompress to; `None` for any number.
            final: Whether the message ends with it.

        Raises:
            Fault: It is more than `room` (1009), without the memory having been taken, or no deflate data (1002), or
                made of very many streams (1008).
        """
        stream = self._stream or self._next_stream()
        inflated = _decompress(stream, data, room)
        while rest := stream.unused_data:
            stream = self._next_stream()
            inflated += _decompress(stream, rest, None if room is None else room - len(inflated))
        if final:
            inflated += _finish(stream, None if room is None else room - len(inflated))
            self._stream, self._streams = None, 0
        return inflated

    def _next_stream(self) -> zlib._Decompress:
        if self._streams == _MOST_STREAMS:
            raise Fault(CloseCode.POLICY_VIOLATION, "too many deflate streams in a message")
        self._streams += 1
        self._stream = zlib.decompressobj(-15)
        return self._stream


def _decompress(stream: zlib._Decompress, data: bytes, room: int | None) -> bytes:
    # zlib takes 0 for no limit, so one byte more than there is room for is asked for, and is a fault when it comes.
    try:
        inflated = stream.decompress(data, 0 if room is None else room + 1)
    except zlib.error:
        raise Fault(CloseCode.PROTOCOL_ERROR, "not deflate data") from None
    if room is not None and len(inflated) > room:
        raise Fault(CloseCode.MESSAGE_TOO_BIG, "message_bytes")
    return inflated


def _finish(stream: zlib._Decompress, room: int | None) -> bytes:
    """Return what comes out with the tail that the sender left out, if nothing else is missing."""
    if stream.eof:
        return b""
    # Only a stream that is between two blocks takes a last one; one that was cut short does not come to its end.
    inflated = _decompress(stream, _TAIL + _EMPTY_LAST_BLOCK, room)
    if not stream.eof or stream.unused_data:
        raise Fault(CloseCode.PROTOCOL_ERROR, "deflate data that is cut short")
    return inflated


def _is_acceptable(offer: ExtensionOffer) -> bool:
    parameters = dict(offer.parameters)
    return len(parameters) == len(offer.parameters) and all(map(_is_valid, parameters, parameters.values()))


def _is_valid(name: str, value: str | None) -> bool:
    """Whether a parameter has a value that it may have, and that zlib can serve."""
    if name in _FLAGS:
        return value is None
    if name == "server_max_window_bits":
        return value in _WINDOWS and value != "8"
    return name == "client_max_window_bits" and (value is None or value in _WINDOWS)
