"""One endpoint for each behaviour that must be the same on every server.

What an endpoint has seen of its connection's end can be asked for by HTTP, under the name that the client gave it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from starlette.routing import WebSocketRoute

from hubbub import Connection, ConnectionManager, Denied, History, Hub, Limits, Outbox, Position

hub = Hub(allowed_origins=("https://friend.example",))
manager = ConnectionManager()
logs = hub.channels("log:{name}", history=History())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub, manager.hub:
        yield


app = FastAPI(lifespan=lifespan)
AConnection = Annotated[Connection, Depends(hub)]

ends: defaultdict[str, asyncio.Future[dict[str, object]]] = defaultdict(asyncio.Future)


def note_end(name: str, disconnect: WebSocketDisconnect) -> None:
    ends[name].set_result({"code": disconnect.code, "reason": disconnect.reason})


# What a test asks by HTTP


@app.get("/alive")
async def alive() -> None: ...


@app.get("/ends/{name}")
async def end(name: str) -> dict[str, object]:
    return await ends[name]


@app.get("/left")
async def left() -> dict[str, int]:
    now = hub.statistics(), manager.hub.statistics()
    return {
        number: sum(getattr(statistics, number) for statistics in now)
        for number in ("connections", "users", "channels", "queued_bytes")
    }


@app.get("/connections/{user}")
async def connections(user: str) -> int:
    return sum(connection.user == user for connection in hub.connections.values())


@app.get("/violations")
async def violations() -> dict[str, int]:
    return dict(hub.statistics().violations)


@app.post("/send/{user}")
async def send(user: str, message: dict[str, str]) -> None:
    await hub.send(user, message)


@app.post("/disconnect/{user}")
async def disconnect(user: str, code: int = 3503, reason: str = "") -> None:
    await hub.disconnect(user, code, reason)


# Messages


@app.websocket("/echo")
async def echo(connection: AConnection) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/chat/{client_id}")
async def chat(websocket: WebSocket, client_id: str) -> None:
    await manager.connect(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await manager.send_personal_message(f"You wrote: {text}", websocket)
            await manager.broadcast(f"{client_id} says: {text}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"{client_id} left")


@app.websocket("/mixed")
async def mixed(websocket: WebSocket) -> None:
    own = ConnectionManager()
    await own.connect(websocket)
    for number in range(0, int(await websocket.receive_text()), 3):
        await websocket.send_text(str(number))
        await own.broadcast(str(number + 1))
        await own.send_personal_message(str(number + 2), websocket)


@app.websocket("/users/{user}")
async def tab(connection: AConnection, user: str) -> None:
    await connection.accept(user=user)
    await connection.send("ready")
    async for _ in connection:
        pass


async def plain(websocket: WebSocket) -> None:
    """An endpoint of Starlette alone: nobody tells the hub when it has ended."""
    await manager.connect(websocket)
    await manager.send_personal_message("ready", websocket)
    await websocket.receive_text()


app.router.routes.append(WebSocketRoute("/plain", plain))


# The handshake


@app.websocket("/details")
async def details(connection: AConnection) -> None:
    await connection.accept("chat.v2", {"X-Served-By": "hubbub", "Set-Cookie": "seen=yes"})
    async for _ in connection:
        pass


@app.websocket("/one/in-total")
async def one(connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections=1)))]) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/one/of-an-address")
async def one_of_an_address(
    connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections_per_address=1)))],
) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/one/of-a-user/{user}")
async def one_of_a_user(
    connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections_per_user=1)))], user: str
) -> None:
    await connection.accept(user=user)
    async for message in connection:
        await connection.send(message)


@app.websocket("/unaccepted")
async def unaccepted(connection: AConnection) -> None: ...


@app.websocket("/denied")
async def denied(connection: AConnection) -> None:
    raise Denied("Not today", status=401, headers={"WWW-Authenticate": "Bearer"})


async def has_paid(connection: AConnection) -> None:
    raise HTTPException(402, "Pay first", {"X-Price": "5"})


@app.websocket("/paid", dependencies=[Depends(has_paid)])
async def paid(connection: AConnection) -> None: ...


@app.websocket("/numbers/{number}")
async def numbers(connection: AConnection, number: int) -> None: ...


# The end


@app.websocket("/ends-with/{what}")
async def ends_with(
    connection: AConnection, what: Literal["return", "exception", "http", "denied"], name: str = ""
) -> None:
    await connection.accept()
    match what:
        case "exception":
            raise ArithmeticError("raised on purpose")
        case "http":
            raise HTTPException(403, "not for you")
        case "denied":
            raise Denied("too many apples", limit="apples")


@app.websocket("/closes")
async def closes(connection: AConnection, code: int, reason: str) -> None:
    await connection.send("last words")
    await connection.close(code, reason)


@app.websocket("/closes-while-pushing")
async def closes_while_pushing(connection: AConnection) -> None:
    for number in range(100):
        await connection.send(str(number))
    await connection.close(4001, "enough")


@app.websocket("/pushes/{name}")
async def pushes(connection: AConnection, name: str) -> None:
    await connection.accept(user=name)
    try:
        while True:
            await connection.send("tick")
            await asyncio.sleep(0.001)
    except WebSocketDisconnect as disconnect:
        note_end(name, disconnect)


@app.websocket("/streams/{name}")
async def streams(
    connection: Annotated[Connection, Depends(hub.connection(outbox=Outbox(bytes=100_000)))], name: str
) -> None:
    await connection.accept(user=name)
    await connection.join(name)
    try:
        while connection.id in hub.connections:
            await hub.publish(name, "." * 10_000)
            await asyncio.sleep(0)
        await connection.receive()
    except WebSocketDisconnect as disconnect:
        note_end(name, disconnect)


@app.websocket("/receives/{name}")
async def receives(connection: AConnection, name: str) -> None:
    await connection.accept(user=name)
    try:
        while True:
            await connection.receive()
    except WebSocketDisconnect as disconnect:
        note_end(name, disconnect)


@app.websocket("/never-receives/{name}")
async def never_receives(connection: AConnection, name: str) -> None:
    await connection.accept(user=name)
    await ends[name]


@app.post("/let-go/{name}")
async def let_go(name: str) -> None:
    ends[name].set_result({})


# Limits and types


@app.websocket("/three-at-once")
async def three_at_once(
    connection: Annotated[Connection, Depends(hub.connection(limits=Limits(messages_per_s=0.01, message_burst=3)))],
) -> None:
    async for message in connection:
        await connection.send(message)


class Say(BaseModel):
    text: str


@app.websocket("/text")
async def text_only(connection: Annotated[Connection[str], Depends(hub)]) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/bytes")
async def bytes_only(connection: Annotated[Connection[bytes], Depends(hub)]) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/typed")
async def typed(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/strict")
async def strict(connection: Annotated[Connection[Say], Depends(hub.connection(on_invalid="close"))]) -> None:
    async for message in connection:
        await connection.send(message)


@app.websocket("/joins")
async def joins(connection: AConnection) -> None:
    async for name in connection:
        try:
            await connection.join(name)
        except Denied as denied:
            await connection.send({"denied": denied.limit})
        else:
            await connection.send({"joined": sorted(connection.channels)})


@app.websocket("/follows/{name}")
async def follows(connection: AConnection, name: str, since: str | None = None) -> None:
    """Publish what the client says in as many words."""
    position = None if since is None else Position.parse(since)
    await connection.join(logs(name=name), since=position, envelope=True)
    await logs(name=name).publish("joined")
    async for text in connection:
        for word in text.split():
            await logs(name=name).publish(word)
