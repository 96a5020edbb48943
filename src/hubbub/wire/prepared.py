"""A message that is encoded once, however many connections hear it.

What a connection writes depends on what was negotiated with its peer, but for one `Encoding` it is the same for all. So
a fan-out asks the encoding once and hands the same object to everyone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..model import Data
from .deflate import compress
from .frames import COMPRESSED, Opcode, frame, header

__all__ = ("Encoding", "PreparedFrame", "deflated", "payload_size", "plain")

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
_SMALLEST_COMPRESSED = 64
"""Payloads below this are sent as they are: deflate makes them hardly smaller."""


def payload_size(data: Data) -> int:
    """Return the bytes that `data` takes on the wire without its header: for text those of its UTF-8 form.

    Raises:
        UnicodeEncodeError: The text has a lone surrogate, which UTF-8 cannot say (RFC 3629 section 3).
    """
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())


class PreparedFrame:
    """One message with its size on the wire, and its frames, each built at most once.

    Args:
        data: `str` for a text message, `bytes` for a binary one.
        size: Bytes of the payload, where the caller knows them already.

    Raises:
        UnicodeEncodeError: The text cannot be encoded as UTF-8.
    """

    __slots__ = ("_deflated", "_plain", "data", "size")

    def __init__(self, data: Data, size: int | None = None) -> None:
        self.data = data
        self.size = payload_size(data) if size is None else size
        self._plain: bytes | None = None
        self._deflated: dict[int, bytes] | None = None

    @property
    def plain(self) -> bytes:
        """The message as one frame."""
        if self._plain is None:
            data = self.data
            if isinstance(data, str):
                self._plain = header(_TEXT, self.size) + data.encode()
            else:
                self._plain = header(_BINARY, self.size) + data
        return self._plain

    def deflated(self, window_bits: int) -> bytes:
        """Return the message as one frame, compressed on its own; as it is where that makes it no smaller.

        Args:
            window_bits: What was negotiated (see `wire.deflate.negotiate`).
        """
        if self.size < _SMALLEST_COMPRESSED:
            return self.plain
        if self._deflated is None:
            self._deflated = {}
        if window_bits not in self._deflated:
            data = self.data
            opcode, payload = (_TEXT, data.encode()) if isinstance(data, str) else (_BINARY, data)
            compressed = frame(opcode, compress(payload, window_bits), COMPRESSED)
            self._deflated[window_bits] = compressed if len(compressed) < len(self.plain) else self.plain
        return self._deflated[window_bits]


Encoding = Callable[[tuple[PreparedFrame, ...]], bytes]
"""Makes of messages what transports of one kind write. The same function stands for the same outcome."""


def plain(frames: tuple[PreparedFrame, ...]) -> bytes:
    """Return the frames of the messages, joined."""
    return frames[0].plain if len(frames) == 1 else b"".join([frame.plain for frame in frames])


@cache
def deflated(window_bits: int) -> Encoding:
    """Return the encoding of connections that have negotiated permessage-deflate with so many window bits."""

    def encode(frames: tuple[PreparedFrame, ...]) -> bytes:
        return b"".join([frame.deflated(window_bits) for frame in frames])

    return encode
