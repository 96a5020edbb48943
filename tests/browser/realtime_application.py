"""Applications for the page `/realtime`: with endpoints of all kinds, with none, and behind proxies of two kinds."""

import enum
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Literal, Union

from fastapi import Depends, FastAPI, Header, Path, Query, Security
from fastapi.routing import APIRouter
from fastapi.security import APIKeyQuery, HTTPBearer
from pydantic import BaseModel, Field, StringConstraints, create_model
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType

from hubbub import Connection, Envelope, History, Hub, Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Name = Annotated[str, StringConstraints(min_length=1, max_length=24)]
RoomName = Annotated[str, Path(pattern="^[a-z0-9-]{1,24}$", description="Where to talk", examples=["lobby"])]


class Say(BaseModel):
    """Say something to everybody in the room."""

    type: Literal["say"]
    text: Annotated[str, Field(min_length=1, max_length=200, description="What to say", examples=["Hello"])]
    loud: bool = False


class Whisper(BaseModel):
    type: Literal["whisper"]
    to: Name
    text: Annotated[str, Field(min_length=1)]


class Said(BaseModel):
    type: Literal["said"] = "said"
    name: str
    text: str
    loud: bool = False


class Whispered(BaseModel):
    type: Literal["whispered"] = "whispered"
    name: str
    text: str


class Joined(BaseModel):
    type: Literal["joined"] = "joined"
    name: str


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    x: float
    y: float = 0


class Circle(BaseModel):
    kind: Literal["circle"]
    centre: Point
    radius: Annotated[float, Field(gt=0)]


class Polygon(BaseModel):
    kind: Literal["polygon"]
    points: Annotated[list[Point], Field(min_length=3)]


class Node(BaseModel):
    """A part of a drawing, which has parts itself."""

    label: str
    children: list["Node"] = []


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")


class Draw(BaseModel):
    """Everything that a form has to know."""

    action: Literal["draw"]
    colour: Colour
    shape: Annotated[Circle | Polygon, Field(discriminator="kind")]
    tree: Node | None = None
    layer: Annotated[int, Field(ge=0, le=9, multiple_of=3)] = 3
    labels: dict[str, int] = {}
    pair: tuple[int, str] | None = None
    note: str | None = Field(None, description="Whatever else is to be said")
    extra: Any = None
    data: Json = None


class Drawn(BaseModel):
    action: Literal["drawn"] = "drawn"
    drawing: Draw


class Ticket:
    """A type that Pydantic can read, and of which there is no schema."""

    def __init__(self, value: object) -> None:
        self.value = value

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls)


hub = Hub(limits=Limits(message_bytes=16_384, messages_per_s=200, message_burst=500))
rooms = hub.channels("room:{room}", history=History(size=50))
app = FastAPI(
    title="Talk & <draw>", version="1.2.0", description="Rooms to talk in, and a canvas.", lifespan=hub.lifespan
)
talk = APIRouter(tags=["talk"])
canvas = APIRouter(tags=["canvas"])
raw = APIRouter(tags=["raw"])


@talk.websocket("/rooms/{room}")
async def chat(
    connection: Annotated[Connection[Say | Whisper, Said | Whispered | Joined], Depends(hub)],
    room: RoomName,
    name: Annotated[Name, Query(description="How others see you")],
    age: Annotated[int | None, Query(ge=18, le=120)] = None,
    topics: Annotated[list[str], Query()] = [],  # noqa: B006
    quiet: bool = False,
    x_client: Annotated[str | None, Header(description="What this client is")] = None,
) -> None:
    """Talk in a room.

    Everybody in it hears what you say. `Whisper` reaches one of them.
    """
    await connection.accept(user=name)
    await connection.join(rooms(room=room))
    await connection.send(Joined(name=name))
    async for message in connection:
        match message:
            case Say():
                await rooms(room=room).publish(Said(name=name, text=message.text, loud=message.loud))
            case Whisper():
                await hub.send(message.to, Whispered(name=name, text=message.text))


@talk.websocket("/rooms/{room}/history")
async def listen(
    connection: Annotated[Connection[None, Envelope[Said] | Envelope[Joined]], Depends(hub)],
    room: RoomName,
    since: str | None = None,
) -> None:
    """Hear a room, with the position of everything that is said."""
    await connection.join(rooms(room=room), envelope=True)
    async for _ in connection:
        pass


