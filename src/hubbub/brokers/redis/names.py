"""What things are called in Redis."""

from __future__ import annotations

from zlib import crc32

__all__ = ("Names",)


class Names:
    """The names of keys and channels.

    All keys of a channel share a hash tag, as Redis Cluster asks, and with sharded pub/sub what carries its
    publications has it, too. The tag is a checksum, since a channel's name may have braces of its own, and the name
    stands at the end in full, so that no two channels have one key.

    Args:
        prefix: What all of them begin with.
        database: The number of the database, which pub/sub in Redis does not tell apart.
        is_sharded: Whether they are for sharded pub/sub.
    """

    def __init__(self, prefix: str, database: int, *, is_sharded: bool = False) -> None:
        self._prefix = prefix.encode()
        self._channel = f"{prefix}:{database}:channel:".encode()
        self._beacon = f"{prefix}:{database}:beacon:".encode()
        self._is_sharded = is_sharded

    def channel(self, channel: str) -> bytes:
        """Return what carries the publications of a channel."""
        name = _encoded(channel)
        return b"%b%b:%b" % (self._channel, _tag(name), name) if self._is_sharded else self._channel + name

    def beacon(self, identity: str) -> bytes:
        """Return what carries the signs of life of one broker to itself."""
        return self._beacon + identity.encode()

    def history(self, channel: str) -> tuple[bytes, ...]:
        """Return the keys of a history: meta, stream, uses and times."""
        return self._keys(channel, b"meta", b"stream", b"uses", b"times")

    def presence(self, channel: str) -> tuple[bytes, ...]:
        """Return the keys of who is there: members, leases and users."""
        return self._keys(channel, b"members", b"leases", b"users")

    def _keys(self, channel: str, *kinds: bytes) -> tuple[bytes, ...]:
        name = _encoded(channel)
        return tuple(b"%b:%b:%b:%b" % (self._prefix, _tag(name), kind, name) for kind in kinds)


def _tag(name: bytes) -> bytes:
    return b"{%08x}" % crc32(name)


def _encoded(channel: str) -> bytes:
    return channel.encode("utf-8", "surrogatepass")
