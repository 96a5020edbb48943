"""A chat in the manner of FastAPI's WebSocket tutorial: once on the drop-in manager, once on the hub.

Its page is told which address to connect to, as the tutorial's is by the text of its script.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

from hubbub import Connection, ConnectionManager, Hub

PAGE = """
<!doctype html>
<title>Tutorial</title>
<link rel="icon" href="data:,">
<form onsubmit="send(event)"><input id="text" aria-label="Text"><button>Send</button></form>
<p id="state">connecting</p>
<ul id="messages"></ul>
<script>
  const socket = new WebSocket(new URLSearchParams(location.search).get("to"));
  const state = document.getElementById("state");
  socket.onopen = () => { state.textContent = "open"; };
  socket.onclose = () => { state.textContent = "closed"; };
  socket.onmessage = (event) => {
    const line = document.createElement("li");
    line.textContent = event.data;
    document.getElementById("messages").append(line);
  };
  function send(event) {
    event.preventDefault();
    socket.send(document.getElementById("text").value);
  }
</script>
"""

hub = Hub()
manager = ConnectionManager()
app = FastAPI(lifespan=hub.lifespan)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.websocket("/manager/{client_id}")
async def on_the_manager(websocket: WebSocket, client_id: int) -> None:
    await manager.connect(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await manager.send_personal_message(f"You wrote: {text}", websocket)
            await manager.broadcast(f"Client #{client_id} says: {text}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")


@app.websocket("/hub/{client_id}")
async def on_the_hub(connection: Annotated[Connection, Depends(hub)], client_id: int) -> None:
    async for text in connection:
        await connection.send(f"You wrote: {text}")
        await hub.broadcast(f"Client #{client_id} says: {text}")
    await hub.broadcast(f"Client #{client_id} left the chat")