@canvas.websocket("/canvas")
async def draw(connection: Annotated[Connection[Draw, Drawn], Depends(hub)]) -> None:
    """Draw, and see what has been understood."""
    async for message in connection:
        await connection.send(Drawn(drawing=message))


@raw.websocket("/bytes")
async def mirror(connection: Annotated[Connection[bytes, bytes], Depends(hub)]) -> None:
    """What comes goes back, byte for byte."""
    async for message in connection:
        await connection.send(message)


@raw.websocket("/files/{path:path}")
async def files(connection: Annotated[Connection, Depends(hub)], path: str) -> None:
    """What it was asked for, and any text that is sent."""
    offered = connection.websocket["subprotocols"]
    await connection.accept(subprotocol=offered[0] if offered else None)
    await connection.send(path)
    async for message in connection:
        if message == "bye":
            await connection.close(4001, "bye to you")
        await connection.send(message)


@raw.websocket("/flood")
async def flood(connection: Annotated[Connection[str, str], Depends(hub)], count: int = 3_000) -> None:
    """A great many messages."""
    for number in range(count):
        await connection.send(f'{{"number": {number}, "large": 12345678901234567890}}')
    async for message in connection:
        await connection.send(message)


@raw.websocket("/secret")
async def secret(
    connection: Annotated[Connection[str, str], Depends(hub)],
    token: Annotated[str, Security(APIKeyQuery(name="token", description="Any token will do"))],
    bearer: Annotated[Any, Security(HTTPBearer(auto_error=False))],
) -> None:
    await connection.send(f"{token} {bearer.credentials if bearer else '-'}")
    async for _ in connection:
        pass


@raw.websocket("/lists")
async def lists(
    connection: Annotated[Connection[Ticket, Any], Depends(hub)],
    numbers: Annotated[list[int] | None, Query()] = None,
    x_trace: Annotated[list[str] | None, Header()] = None,
) -> None:
    """Parameters that come several times, and messages of which nothing is known."""
    await connection.send({"numbers": numbers, "trace": x_trace})
    async for message in connection:
        await connection.send({"ticket": message.value})


for router in (talk, canvas, raw):
    app.include_router(router)
app.include_router(hub.docs())

nothing = FastAPI(title="Nothing yet")
nothing.include_router(Hub().docs())

small_hub = Hub()
small = FastAPI(title="Small")
small.include_router(small_hub.docs(), prefix="/about")


@small.websocket("/echo")
async def echo(connection: Annotated[Connection[str, str], Depends(small_hub)]) -> None:
    async for message in connection:
        await connection.send(message)


class Number(BaseModel):
    op: Literal["number"]
    value: float


BINARY = [
    create_model(f"Op{n}", op=(Literal[f"op{n}"], ...), left=("Expression", ...), right=("Expression", ...))
    for n in range(12)
]
Expression: Any = Annotated[Union[(*BINARY, Number)], Field(discriminator="op")]
for model in BINARY:
    model.model_rebuild(_types_namespace={"Expression": Expression})


class Calculate(BaseModel):
    expression: Expression


@small.websocket("/calculate")
async def calculate(connection: Annotated[Connection[Calculate, Number], Depends(small_hub)]) -> None:
    """Expressions of expressions, of which there are many kinds, and the simplest comes last."""
    async for _ in connection:
        await connection.send(Number(op="number", value=42))


mounting = FastAPI(title="Mounting")
mounting.mount("/mounted", small)
mounting.mount("/empty", nothing)

UNTOLD = "/untold"
TOLD = "/told"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve them all: what a proxy in front would do is done here, told to the application or not."""
    path = scope.get("path", "")
    if path.startswith(UNTOLD):
        await small({**scope, "path": path.removeprefix(UNTOLD), "raw_path": None}, receive, send)
    elif path.startswith(TOLD):
        await small({**scope, "root_path": TOLD}, receive, send)
    elif path.startswith(("/mounted", "/empty")):
        await mounting(scope, receive, send)
    else:
        await app(scope, receive, send)
