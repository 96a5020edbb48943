"""What `abuse` talks to: one endpoint for the client that is measured, others for the one that abuses."""

from typing import Annotated

from fastapi import Depends, FastAPI

from hubbub import Connection, Hub, Limits

UNLIMITED = Limits(message_bytes=None, message_fragments=None, messages_per_s=None)

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)

Limited = Annotated[Connection, Depends(hub)]
Unlimited = Annotated[Connection, Depends(hub.connection(limits=UNLIMITED))]


@app.websocket("/echo")
async def echo(connection: Unlimited) -> None:
    """Send back what comes: the client that is measured is faster than the limits allow."""
    async for message in connection:
        await connection.send(message)


@app.websocket("/limited")
async def limited(connection: Limited) -> None:
    """Receive within the limits that a hub has by default."""
    async for _ in connection:
        pass


@app.websocket("/unlimited")
async def unlimited(connection: Unlimited) -> None:
    """Receive whatever comes, up to the `--ws-max-size` of the server."""
    async for _ in connection:
        pass


@app.websocket("/closes")
async def closes(connection: Limited) -> None:
    """Close at once."""
    await connection.accept()
    await connection.close()
