"""An application with everything that a document has to cope with, at once."""

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Path, Query, Security, WebSocket
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBearer,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OpenIdConnect,
)
from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag
from typing_extensions import TypeAliasType, TypedDict

from hubbub import Connection, Envelope, History, Hub, Limits, Outbox, Peer, Presence

T = TypeVar("T")

hub = Hub(limits=Limits(idle_s=60, first_message_s=5))
other_hub = Hub(on_invalid="close")
rooms = hub.channels("room:{room}:{side}", history=History(size=10), presence=Presence(grace_s=2))
frames = hub.channels("frames", outbox=Outbox(policy="latest"))
alerts = hub.channels("alert:{level}")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: float
    y: float = Field(0, description="Upwards")


class Circle(BaseModel):
    """A circle, by its middle."""

    shape: Literal["circle"]
    middle: Point
    radius: Annotated[float, Field(gt=0, le=100, examples=[2.5])]


class Square(BaseModel):
    shape: Literal["square"]
    corner: Point
    side: Annotated[int, Field(multiple_of=2)] = 2


class Group(BaseModel):
    """Shapes in shapes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shape": "group", "members": []}]})

    shape: Literal["group"]
    members: "list[Shape]"


Shape = Annotated[Circle | Square | Group, Field(discriminator="shape")]


class Draw(BaseModel):
    type: Literal["draw"]
    shape: Shape
    colour: Colour = Colour.RED
    level: Level | None = None
    tags: Annotated[set[str], Field(max_length=3)] = set()
    place: tuple[int, int] = (0, 0)
    notes: dict[str, str] = {}
    extra: Any = None


class Erase(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["erase", "wipe"]
    id: UUID
    at: datetime
    within: timedelta = timedelta(seconds=1)
    price: Decimal = Decimal("1.5")
    from_: Annotated[str, Field(alias="from")]


Command = Annotated[Draw | Erase, Field(discriminator="type")]


class Page(BaseModel, Generic[T]):
    """One page of many."""

    items: list[T]
    next: "Page[T] | None" = None


class Tree(BaseModel):
    name: str
    children: "list[Tree]" = []


@dataclass
class Done:
    """Something is done."""

    on: date
    by: str = "nobody"


class Progress(TypedDict):
    percent: int


class Numbers(RootModel[list[int]]):
    """Some numbers."""


class Either(RootModel[Annotated[Circle | Square, Field(discriminator="shape")]]):
    pass


def kind_of(value: Any) -> str:
    return "tree" if "name" in (value if isinstance(value, dict) else vars(value)) else "point"


Tagged = Annotated[Annotated[Tree, Tag("tree")] | Annotated[Point, Tag("point")], Discriminator(kind_of)]
Alias = TypeAliasType("Alias", Page[Point] | Page[Tree])


class NoSchemaAtAll:
    pass


class Opaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: NoSchemaAtAll


class Filters(BaseModel):
    since: int | None = Field(None, description="The oldest that counts")
    colours: list[Colour] = []


class Agents(BaseModel):
    user_agent: str | None = None


password = OAuth2PasswordBearer(tokenUrl="token", scopes={"draw": "May draw"})
code = OAuth2AuthorizationCodeBearer(
    authorizationUrl="https://accounts.example.org/authorize",
    tokenUrl="https://accounts.example.org/token",
    scopes={"draw": "May draw", "erase": "May erase"},
)
oidc = OpenIdConnect(openIdConnectUrl="https://accounts.example.org/.well-known/openid-configuration")


async def session(token: Annotated[str, Depends(APIKeyQuery(name="token"))]) -> AsyncIterator[str]:
    yield token


def actor(
    bearer: Annotated[str, Security(code, scopes=["draw"])],
    token: Annotated[str, Depends(session)],
    lang: Annotated[str, Cookie()] = "en",
) -> str:
    return bearer + token + lang


app = FastAPI(
    title="Kitchen sink",
    version="1.2.3",
    description="Everything at once.",
    terms_of_service="https://example.org/terms",
    contact={"name": "Ada", "email": "ada@example.org"},
    license_info={"name": "MIT", "identifier": "MIT"},
    openapi_tags=[{"name": "drawing", "description": "Lines and shapes"}],
    lifespan=hub.lifespan,
)
drawing = APIRouter(prefix="/draw", tags=["drawing"])


@drawing.websocket("/{board}/{layer:int}")
async def draw(
    connection: Annotated[
        Connection[Command, Alias | Done | Progress | Numbers | int | None], Depends(hub.connection(limits=Limits()))
    ],
    board: Annotated[str, Path(description="Which board", examples=["main"], min_length=2)],
    layer: int,
    filters: Annotated[Filters, Query()],
    agents: Annotated[Agents, Header()],
    who: Annotated[str, Depends(actor)],
    x_trace: Annotated[str | None, Header()] = None,
    hidden: Annotated[str, Query(include_in_schema=False)] = "",
    limit: Annotated[int, Query(ge=1, le=100, alias="max", deprecated=True)] = 10,
) -> None:
    """Draw on a board.

    Everybody sees it.
    \f
    Not for readers.
    """
    async for _ in connection:
        pass


@app.websocket("/news")
async def news(connection: Annotated[Connection[str, Done | Envelope[Done | Progress]], Depends(hub)]) -> None:
    """What is new, with its position."""


@app.websocket("/files/{name:path}")
async def files(connection: Annotated[Connection[bytes, bytes], Depends(hub)]) -> None:
    async for data in connection:
        await connection.send(data)


@app.websocket("/both")
async def both(connection: Annotated[Connection[str | bytes], Depends(hub)]) -> None:
    """Either kind."""


@app.websocket("/plain")
async def plain(connection: Annotated[Connection, Depends(hub)]) -> None:
    """No types at all."""


@app.websocket("/no-hub/{thing}")
async def no_hub(websocket: WebSocket, thing: Literal["a", "b"]) -> None:
    await websocket.accept()


@app.websocket("/opaque")
async def opaque(connection: Annotated[Connection[Opaque | Tree, Opaque], Depends(hub)]) -> None: ...


@app.websocket("/secured")
async def secured(
    connection: Annotated[Connection[Either, Tagged], Depends(other_hub)],
    by_header: Annotated[str, Depends(APIKeyHeader(name="X-Key"))],
    by_cookie: Annotated[str, Depends(APIKeyCookie(name="sid", description="From the login"))],
    basic: Annotated[Any, Depends(HTTPBasic())],
    bearer: Annotated[Any, Depends(HTTPBearer(bearerFormat="JWT"))],
    by_password: Annotated[str, Depends(password)],
    by_oidc: Annotated[str, Depends(oidc)],
) -> None: ...


@rooms.on_join
async def may_join(peer: Peer, room: Annotated[str, Path(pattern="^[a-z]+$")], side: int) -> None: ...


@rooms.on_publish
async def say(peer: Peer, room: str, message: Draw) -> Done | None: ...


@alerts.on_publish
def alert(peer: Peer, level: Level, message: Annotated[str, Field(max_length=10)]) -> None: ...


sub = FastAPI(title="Below")


@sub.websocket("/draw/{board}")
async def draw_below(connection: Annotated[Connection[Tree, Page[Tree]], Depends(hub)], board: UUID) -> None: ...


secret = APIRouter(include_in_schema=False)


@secret.websocket("/secret")
async def hidden_endpoint(connection: Annotated[Connection, Depends(hub)]) -> None: ...


outer = APIRouter(prefix="/v1", tags=["drawing", "v1"])
outer.include_router(drawing, tags=[Colour.RED])
app.include_router(outer)
app.include_router(drawing)
app.include_router(secret)
app.mount("/below/{tenant}", sub)
app.include_router(hub.docs())
