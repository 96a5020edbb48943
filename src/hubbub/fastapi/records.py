"""What the hub answers to questions about a channel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..interfaces import PresenceEntry
from ..model import Data, Position

__all__ = (
    "ConnectionPresence",
    "PresenceCount",
    "Publication",
    "UserPresence",
    "as_json",
    "by_user",
    "publications",
)


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication of a channel with history.

    Args:
        data: The message as it was sent: `str` for text and JSON, `bytes` for binary.
        position: Its position, to resume from.
    """

    data: Data
    position: Position

    def json(self) -> Any:
        """Return what the message says as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.data)


@dataclass(frozen=True, slots=True)
class ConnectionPresence:
    """One connection of a user in a channel.

    Args:
        id: The connection's id.
        info: What `join(info=…)` has given.
        since: When it joined, in seconds since 1970.
    """

    id: str
    info: Any
    since: float


UserPresence = Sequence[ConnectionPresence]
"""The connections of one user in a channel, the earliest first."""


@dataclass(frozen=True, slots=True)
class PresenceCount:
    """How many are in a channel.

    Args:
        connections: Connections, those of nobody in particular too.
        users: Users.
    """

    connections: int
    users: int


def as_json(info: Any) -> Any:
    """Return what JSON has of a value.

    Raises:
        TypeError: It has no JSON form.
    """
    if info is None:
        return None
    try:
        return to_jsonable_python(info)
    except PydanticSerializationError as error:
        raise TypeError(f"info={info!r:.100} has no JSON form: {error}") from None


def by_user(entries: Iterable[PresenceEntry]) -> Mapping[str, UserPresence]:
    """Return the connections of each user."""
    users: dict[str, list[ConnectionPresence]] = {}
    for entry in entries:
        if entry.user is not None:
            users.setdefault(entry.user, []).append(ConnectionPresence(entry.connection, entry.info, entry.since))
    return users


def publications(found: Iterable[tuple[Data, Position]]) -> Sequence[Publication]:
    """Return what was found in a history."""
    return [Publication(data, position) for data, position in found]
