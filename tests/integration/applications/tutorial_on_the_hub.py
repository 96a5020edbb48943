"""The steps of FastAPI's WebSocket tutorial as one would write them with a hub."""

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel

from hubbub import Connection, Denied, Hub, Limits

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)

MAX_CONNECTIONS = 2


class Say(BaseModel):
    text: str


class Said(BaseModel):
    type: str
    sender: int
    text: str


@app.websocket("/ws")
async def echo(connection: Annotated[Connection, Depends(hub)]):
    async for text in connection:
        await connection.send(f"Message text was: {text}")


async def get_cookie_or_token(
    connection: Annotated[Connection, Depends(hub)],
    session: Annotated[str | None, Cookie()] = None,
    token: Annotated[str | None, Query()] = None,
):
    if session is None and token is None:
        raise Denied("Neither a session nor a token")
    return session or token


@app.websocket("/items/{item_id}/ws")
async def item(
    connection: Annotated[Connection, Depends(hub)],
    item_id: str,
    cookie_or_token: Annotated[str, Depends(get_cookie_or_token)],
    q: int | None = None,
):
    async for text in connection:
        await connection.send(f"The session or token is {cookie_or_token}")
        if q is not None:
            await connection.send(f"The query parameter q is {q}")
        await connection.send(f"{text}, for item {item_id}")


@app.websocket("/ws/{client_id}")
async def chat(connection: Annotated[Connection, Depends(hub)], client_id: int):
    async for text in connection:
        await connection.send(f"You wrote: {text}")
        await hub.broadcast(f"Client #{client_id} says: {text}")
    await hub.broadcast(f"Client #{client_id} left the chat")


@app.websocket("/json/{client_id}")
async def json_chat(connection: Annotated[Connection[Say, Said], Depends(hub)], client_id: int):
    async for message in connection:
        await connection.send(Said(type="personal", sender=client_id, text=message.text))
        await hub.broadcast(Said(type="chat", sender=client_id, text=message.text))


@app.websocket("/limit/by-hand")
async def limited_by_hand(connection: Annotated[Connection, Depends(hub)]):
    if len(hub.connections) >= MAX_CONNECTIONS:
        raise HTTPException(status_code=400, detail="Too many connections")
    async for text in connection:
        await hub.broadcast(text)


@app.websocket("/limit")
async def limited(connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections=2)))]):
    async for text in connection:
        await hub.broadcast(text)


@app.websocket("/limit/worded")
async def limited_in_own_words(connection: Annotated[Connection, Depends(hub)]):
    if len(hub.connections) >= MAX_CONNECTIONS:
        raise Denied("Too many connections", limit="connections", status=400)
    async for text in connection:
        await hub.broadcast(text)
