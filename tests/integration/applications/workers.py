"""For several workers: says which of them a client has come to, and hands on to everyone what the client says."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI

from hubbub import Connection, Hub

hub = Hub(os.environ["HUBBUB_TEST_BROKER"])
app = FastAPI(lifespan=hub.lifespan)


@app.get("/alive")
async def alive() -> None: ...


@app.websocket("/ws")
async def ws(connection: Annotated[Connection, Depends(hub)]) -> None:
    await connection.send(f"worker {os.getpid()}")
    async for message in connection:
        await hub.broadcast(message)
