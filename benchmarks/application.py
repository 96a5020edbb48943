"""The endpoints under load: the class that FastAPI's tutorial shows, the drop-in for it, and the hub."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect

from hubbub import Connection, ConnectionManager, Hub, Limits

NO_RATE = Limits(messages_per_s=None)

hub = Hub(limits=NO_RATE)
app = FastAPI(lifespan=hub.lifespan)


class TutorialManager:
    """A list of sockets, and a loop over it."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        for connection in self.active_connections:
            await connection.send_text(message)


tutorial = TutorialManager()
drop_in = ConnectionManager(limits=NO_RATE)


async def chat(manager: TutorialManager | ConnectionManager, websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await manager.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.websocket("/tutorial")
async def on_the_tutorials_class(websocket: WebSocket) -> None:
    await chat(tutorial, websocket)


@app.websocket("/manager")
async def on_the_drop_in(websocket: WebSocket) -> None:
    await chat(drop_in, websocket)


@app.websocket("/hub")
async def on_the_hub(connection: Annotated[Connection, Depends(hub)]) -> None:
    async for text in connection:
        await hub.broadcast(text)


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
