"""A game: players collect gems in an arena, and the server moves everybody, 20 times a second.

Run it with ``hubbub run examples.game.app:app`` and open http://127.0.0.1:8000 in two windows.

A page says only where it steers; what happens is decided here and published as a whole frame on the arena's channel.
That channel has the ``latest`` policy: for a player whose network is slow, a new frame replaces the one that waits.
Such a player sees fewer frames, but never an old one and never two in the wrong order.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Path
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

from examples.game.arena import SIZE, Arena, Gem, Player
from hubbub import Connection, Hub, Limits, Outbox

HERE = FilePath(__file__).parent
TICKS_PER_S = 20
PLAYERS_PER_ARENA = 24
ARENAS = 50

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24, pattern=r"^\P{Cc}*$")
]  # no control characters
ArenaName = Annotated[str, Path(pattern="^[a-z0-9-]{1,24}$")]
Direction = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class Steer(BaseModel):
    type: Literal["steer"]
    x: Direction
    y: Direction


class Welcome(BaseModel):
    type: Literal["welcome"] = "welcome"
    you: str
    size: float = SIZE
    ticks_per_s: int = TICKS_PER_S


class Frame(BaseModel):
    type: Literal["frame"] = "frame"
    tick: int
    players: list[Player]
    gems: list[Gem]


hub = Hub(limits=Limits(message_bytes=1_024, connections_per_address=100))
channels = hub.channels("arena:{arena}", outbox=Outbox(policy="latest"))
arenas: dict[str, Arena] = {}


async def play() -> None:
    """Move all arenas on by one tick, and again, until cancelled."""
    clock = asyncio.get_running_loop()
    due = clock.time()
    tick = 0
    while True:
        tick += 1
        for name, arena in list(arenas.items()):
            arena.step()
            frame = Frame(tick=tick, players=list(arena.players.values()), gems=arena.gems)
            await channels(arena=name).publish(frame)
        due = max(due + 1 / TICKS_PER_S, clock.time())  # a tick that came late does not hurry the next ones
        await asyncio.sleep(due - clock.time())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub, asyncio.TaskGroup() as tasks:
        game = tasks.create_task(play())
        yield
        game.cancel()


app = FastAPI(title="Game", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=HERE / "static"))
app.mount("/shared", StaticFiles(directory=HERE.parent / "shared"))
app.include_router(hub.docs())  # /realtime: the WebSocket endpoints, to look at and to try


@app.get("/", include_in_schema=False)
async def first_arena() -> RedirectResponse:
    return RedirectResponse("arenas/meadow")


@app.get("/arenas/{arena}", include_in_schema=False)
async def page(arena: ArenaName) -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.websocket("/arenas/{arena}")
async def join(
    connection: Annotated[Connection[Steer, Welcome | Frame], Depends(hub)], arena: ArenaName, name: Name
) -> None:
    await connection.accept()
    if arena not in arenas and len(arenas) >= ARENAS:
        return await connection.close(1013, "there are too many arenas")
    players = arenas.setdefault(arena, Arena()).players
    if len(players) >= PLAYERS_PER_ARENA:
        return await connection.close(1013, "the arena is full")
    player = players[connection.id] = Player(id=connection.id, name=name)
    try:
        await connection.send(Welcome(you=player.id))
        await connection.join(channels(arena=arena))
        async for steer in connection:
            player.heading = (steer.x, steer.y)
    finally:
        del players[player.id]
        if not players:
            del arenas[arena]
