"""Configuration: one frozen dataclass for each concern, checked when it is built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import get_args

from .model import OutboxPolicy

__all__ = ("Drain", "Heartbeat", "History", "Limits", "Outbox", "Presence")

_COUNTS = frozenset(
    {
        "connections",
        "connections_per_user",
        "connections_per_address",
        "channels_per_connection",
        "channel_name_bytes",
        "message_bytes",
        "message_fragments",
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
        message_fragments: Frames that one message may come in; held by the server class of Hubbub only.
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
    message_fragments: int | None = 4_096
    messages_per_s: float | None = 100
    message_burst: int = 200
    first_message_s: float | None = None
    idle_s: float | None = None

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            _check(self, name, is_count=name in _COUNTS, none="" if name == "message_burst" else "no limit")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a connection's server asks whether the client is there; held by the server class of Hubbub only.

    Args:
        interval_s: Seconds from one ping to the next; `None` for no pings.
        timeout_s: Seconds in which the client has to answer.

    Raises:
        ValueError: A value is not a positive number.
    """

    interval_s: float | None = 25
    timeout_s: float = 10

    def __post_init__(self) -> None:
        _check(self, "interval_s", none="no pings")
        _check(self, "timeout_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How a server that stops tells its clients to come back, so that they do not all come at once.

    Held by the server class of Hubbub only.

    Args:
        window_s: Seconds over which the connections are closed.
        batch: Connections that are closed at a time.

    Raises:
        ValueError: A value is not a positive number, or the batch is not a whole one.
    """

    window_s: float = 5
    batch: int = 500

    def __post_init__(self) -> None:
        _check(self, "window_s")
        _check(self, "batch", is_count=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a channel remembers, and so the window in which a client that comes back gets all that it has missed.

    Args:
        size: The newest publications that are kept.
        ttl_s: Seconds after the last publication for which they are kept.
        idempotency_ttl_s: Seconds for which the key of a publication is remembered.
        idempotency_keys: Keys that one channel remembers, the newest.

    Raises:
        ValueError: A value is not a positive number, or counts things and is not a whole one.
    """

    size: int = 100
    ttl_s: float = 300
    idempotency_ttl_s: float = 300
    idempotency_keys: int = 10_000

    def __post_init__(self) -> None:
        _check(self, "size", is_count=True)
        _check(self, "ttl_s")
        _check(self, "idempotency_ttl_s")
        _check(self, "idempotency_keys", is_count=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who is in a channel, on all workers.

    Args:
        grace_s: Seconds that a user may be away without having left.
        lease_s: Seconds after which the connections of a worker that died are taken out.

    Raises:
        ValueError: A value is not a positive number.
    """

    grace_s: float = 5
    lease_s: float = 30

    def __post_init__(self) -> None:
        _check(self, "grace_s")
        _check(self, "lease_s")


def _check(settings: object, name: str, *, is_count: bool = False, none: str = "") -> None:
    """Refuse what is not a positive number; `none` says what `None` means where it may be given."""
    value = getattr(settings, name)
    if value is None and none:
        return
    # The comparison is written so that NaN fails it too.
    if isinstance(value, bool) or not isinstance(value, int if is_count else (int, float)) or not value > 0:
        kind = "whole number above 0" if is_count else "number above 0"
        raise ValueError(
            f"{type(settings).__name__}({name}={value!r}): give a {kind}" + (f", or None for {none}" if none else "")
        )
