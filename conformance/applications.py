"""Applications that send back what they get, text as text and binary as binary."""

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from hubbub import Connection, Hub, Limits, Outbox

MESSAGE_BYTES = 16_777_216
"""The largest message of section 9."""

hub = Hub(
    limits=Limits(message_bytes=MESSAGE_BYTES, message_fragments=None, messages_per_s=None),
    outbox=Outbox(bytes=2 * MESSAGE_BYTES),
)


async def echo(websocket: WebSocket) -> None:
    """Echo over plain Starlette."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})


async def echo_on_the_hub(connection: Annotated[Connection, Depends(hub)]) -> None:
    """Echo through a connection of Hubbub's."""
    with suppress(WebSocketDisconnect):
        async for message in connection:
            await connection.send(message)


async def send_back(connection: Connection, message: str | bytes) -> None:
    """Send a message back where it came from."""
    await connection.send(message)


async def detach(connection: Annotated[Connection, Depends(hub)]) -> None:
    """Echo through a handler, without a task."""
    await connection.accept()
    connection.detach(on_message=send_back)


starlette = Starlette(routes=[WebSocketRoute("/", echo)])
hubbub = FastAPI(lifespan=hub.lifespan)
hubbub.add_api_websocket_route("/", echo_on_the_hub)
detached = FastAPI(lifespan=hub.lifespan)
detached.add_api_websocket_route("/", detach)
