"""The websockets library with its own `broadcast`, on uvloop: `websockets_broadcast.py PORT`."""

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def to_all(websocket: ServerConnection) -> None:
    subscribers.add(websocket)
    try:
        async for message in websocket:
            broadcast(subscribers, message)
    finally:
        subscribers.discard(websocket)


async def handler(websocket: ServerConnection) -> None:
    request = websocket.request
    await (echo if request is not None and request.path == "/echo" else to_all)(websocket)


async def main() -> None:
    async with serve(handler, "127.0.0.1", int(sys.argv[1]), compression=None) as server:
        await server.serve_forever()


uvloop.run(main())
