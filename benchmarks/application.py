"""Hubbub under load: an endpoint for each thing that is measured."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from starlette.routing import WebSocketRoute

from hubbub import Connection, Hub, Limits

UNLIMITED = Limits(messages_per_s=None, connections_per_address=None)
"""All clients are one address, and as fast as they can."""

hub = Hub(limits=UNLIMITED)
app = FastAPI(lifespan=hub.lifespan)

HubConnection = Annotated[Connection, Depends(hub)]


@app.websocket("/ws")
async def to_all(connection: HubConnection) -> None:
    async for text in connection:
        await hub.broadcast(text)


@app.websocket("/echo")
async def echo(connection: HubConnection) -> None:
    async for text in connection:
        await connection.send(text)


async def send_back(connection: Connection, message: str | bytes) -> None:
    await connection.send(message)


@app.websocket("/detached")
async def detached_echo(connection: HubConnection) -> None:
    await connection.accept()
    connection.detach(on_message=send_back)


@app.websocket("/idle")
async def idle(connection: HubConnection) -> None:
    async for _ in connection:
        pass


@app.websocket("/idle-detached")
async def detached_idle(connection: HubConnection) -> None:
    await connection.accept()
    connection.detach()


async def without_hub(websocket: WebSocket) -> None:
    """Accept and receive, as an endpoint that knows nothing of a hub."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        pass


app.add_api_websocket_route("/ws-fastapi", without_hub)
app.router.routes.append(WebSocketRoute("/starlette", without_hub))


# What `stalled` asks for


@app.get("/slow")
async def slow() -> int:
    """Return how many connections were ended as slow."""
    return hub.statistics().closed.get(3008, 0)


@app.post("/broadcast")
async def broadcast(count: int, size: int, interval_s: float) -> None:
    """Broadcast at a pace that does not depend on how long a broadcast takes."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number * interval_s - loop.time()))
        await hub.broadcast(f"{number:08}".ljust(size, "."))
