"""A message that is encoded once, however many connections hear it."""

from __future__ import annotations

from ..model import Data

__all__ = ("PreparedFrame", "payload_size")


def payload_size(data: Data) -> int:
    """Return the bytes that `data` takes on the wire without its header: for text those of its UTF-8 form.

    Raises:
        UnicodeEncodeError: The text has a lone surrogate, which UTF-8 cannot say (RFC 3629 section 3).
    """
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())


class PreparedFrame:
    """One message's payload with its size on the wire.

    Args:
        data: `str` for a text message, `bytes` for a binary one.
        size: Bytes of the payload, where the caller knows them already.

    Raises:
        UnicodeEncodeError: The text cannot be encoded as UTF-8.
    """

    __slots__ = ("data", "size")

    def __init__(self, data: Data, size: int | None = None) -> None:
        self.data = data
        self.size = payload_size(data) if size is None else size
