"""Endpoints that end in every way there is."""

import asyncio
import itertools
import weakref
from collections import defaultdict
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from hubbub import Connection, ConnectionManager, Denied, Hub, Limits, Outbox

PLACES = 100
hub = Hub(limits=Limits(connections=PLACES))
manager = ConnectionManager(limits=Limits(connections=PLACES))
app = FastAPI(lifespan=hub.lifespan)

seen: weakref.WeakSet[Connection] = weakref.WeakSet()
users = itertools.cycle(f"user {number}" for number in range(20))
hesitating: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
decided: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

OUTBOX_BYTES = 10_000


async def member(connection: Annotated[Connection, Depends(hub)]) -> Connection:
    """One of many connections of a user, which has joined a channel of many and one of its own."""
    seen.add(connection)
    await connection.accept(user=next(users))
    await connection.join("everyone")
    await connection.join(connection.id)
    await connection.send("ready")
    return connection


Member = Annotated[Connection, Depends(member)]


@app.websocket("/receives")
async def receives(connection: Member) -> None:
    async for _ in connection:
        pass


@app.websocket("/never-receives")
async def never_receives(connection: Member) -> None:
    while connection.is_open:  # noqa: ASYNC110 - an endpoint that only looks
        await asyncio.sleep(0.01)


@app.websocket("/returns")
async def returns(connection: Member) -> None: ...


@app.websocket("/raises")
async def raises(connection: Member) -> None:
    raise ArithmeticError("raised on purpose")


@app.websocket("/cancelled")
async def cancelled(connection: Member) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await connection.receive()


@app.websocket("/closes")
async def closes(connection: Member) -> None:
    await connection.close(4000, "enough")


@app.websocket("/pushes")
async def pushes(connection: Member) -> None:
    while True:
        await connection.send("." * 1_000)


@app.websocket("/streams")
async def streams(
    connection: Annotated[Connection, Depends(hub.connection(outbox=Outbox(bytes=OUTBOX_BYTES)))],
) -> None:
    seen.add(connection)
    await connection.join(connection.id)
    while connection.id in hub.connections:
        await hub.publish(connection.id, "." * 1_000)
        await asyncio.sleep(0)
    await connection.receive()


@app.websocket("/hesitates/{name}")
async def hesitates(connection: Annotated[Connection, Depends(hub)], name: str) -> None:
    seen.add(connection)
    hesitating[name].set()
    await decided[name].wait()
    await connection.accept()
    await connection.receive()


@app.websocket("/denies")
async def denies(connection: Annotated[Connection, Depends(hub)]) -> None:
    seen.add(connection)
    raise Denied("Not today")


@app.websocket("/forgets")
async def forgets(websocket: WebSocket) -> None:
    """An endpoint on the manager that does not know of `disconnect`."""
    await manager.connect(websocket)
    await websocket.send_text("ready")
    await websocket.receive_text()
