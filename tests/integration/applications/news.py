"""Many listeners, and a producer that paces itself."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocketDisconnect

from hubbub import Connection, Hub

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)

ends: dict[str, int] = {}


@app.get("/alive")
async def alive() -> None: ...


@app.get("/state")
async def state() -> dict[str, object]:
    return {
        "connected": sorted(connection.path_params["name"] for connection in hub.connections.values()),
        "closed": dict(hub.statistics().closed),
        "ends": ends,
    }


@app.post("/broadcast")
async def broadcast(first: int, count: int, size: int, interval_s: float) -> None:
    """Broadcast once in every interval; where the machine does not keep up, what is late is not made good."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(first, first + count):
        await hub.broadcast(f"{number:08}".ljust(size, "."))
        due = max(due + interval_s, loop.time())
        await asyncio.sleep(due - loop.time())


@app.websocket("/listen/{name}")
async def listen(connection: Annotated[Connection, Depends(hub)], name: str) -> None:
    try:
        while True:
            await connection.receive()
    except WebSocketDisconnect as disconnect:
        ends[name] = disconnect.code
