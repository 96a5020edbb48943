"""Redis as the broker: needs `pip install hubbub[redis]`."""

from .address import SCHEMES
from .broker import RedisBroker
from .presence import RedisPresenceStore
from .subscriptions import Timing

__all__ = ("SCHEMES", "RedisBroker", "RedisPresenceStore", "Timing")
