"""Channels as Server-Sent Events, in the memory of the process or on the broker that the environment names."""

import os
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from hubbub import History, Hub, Outbox

hub = Hub(os.environ.get("HUBBUB_TEST_BROKER", "memory://"), outbox=Outbox(bytes=4_000_000))
app = FastAPI(lifespan=hub.lifespan)
news = hub.channels("news:{name}", history=History())


if "HUBBUB_TEST_MIDDLEWARE" in os.environ:

    @app.middleware("http")
    async def passes(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)


@app.get("/alive")
async def alive() -> None: ...


@app.get("/state")
async def state() -> dict[str, object]:
    statistics = hub.statistics()
    return {
        "accepted": statistics.accepted,
        "closed": dict(statistics.closed),
        "is_queued": statistics.queued_bytes > 0,
    }


@app.get("/events/{name}")
async def events(request: Request, name: str) -> Response:
    response = hub.events(request, news(name=name))
    response.headers["x-worker"] = str(os.getpid())
    return response


@app.post("/news/{name}")
async def publish(name: str, text: str, size: int = 0) -> str:
    return str(await news(name=name).publish(text.ljust(size, ".")))
