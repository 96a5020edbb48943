"""Numbers that a page hears by the client that is generated for it, on the broker that the environment names."""

import os
from typing import Annotated, Literal

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from hubbub import Connection, Drain, Envelope, History, Hub, Since

hub = Hub(os.environ.get("HUBBUB_TEST_BROKER", "memory://"), drain=Drain(window_s=0.5))
app = FastAPI(title="Numbers", lifespan=hub.lifespan)
numbers = hub.channels("numbers:{series}", history=History())


class Number(BaseModel):
    type: Literal["number"] = "number"
    value: int


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse('<!doctype html><title>Numbers</title><link rel="icon" href="data:,">')


@app.websocket("/series/{series}")
async def listen(
    connection: Annotated[Connection[Number, Envelope[Number]], Depends(hub)],
    series: str,
    since: Since,
) -> None:
    await connection.join(numbers(series=series), since=since, envelope=True)
    async for number in connection:
        await numbers(series=series).publish(number)


@app.post("/series/{series}")
async def publish(series: str, value: int) -> None:
    await numbers(series=series).publish(Number(value=value))
