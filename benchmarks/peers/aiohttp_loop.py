"""aiohttp with a set of sockets and a loop over it, on uvloop: `aiohttp_loop.py PORT`."""

import sys

import uvloop
from aiohttp import web

subscribers: set[web.WebSocketResponse] = set()


async def to_all(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    subscribers.add(websocket)
    try:
        async for message in websocket:
            for subscriber in subscribers:
                await subscriber.send_str(message.data)
    finally:
        subscribers.discard(websocket)
    return websocket


async def echo(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


application = web.Application()
application.router.add_get("/ws", to_all)
application.router.add_get("/echo", echo)
uvloop.install()
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
