"""Frames as a server sends them: header, opcodes, close payload (RFC 6455 section 5)."""

from __future__ import annotations

import enum
import struct

__all__ = (
    "CLOSE_CODES",
    "COMPRESSED",
    "CONTROL_BYTES",
    "REASON_BYTES",
    "Opcode",
    "close_payload",
    "frame",
    "header",
    "shortened",
)

CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""Close codes that may stand in a frame (section 7.4, and the IANA registry for 1012 to 1014)."""
CONTROL_BYTES = 125
"""Payload of a control frame at most (section 5.5)."""
REASON_BYTES = CONTROL_BYTES - 2
"""A close reason at most, beside the code (section 5.5.1)."""
COMPRESSED = 0x40
"""The bit RSV1, which marks a compressed message (RFC 7692 section 6)."""
_FIN = 0x80
_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack


class Opcode(enum.IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


def header(opcode: int, size: int, bits: int = 0) -> bytes:
    """Return the header of an unmasked final frame.

    Args:
        opcode: What the frame is.
        size: Bytes of its payload.
        bits: `COMPRESSED`, or 0.
    """
    first = _FIN | bits | opcode
    if size < 126:
        return _SHORT(first, size)
    if size < 65_536:
        return _MEDIUM(first, 126, size)
    return _LONG(first, 127, size)


def frame(opcode: int, payload: bytes, bits: int = 0) -> bytes:
    """Return an unmasked final frame: see `header`."""
    return header(opcode, len(payload), bits) + payload


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame (section 5.5.1); a reason that is too long is cut between characters."""
    return code.to_bytes(2, "big") + shortened(reason).encode()


def shortened(reason: str) -> str:
    """Return as much of a close reason as fits, cut between characters."""
    return reason.encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")
