"""A chat: rooms by path, who is there, private messages, and any number of tabs for one person.

Run it with ``hubbub run examples.chat.app:app`` and open http://127.0.0.1:8000. Its endpoint is under /realtime, to
look at and to try.

A room remembers what was said for a while: a page whose connection was lost gets what it has missed. The page is
written in TypeScript, in ``front``, with the types and the client that ``hubbub types`` makes of this file.

A name is all that tells people apart here: two tabs with one name are one person. In an application of your own the
user comes from your authentication, as one more dependency of the endpoint.
"""

from collections import Counter
from pathlib import Path as FilePath
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Path
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

from hubbub import Connection, Envelope, History, Hub, Limits, Outbox, Since

HERE = FilePath(__file__).parent

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24, pattern=r"^\P{Cc}*$")
]  # no control characters
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
RoomName = Annotated[str, Path(pattern="^[a-z0-9-]{1,24}$")]


class Say(BaseModel):
    type: Literal["say"]
    text: Text


class Typing(BaseModel):
    type: Literal["typing"]


class Whisper(BaseModel):
    type: Literal["whisper"]
    to: Name
    text: Text


class Said(BaseModel):
    type: Literal["said"] = "said"
    name: str
    text: str


class Joined(BaseModel):
    type: Literal["joined"] = "joined"
    name: str


class Left(BaseModel):
    type: Literal["left"] = "left"
    name: str


class IsTyping(BaseModel):
    type: Literal["typing"] = "typing"
    name: str


class Whispered(BaseModel):
    type: Literal["whispered"] = "whispered"
    name: str
    to: str
    text: str


class Roster(BaseModel):
    type: Literal["roster"] = "roster"
    names: list[str]


class Absent(BaseModel):
    """The answer to a whisper to somebody who is not in the room."""

    type: Literal["absent"] = "absent"
    name: str


In = Annotated[Say | Typing | Whisper, Field(discriminator="type")]
Out = Envelope[Said | Joined | Left] | IsTyping | Whispered | Roster | Absent

hub = Hub(
    limits=Limits(
        message_bytes=16_384,
        messages_per_s=20,
        message_burst=40,
        connections_per_user=20,
        connections_per_address=100,
    )
)
rooms = hub.channels("room:{room}", history=History(size=200, ttl_s=600))
typists = hub.channels("typists:{room}", outbox=Outbox(policy="drop_newest"))  # nothing to remember, or to wait for
people: dict[str, Counter[str]] = {}  # room -> name -> how many tabs; whoever has none is not in it

app = FastAPI(title="Chat", lifespan=hub.lifespan)
app.mount("/static", StaticFiles(directory=HERE / "static"))
app.mount("/shared", StaticFiles(directory=HERE.parent / "shared"))
app.include_router(hub.docs())  # /realtime: the WebSocket endpoints, to look at and to try


@app.get("/", include_in_schema=False)
async def lobby() -> RedirectResponse:
    return RedirectResponse("rooms/lobby")


@app.get("/rooms/{room}", include_in_schema=False)
async def page(room: RoomName) -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.websocket("/rooms/{room}")
async def chat(
    connection: Annotated[Connection[In, Out], Depends(hub)],
    room: RoomName,
    name: Name,
    since: Since,
) -> None:
    """Talk in a room, under a name.

    What is said there comes in an envelope with its position. Who comes back with the last one as `since` gets what it
    has missed.
    """
    channel, typing = rooms(room=room), typists(room=room)
    await connection.accept(user=name)
    await connection.join(channel, since=since, envelope=True)
    await connection.join(typing)
    present = people.setdefault(room, Counter())
    present[name] += 1
    try:
        if present[name] == 1:
            await channel.publish(Joined(name=name))
        await connection.send(Roster(names=sorted(present)))
        async for message in connection:
            match message:
                case Say():
                    await channel.publish(Said(name=name, text=message.text))
                case Typing():
                    await typing.publish(IsTyping(name=name), exclude=connection)
                case Whisper() if message.to in present:
                    whispered = Whispered(name=name, to=message.to, text=message.text)
                    # It reaches all tabs of both, the sender's own too, and those in other rooms as well.
                    for user in {name, message.to}:
                        await hub.send(user, whispered)
                case Whisper():
                    await connection.send(Absent(name=message.to))
    finally:
        present[name] -= 1
        if not present[name]:
            del present[name]
            if not present:
                del people[room]
            await channel.publish(Left(name=name))
