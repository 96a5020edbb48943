"""Hubbub: WebSockets for FastAPI, from one import in one process upwards."""

from .config import Drain, Heartbeat, History, Limits, Outbox, Presence
from .errors import BrokerUnavailable, Denied, HubbubError, InvalidMessage
from .fastapi.channels import Channel, ChannelFamily
from .fastapi.connection import Connection
from .fastapi.envelope import Envelope
from .fastapi.hub import Hub
from .fastapi.manager import ConnectionManager
from .fastapi.peer import Peer
from .fastapi.records import ConnectionPresence, PresenceCount, Publication
from .fastapi.since import Since
from .model import Joined, Position

__all__ = (
    "BrokerUnavailable",
    "Channel",
    "ChannelFamily",
    "Connection",
    "ConnectionManager",
    "ConnectionPresence",
    "Denied",
    "Drain",
    "Envelope",
    "Heartbeat",
    "History",
    "Hub",
    "HubbubError",
    "InvalidMessage",
    "Joined",
    "Limits",
    "Outbox",
    "Peer",
    "Position",
    "Presence",
    "PresenceCount",
    "Publication",
    "Since",
)
