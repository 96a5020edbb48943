"""What a reader of FastAPI's WebSocket tutorial has at its end, with the class definition replaced by an import."""

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect, WebSocketException

from hubbub import ConnectionManager

app = FastAPI()

manager = ConnectionManager()
crowd = ConnectionManager()
limited = ConnectionManager(max_connections=2)
worded = ConnectionManager(max_connections=2, max_connections_status=400, max_connections_detail="Too many connections")

MAX_CONNECTIONS = 2


@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    while True:
        data = await websocket.receive_text()
        await websocket.send_text(f"Message text was: {data}")


async def get_cookie_or_token(
    session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
):
    if session is None and token is None:
        raise WebSocketException(code=1008)
    return session or token


@app.websocket("/items/{item_id}/ws")
async def item(
    websocket: WebSocket,
    item_id: str,
    cookie_or_token: Annotated[str, Depends(get_cookie_or_token)],
    q: int | None = None,
):
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await websocket.send_text(f"The session or token is {cookie_or_token}")
            if q is not None:
                await manager.send_personal_message(f"The query parameter q is {q}", websocket)
            await websocket.send_text(f"{data}, for item {item_id}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.websocket("/ws/{client_id}")
async def chat(websocket: WebSocket, client_id: int):
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await manager.send_personal_message(f"You wrote: {data}", websocket)
            await manager.broadcast(f"Client #{client_id} says: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")


@app.websocket("/json/{client_id}")
async def json_chat(websocket: WebSocket, client_id: int):
    await manager.connect(websocket)
    try:
        while True:
            message = await websocket.receive_json()
            await websocket.send_json({"type": "personal", "text": message["text"]})
            await manager.broadcast({"type": "chat", "from": client_id, "text": message["text"]})
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.websocket("/limit/by-hand")
async def limited_by_hand(websocket: WebSocket):
    if len(crowd.active_connections) >= MAX_CONNECTIONS:
        raise HTTPException(status_code=400, detail="Too many connections")
    await crowd.connect(websocket)
    try:
        while True:
            await crowd.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        crowd.disconnect(websocket)


@app.websocket("/limit")
async def limited_by_the_manager(websocket: WebSocket):
    await limited.connect(websocket)
    try:
        while True:
            await limited.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        limited.disconnect(websocket)


@app.websocket("/limit/worded")
async def limited_in_own_words(websocket: WebSocket):
    await worded.connect(websocket)
    try:
        while True:
            await worded.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        worded.disconnect(websocket)
