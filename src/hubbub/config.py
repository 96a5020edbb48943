"""Configuration: one frozen dataclass for each concern, checked when it is built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import get_args

from .model import OutboxPolicy

__all__ = ("Limits", "Outbox")

_COUNTS = frozenset(
    {
        "connections",
        "connections_per_user",
        "connections_per_address",
        "channels_per_connection",
        "channel_name_bytes",
        "message_bytes",
        "message_burst",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one hub, or one endpoint, takes from its clients. `None` means no limit.

    Args:
        connections: Open connections in total; `None` for a hub means the open-file limit of the process less 64.
        connections_per_user: Open connections of one user.
        connections_per_address: Open connections from one client address.
        channels_per_connection: Channels that one connection may have joined at a time.
        channel_name_bytes: Length of a channel's name in bytes of UTF-8.
        message_bytes: Size of one message from a client in bytes.
        messages_per_s: Messages from one client a second, on average.
        message_burst: Messages that one client may send at once before that average holds.
        first_message_s: Seconds from acceptance to the client's first message.
        idle_s: Seconds that a client may be silent.

    Raises:
        ValueError: A limit is not a positive number, or counts things and is not a whole one.
    """

    connections: int | None = None
    connections_per_user: int | None = None
    connections_per_address: int | None = 1_000
    channels_per_connection: int | None = 128
    channel_name_bytes: int | None = 255
    message_bytes: int | None = 65_536
    messages_per_s: float | None = 100
    message_burst: int = 200
    first_message_s: float | None = None
    idle_s: float | None = None

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None and name != "message_burst":
                continue
            kinds = (int,) if name in _COUNTS else (int, float)
            # The comparison is written so that NaN fails it too.
            if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
                kind = "whole number above 0" if name in _COUNTS else "number above 0"
                none = "" if name == "message_burst" else ", or None for no limit"
                raise ValueError(f"Limits({name}={value!r}): give a {kind}{none}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """What is kept for a client that reads more slowly than it is sent to.

    Args:
        bytes: Bound of one connection's outbox, the queue's own cost for each message included.
        policy: What happens to a publication that does not fit. `disconnect` closes the connection with 3008
            (the default: nobody has a hole without knowing it); `drop_oldest` drops queued publications of the same
            channel; `drop_newest` drops the new one; `latest` keeps only the newest publication of a channel.

    Raises:
        ValueError: The bound is not a positive whole number, or there is no such policy.
    """

    bytes: int = 1_048_576
    policy: OutboxPolicy = "disconnect"

    def __post_init__(self) -> None:
        if isinstance(self.bytes, bool) or not isinstance(self.bytes, int) or self.bytes < 1:
            raise ValueError(f"Outbox(bytes={self.bytes!r}): give a whole number of bytes above 0")
        if self.policy not in get_args(OutboxPolicy):
            raise ValueError(f"Outbox(policy={self.policy!r}): use one of {', '.join(get_args(OutboxPolicy))}")
