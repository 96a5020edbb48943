"""Two hubs with the same users, the same channels and the same families, and two managers, in one process."""

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from hubbub import Connection, ConnectionManager, Hub, Limits

first = Hub(limits=Limits(connections=2), allowed_origins=("https://first.example",))
second = Hub(limits=Limits(connections=2))
managers = {"first": ConnectionManager(), "second": ConnectionManager()}
app = FastAPI()


async def in_room(connection: Connection, user: str) -> None:
    await connection.accept(user=user)
    await connection.join("room:1")
    await connection.send("ready")
    async for _ in connection:
        pass


@app.websocket("/first/{user}")
async def on_the_first(connection: Annotated[Connection, Depends(first)], user: str) -> None:
    await in_room(connection, user)


@app.websocket("/second/{user}")
async def on_the_second(connection: Annotated[Connection, Depends(second)], user: str) -> None:
    await in_room(connection, user)


@app.websocket("/managers/{name}")
async def on_a_manager(websocket: WebSocket, name: str) -> None:
    await managers[name].connect(websocket)
    await websocket.send_text("ready")
    while True:
        await managers[name].broadcast(await websocket.receive_text())
