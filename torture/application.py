"""What each worker runs: channels with history, an endpoint to hear them and one to publish."""

import json
import os
from typing import Annotated

from fastapi import Depends, FastAPI, Query

from hubbub import BrokerUnavailable, Connection, Drain, History, Hub, Limits, Position

REDIS = "TORTURE_REDIS"
HISTORY = "TORTURE_HISTORY"
"""The variables of the environment that say where Redis is, and how many publications a channel keeps."""

TRY_AGAIN_LATER = 1013

hub = Hub(
    os.environ.get(REDIS, "memory://"),
    limits=Limits(messages_per_s=None, connections_per_address=None),
    drain=Drain(window_s=2, batch=10),
)
rooms = hub.channels("room:{room}", history=History(size=int(os.environ.get(HISTORY, 5_000)), ttl_s=300))
app = FastAPI(lifespan=hub.lifespan)

HubConnection = Annotated[Connection, Depends(hub)]


@app.websocket("/ws")
async def hear(
    connection: HubConnection, room: Annotated[list[str], Query()], since: Annotated[list[str], Query()]
) -> None:
    """Join rooms, each since a position or an empty text."""
    for name, text in zip(room, since, strict=True):
        position = Position.parse(text) if text else None
        try:
            await connection.join(rooms(room=name), since=position, envelope=True)
        except BrokerUnavailable:
            await connection.close(TRY_AGAIN_LATER, "the broker is away")
            return
    async for _ in connection:
        pass


@app.websocket("/publish/{room}")
async def publish(connection: HubConnection, room: str) -> None:
    """Publish each message under its key, and say what has become of it."""
    async for text in connection:
        message = json.loads(text)
        key = str(message["number"])
        try:
            position = await rooms(room=room).publish(message, idempotency_key=key)
        except BrokerUnavailable as error:
            await connection.send({"number": message["number"], "unavailable": error.published})
        else:
            await connection.send({"number": message["number"], "position": str(position)})
