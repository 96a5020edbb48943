"""Channels that remember under load, in one process or over the Redis that `HUBBUB_BROKER` names."""

import asyncio
import os
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI

from hubbub import Connection, History, Hub, Limits, Position

UNLIMITED = Limits(messages_per_s=None, connections_per_address=None)
"""All clients are one address."""

hub = Hub(os.environ.get("HUBBUB_BROKER", "memory://"), limits=UNLIMITED)
remembering = hub.channels("history:{name}", history=History(size=1_000))
app = FastAPI(lifespan=hub.lifespan)


@app.websocket("/hear/{channel}")
async def hear(connection: Annotated[Connection, Depends(hub)], channel: str, since: str | None = None) -> None:
    await connection.join(channel, since=None if since is None else Position.parse(since))
    connection.detach()


@app.post("/publish/{channel}")
async def publish(channel: str, count: int, size: int, interval_s: float) -> None:
    """Publish at a pace, as many requests would that do not wait for each other, with the time in each message."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number * interval_s - loop.time()))
            group.create_task(hub.publish(channel, f"{time.monotonic():020.9f}".ljust(size, ".")))


@app.post("/start/{channel}")
async def start(channel: str) -> str:
    """Publish something and return its position."""
    return str(await hub.publish(channel, "start"))


@app.get("/statistics")
async def statistics() -> dict[str, Any]:
    return asdict(hub.statistics())
