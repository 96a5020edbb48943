"""What carries publications between hubs: in one process, or between all of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..interfaces import Clock, HistoryBroker, PresenceStore

__all__ = ("Engine", "check_url", "from_url")

_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
_SCHEMES = ("memory", *_REDIS)


@dataclass(frozen=True, slots=True)
class Engine:
    """What one URL gives: a broker, and the presence that is kept in the same place.

    Args:
        broker: Carries, numbers and keeps publications.
        presence: Knows who is where; works while the broker is started.
    """

    broker: HistoryBroker
    presence: PresenceStore


def from_url(url: str, *, clock: Clock) -> Engine:
    """Make the engine that a URL names.

    Args:
        url: One of

            * `memory://`: one process;
            * `redis://[user:password@]host[:port][/database]`, or `rediss://…` with TLS;
            * `unix://path[?db=database]`: Redis on a socket of this machine;
            * `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database]`: the Redis that
              Sentinel names;
            * `redis+cluster://[user:password@]host[:port][,host[:port]…]`: a cluster of Redis 7, by some of its nodes.

            Those of Redis take `?prefix=` for what all its names begin with (`hubbub`), and the options of redis-py.
        clock: The time, for what is kept in memory. Redis goes by its own.

    Raises:
        ValueError: It is none of these; the message does not repeat it, since it may contain a password.
        ImportError: What it takes is not installed.
    """
    scheme = check_url(url)
    if scheme == "memory":
        from .memory import MemoryBroker, MemoryPresenceStore

        return Engine(MemoryBroker(clock), MemoryPresenceStore(clock))
    return _redis(url)


def check_url(url: str) -> str:
    """Return the scheme of a broker's URL.

    Raises:
        TypeError: It is not a text.
        ValueError: Its scheme is not known.
    """
    if not isinstance(url, str):
        raise TypeError(f"a broker is given by its URL, such as 'memory://', not by a {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"the broker's URL begins with none of the schemes that are known: {known}")
    return scheme


def _redis(url: str) -> Engine:
    try:
        from .redis import RedisBroker, RedisPresenceStore
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "hiredis"):
            raise
        raise ImportError("a broker on Redis takes more packages: pip install hubbub[redis]", name=error.name) from None
    broker = RedisBroker(url)
    return Engine(broker, RedisPresenceStore(broker))
