"""Values that every layer shares: positions, close codes and the names of policies."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ("CloseCode", "Data", "Joined", "OnInvalid", "OutboxPolicy", "Position", "is_epoch")

Data = str | bytes
"""What one WebSocket message carries: `str` for a text message, `bytes` for a binary one."""

OutboxPolicy = Literal["disconnect", "drop_oldest", "drop_newest", "latest"]
OnInvalid = Literal["reply", "close", "raise"]

_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OFFSET = re.compile(r"0|[1-9][0-9]{0,18}")
_LARGEST_OFFSET = 2**63 - 1


def is_epoch(text: str) -> bool:
    """Return whether a text can be an epoch: 1 to 64 of `A–Z a–z 0–9 _ -`."""
    return _EPOCH.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel's history: that of its last publication, or of the last one that somebody has received.

    Offsets of two epochs have nothing to do with each other: a new epoch says that the history has begun anew.

    Args:
        epoch: The name of the life of this history, from 1 to 64 of `A–Z a–z 0–9 _ -`.
        offset: How many publications there were in it; 0 is the beginning.

    Raises:
        ValueError: One of them is not that.
    """

    epoch: str
    offset: int

    def __post_init__(self) -> None:
        if not isinstance(self.epoch, str) or not is_epoch(self.epoch):
            raise ValueError(f"epoch {self.epoch!r}: give 1 to 64 of A–Z a–z 0–9 _ -")
        if isinstance(self.offset, bool) or not isinstance(self.offset, int):
            raise ValueError(f"offset {self.offset!r}: give a whole number")
        if not 0 <= self.offset <= _LARGEST_OFFSET:
            raise ValueError(f"offset {self.offset!r}: give a number from 0 to {_LARGEST_OFFSET}")

    def __str__(self) -> str:
        """The form `epoch:offset`, for a query string, a cookie or `Last-Event-ID`."""
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position that `str(position)` has written.

        Raises:
            ValueError: It has another form.
        """
        epoch, colon, offset = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not colon or not is_epoch(epoch) or not _OFFSET.fullmatch(offset):
            raise ValueError(f"position {text!r:.100}: give what str(position) has made, epoch:offset")
        return cls(epoch, int(offset))


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join has come to.

    Args:
        recovered: Whether the client has all that was published since the position that it gave; without one it has.
        missed: How many publications that took; 0 where it is not recovered: nothing is sent in part.
        position: The position from which on it hears what is live, or `None` for a channel without history.
    """

    recovered: bool
    missed: int
    position: Position | None


class CloseCode(enum.IntEnum):
    """The close codes that Hubbub sends (RFC 6455 section 7.4; 3000–3999 are for libraries)."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    SLOW = 3008
    DISCONNECTED = 3503
