"""python-socketio on uvicorn: `msg` goes to all, `echo` back."""

import socketio

server = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(server)


@server.on("msg")
async def to_all(sid: str, message: object) -> None:
    await server.emit("msg", message)


@server.on("echo")
async def echo(sid: str, message: object) -> None:
    await server.emit("echo", message, to=sid)
