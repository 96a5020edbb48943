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
_WINDOW_BITS = range(8, 16)
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
        if offer.name == _NAME and (bits := _server_window(offer)) is not None:
            window = "" if bits == 15 else f"; server_max_window_bits={bits}"
            return f"{_NAME}; {'; '.join(_FLAGS)}{window}".encode(), bits
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
    """Decompresses the messages of one client; holds memory only while a message is under way."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def inflate(self, data: bytes, room: int | None, final: bool) -> bytes:
        """Return what the next part of a message decompresses to (section 7.2.2).

        Args:
            data: The part.
            room: Bytes that it may decompress to; `None` for any number.
            final: Whether the message ends with it.

        Raises:
            Fault: It is more than `room` (1009), without the memory having been taken, or no deflate data (1002).
        """
        if self._inflate is None:
            self._inflate = zlib.decompressobj(-15)
        # zlib takes 0 for no limit, so one byte more than there is room for is asked for, and is a fault when it comes.
        limit = 0 if room is None else room + 1
        try:
            inflated = self._inflate.decompress(data + _TAIL if final else data, limit)
        except zlib.error:
            raise Fault(CloseCode.PROTOCOL_ERROR, "not deflate data") from None
        if room is not None and len(inflated) > room:
            raise Fault(CloseCode.MESSAGE_TOO_BIG, "message_bytes")
        if final:
            self._inflate = None
        return inflated


def _server_window(offer: ExtensionOffer) -> int | None:
    """Return the server's window bits under an offer, or `None` if the offer is not to be accepted."""
    names = [name for name, _ in offer.parameters]
    if len(set(names)) != len(names):
        return None
    server_bits = 15
    for name, value in offer.parameters:
        if name in _FLAGS:
            if value is not None:
                return None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value is None and name == "client_max_window_bits":
                continue
            if value is None or not value.isdecimal() or value != str(int(value)) or int(value) not in _WINDOW_BITS:
                return None
            if name == "server_max_window_bits":
                server_bits = int(value)
        else:
            return None
    return None if server_bits == 8 else server_bits
