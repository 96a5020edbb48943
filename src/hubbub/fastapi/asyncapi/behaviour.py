"""What a client meets at an endpoint beside messages: limits, refusals of the handshake, close codes.

The words are those of the page on errors and close codes; what does not concern an endpoint is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...model import CloseCode
from ..dependency import ConnectionDependency
from ..typed import MessageTypes, raw_types
from .schemas import JsonObject

__all__ = ("behaviour_of", "set_fields")

_LIMIT_CODES = {
    "message_bytes": (CloseCode.MESSAGE_TOO_BIG, "A message is larger than {} bytes"),
    "message_fragments": (CloseCode.POLICY_VIOLATION, "A message comes in more than {} frames"),
    "messages_per_s": (CloseCode.POLICY_VIOLATION, "There are more than {} messages a second"),
    "first_message_s": (CloseCode.POLICY_VIOLATION, "There is no message within {} seconds"),
    "idle_s": (CloseCode.POLICY_VIOLATION, "There is no message for {} seconds"),
}
_LIMIT_STATUSES = {
    "connections": (503, "There are {} connections {} already"),
    "connections_per_user": (429, "This user has {} connections {} already"),
    "connections_per_address": (429, "This address has {} connections {} already"),
}


def behaviour_of(connection: ConnectionDependency, types: MessageTypes) -> JsonObject:
    """Return how an endpoint with a hub's connection behaves, for the document's extension `x-hubbub`."""
    raw = raw_types(types.incoming)
    return {
        **({"onInvalid": connection.on_invalid} if raw is None else {}),
        "limits": set_fields(connection.limits),
        "outbox": set_fields(connection.outbox),
        "closeCodes": [*_close_codes(connection, raw)],
        "refusals": [*_refusals(connection)],
    }


def set_fields(settings: Any) -> JsonObject:
    """Return the fields of a settings' dataclass that are set."""
    return {name: value for name, value in asdict(settings).items() if value is not None}


def _close_codes(connection: ConnectionDependency, raw: tuple[type, ...] | None) -> Iterator[JsonObject]:
    yield _code(CloseCode.NORMAL, "", "The endpoint has returned")
    if raw is not None and len(raw) == 1:
        wanted = "text" if raw == (str,) else "binary"
        yield _code(CloseCode.UNSUPPORTED_DATA, f"{wanted} expected", f"A message is not {wanted}")
    if raw is None and connection.on_invalid == "close":
        yield _code(CloseCode.UNSUPPORTED_DATA, "invalid_message", "A message is binary, where JSON text is due")
        yield _code(CloseCode.INVALID_PAYLOAD, "invalid_message", "A message is not JSON")
        yield _code(CloseCode.POLICY_VIOLATION, "invalid_message", "A message does not fit")
    yield _code(CloseCode.INVALID_PAYLOAD, "invalid UTF-8", "A text is not UTF-8")
    for name, (code, text) in _LIMIT_CODES.items():
        limit = getattr(connection.limits, name)
        if limit is not None:
            yield _code(code, name, text.format(limit))
    yield _code(CloseCode.POLICY_VIOLATION, "", "The application refuses; the reason says why")
    yield _code(CloseCode.INTERNAL_ERROR, "", "The endpoint has failed")
    yield _code(CloseCode.INTERNAL_ERROR, "heartbeat", "The client does not answer pings")
    yield _code(CloseCode.SERVICE_RESTART, "", "The server restarts: come back after a while")
    yield _code(CloseCode.SLOW, "slow", "The client does not read what it is sent: come back")
    yield _code(CloseCode.DISCONNECTED, "", "The application has disconnected this user")


def _code(code: CloseCode, reason: str, description: str) -> JsonObject:
    return {"code": int(code), **({"reason": reason} if reason else {}), "description": description}


def _refusals(connection: ConnectionDependency) -> Iterator[JsonObject]:
    yield {"status": 403, "description": "A foreign origin, an invalid parameter, or the application refuses"}
    whole, own = connection.hub_limits, connection.limits
    for name, (status, text) in _LIMIT_STATUSES.items():
        limits = [(getattr(whole, name), "in all"), *([] if connection.is_default else [(getattr(own, name), "here")])]
        for limit, where in dict.fromkeys(limits):
            if limit is not None:
                yield _refusal(status, name, text.format(limit, where))
    if whole.connections is None:  # then the open files of the process are the limit
        yield _refusal(503, "connections", "The server cannot hold more connections")
    yield _refusal(503, "draining", "The server is shutting down")


def _refusal(status: int, limit: str, text: str) -> JsonObject:
    return {"status": status, "limit": limit, "description": f"{text}; with Retry-After"}
