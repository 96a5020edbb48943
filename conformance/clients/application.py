"""What the clients talk to: an endpoint for each part of the conversation, and a page for the browser."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from hubbub import Connection, Heartbeat, Hub, Limits, Outbox

MESSAGE_BYTES = 1_048_576
HEARTBEAT_S = 0.2
PINGS = 5
"""How many of them the endpoint `heartbeat` gives the client time for."""

hub = Hub(
    limits=Limits(message_bytes=MESSAGE_BYTES, message_fragments=None, messages_per_s=None),
    outbox=Outbox(bytes=4 * MESSAGE_BYTES),
    heartbeat=Heartbeat(interval_s=HEARTBEAT_S),
)
app = FastAPI(lifespan=hub.lifespan)

HubConnection = Annotated[Connection, Depends(hub)]


@app.get("/")
async def page() -> HTMLResponse:
    """Give the browser a page whose origin is this server's."""
    return HTMLResponse('<!doctype html><title>Clients</title><link rel="icon" href="data:,">')


@app.websocket("/echo")
async def echo(connection: HubConnection) -> None:
    """Send back what comes; of the subprotocols that are offered, take the last one."""
    offered = connection.websocket["subprotocols"]
    await connection.accept(offered[-1] if offered else None)
    async for message in connection:
        await connection.send(message)


@app.websocket("/detached/{name}")
async def detached(connection: HubConnection, name: str) -> None:
    """Echo through a handler, and tell the witness of that name how it has ended."""

    async def tell(connection: Connection, code: int, reason: str) -> None:
        await hub.publish(f"witness:{name}", [code, reason])

    await connection.accept()
    connection.detach(on_message=send_back, on_close=tell)


async def send_back(connection: Connection, message: str | bytes) -> None:
    """Send a message back where it came from."""
    await connection.send(message)


@app.websocket("/watched/{name}")
async def watched(connection: HubConnection, name: str) -> None:
    """Receive until the client closes, and tell the witness of that name how it did."""
    async for _ in connection:
        pass
    await hub.publish(f"witness:{name}", [connection.close_code, connection.close_reason])


@app.websocket("/witness/{name}")
async def witness(connection: HubConnection, name: str) -> None:
    """Tell the client how those under this name end; an empty text says that the witness is there."""
    await connection.join(f"witness:{name}")
    await connection.send("")
    async for _ in connection:
        pass


@app.websocket("/closes")
async def closes(connection: HubConnection, code: int, reason: str = "") -> None:
    """Close as the client wishes."""
    await connection.accept()
    await connection.close(code, reason)


@app.websocket("/everyone/{name}")
async def everyone(connection: HubConnection, name: str) -> None:
    """Send what comes to all who are here; an empty text says that one is."""
    await connection.join(f"everyone:{name}")
    await connection.send("")
    async for message in connection:
        await hub.publish(f"everyone:{name}", message)


@app.websocket("/heartbeat")
async def heartbeat(connection: HubConnection) -> None:
    """Say whether the client answers pings, when it has had some."""
    await connection.accept()
    await asyncio.sleep(PINGS * HEARTBEAT_S)
    await connection.send("no answer" if connection.round_trip_s is None else "answered")
