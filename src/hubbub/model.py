"""Values that every layer shares: close codes and the names of policies."""

from __future__ import annotations

import enum
from typing import Literal

__all__ = ("CloseCode", "Data", "OnInvalid", "OutboxPolicy")

Data = str | bytes
"""What one WebSocket message carries: `str` for a text message, `bytes` for a binary one."""

OutboxPolicy = Literal["disconnect", "drop_oldest", "drop_newest", "latest"]
OnInvalid = Literal["reply", "close", "raise"]


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
