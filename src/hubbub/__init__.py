"""Hubbub: WebSockets for FastAPI, from one import in one process upwards."""

from .config import Drain, Heartbeat, Limits, Outbox
from .errors import Denied, HubbubError, InvalidMessage
from .fastapi.connection import Connection
from .fastapi.hub import Hub
from .fastapi.manager import ConnectionManager

__all__ = (
    "Connection",
    "ConnectionManager",
    "Denied",
    "Drain",
    "Heartbeat",
    "Hub",
    "HubbubError",
    "InvalidMessage",
    "Limits",
    "Outbox",
)
