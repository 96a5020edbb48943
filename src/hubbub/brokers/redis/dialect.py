"""The two kinds of pub/sub: of a server, where every node of a cluster hears everything, and of the shards of one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("PLAIN", "SHARDED", "Dialect")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the commands are called, and the replies.

    Args:
        publish: The command.
        subscribe: The command, and the kind of its reply.
        unsubscribe: The command, and the kind of its reply.
        message: The kind of what was published.
        subscribers: What `PUBSUB` is asked for the number of subscribers.
        names_at_once: How many names one command may have.
    """

    publish: bytes
    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    subscribers: bytes
    names_at_once: int


PLAIN = Dialect(b"PUBLISH", b"subscribe", b"unsubscribe", b"message", b"NUMSUB", 500)

# The names of one command must be of one slot, and there are about as many slots as channels.
SHARDED = Dialect(b"SPUBLISH", b"ssubscribe", b"sunsubscribe", b"smessage", b"SHARDNUMSUB", 1)
