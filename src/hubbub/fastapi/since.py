"""The position that a client gives when it comes back, as a dependency."""

from typing import Annotated, TypeAlias

from fastapi import Depends, HTTPException, Query

from ..model import Position

__all__ = ("Since",)

_DESCRIPTION = "The position of the last message that has arrived, as `epoch:offset`: what came after it is sent first"


def _position(since: Annotated[str | None, Query(description=_DESCRIPTION)] = None) -> Position | None:
    try:
        return None if since is None else Position.parse(since)
    except ValueError:
        raise HTTPException(400, "since is not a position") from None


Since: TypeAlias = Annotated[Position | None, Depends(_position)]
"""The query parameter `since` of an endpoint that can be resumed: `async def follow(connection: …, since: Since)`.

It is the `Position` to give to `join`, or `None` where the client gives none; what is no position is refused with HTTP
400. The clients that `hubbub types` makes, and the page `/realtime`, know the parameter by this name.
"""
