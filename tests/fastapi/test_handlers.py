"""Handlers: what they are given and from where, when their dependencies are closed, and which declarations are none."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import FunctionType
from typing import Annotated, Any, Literal, NewType

import pydantic
import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
)
from fastapi.security import APIKeyHeader, SecurityScopes
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from typing_extensions import TypeAliasType

from hubbub.errors import Denied, InvalidMessage
from hubbub.fastapi.connection import Connection
from hubbub.fastapi.handlers import Handler, requestless_scope
from hubbub.fastapi.hub import Hub
from hubbub.fastapi.peer import Peer, RequestPeer
from hubbub.state.pattern import ChannelPattern

ROOMS = ChannelPattern("room:{room}")
GAMES = ChannelPattern("game:{game}:{team}")

Scope = dict[str, Any]


class Say(pydantic.BaseModel):
    type: Literal["say"] = "say"
    text: str


class Move(pydantic.BaseModel):
    type: Literal["move"]
    x: int


@dataclasses.dataclass
class Point:
    x: int


Text = NewType("Text", str)


def scope_of(kind: str = "websocket", app: Any = None, **headers: str) -> Scope:
    """Return the scope of a peer on `/there/{place}?token=secret`, as FastAPI would have it."""
    return {
        "type": kind,
        "method": "GET",
        "scheme": "ws",
        "path": "/there/1",
        "path_params": {"place": "1"},
        "query_string": b"token=secret&limit=x",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 50_000),
        "server": ("testserver", 80),
        "state": {},
        "app": app or FastAPI(),
    }


def peer_of(scope: Scope, user: str | None = "ann") -> RequestPeer:
    return RequestPeer(Request({**scope, "type": "http"}), user)


async def call(
    function: Callable[..., Any],
    parameters: Mapping[str, str] | None = None,
    message: object = None,
    *,
    pattern: ChannelPattern = ROOMS,
    scope: Scope | None = None,
    takes: str | None = None,
) -> Any:
    """Declare a handler and call it once, by default for `room:7`."""
    scope = scope or scope_of()
    before = {**scope, "path_params": {**scope["path_params"]}}
    handler = Handler(function, pattern, takes=takes)
    try:
        return await handler.call(peer_of(scope), scope, parameters or {"room": "7"}, message)
    finally:
        assert scope == before


async def publish(function: Callable[..., Any], message: object, **more: Any) -> Any:
    return await call(function, None, message, takes="message", **more)


def from_source(source: str, **names: Any) -> FunctionType:
    """Return the function `handler` of a module with postponed annotations."""
    module: dict[str, Any] = {"Peer": Peer, "Annotated": Annotated, "Depends": Depends, "Say": Say, **names}
    exec("from __future__ import annotations\n" + source, module)
    function = module["handler"]
    assert isinstance(function, FunctionType)
    return function


class Journal(list[str]):
    """What happened, in order, and dependencies that write it down."""

    async def opened(self) -> AsyncIterator[str]:
        self.append("opened")
        try:
            yield "session"
        except Exception as error:
            self.append(f"saw {type(error).__name__}")
            raise
        finally:
            self.append("closed")

    def opened_in_a_thread(self) -> Iterator[str]:
        self.append("opened")
        try:
            yield "session"
        except Exception as error:
            self.append(f"saw {type(error).__name__}")
            raise
        finally:
            self.append("closed")


# The peer


def test_a_request_peer_is_what_a_peer_is() -> None:
    scope = scope_of("http", x_token="t")
    peer: Peer = RequestPeer(Request(scope), "ann")
    peer.state.seen = True
    assert (peer.user, peer.headers["x-token"], peer.query_params["token"]) == ("ann", "t", "secret")
    assert (peer.path_params, peer.client and peer.client.host) == ({"place": "1"}, "192.0.2.1")
    assert scope["state"] == {"seen": True}
    assert repr(peer) == "<RequestPeer /there/1 user='ann'>"
    assert RequestPeer(Request(scope)).user is None


def annotated_with_peer(someone: Peer) -> object:
    return someone


def annotated_with_peer_and_more(someone: Annotated[Peer, "more"]) -> object:
    return someone


def named_peer(peer) -> object:  # type: ignore[no-untyped-def]
    return peer


def named_peer_of_any_type(peer: Any) -> object:
    return peer


@pytest.mark.parametrize(
    "function",
    [annotated_with_peer, annotated_with_peer_and_more, named_peer, named_peer_of_any_type],
    ids=lambda function: function.__name__,
)
async def test_the_peer_is_given_by_its_annotation_or_its_name(function: Callable[..., Any]) -> None:
    peer = peer_of(scope_of())
    assert await Handler(function, ROOMS).call(peer, None, {"room": "7"}) is peer


async def test_a_handler_needs_no_peer() -> None:
    async def handler(room: str) -> str:
        return room

    assert await call(handler) == "7"


@pytest.mark.parametrize("annotation", [Connection, Connection[Say, Say], Annotated[Connection[str], "more"]], ids=str)
async def test_a_connection_is_given_where_the_peer_is_one(annotation: Any) -> None:
    app, hub, seen = FastAPI(), Hub(), list[Any]()

    async def handler(someone) -> object:  # type: ignore[no-untyped-def]
        return someone

    handler.__annotations__["someone"] = annotation
    declared = Handler(handler, ROOMS)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        seen.append(await declared.call(connection, connection.websocket.scope, {"room": "7"}) is connection)

    scope = {**scope_of("websocket", app, host="testserver"), "path": "/ws", "extensions": {}, "subprotocols": []}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event["type"])

    await app(scope, receive, send)
    assert (seen, sent) == ([True], ["websocket.close"])


async def test_a_request_is_no_connection() -> None:
    async def handler(someone: Connection) -> None: ...

    with pytest.raises(TypeError, match="'someone' takes a Connection, and this is RequestPeer: annotate it with Peer"):
        await call(handler)


async def test_a_channel_parameter_named_peer_is_one_unless_it_is_annotated_with_peer() -> None:
    async def parameter(peer: int) -> int:
        return peer

    async def both(someone: Peer, peer: int) -> tuple[str | None, int]:
        return someone.user, peer

    pattern = ChannelPattern("direct:{peer}")
    assert await call(parameter, {"peer": "7"}, pattern=pattern) == 7
    assert await call(both, {"peer": "7"}, pattern=pattern) == ("ann", 7)


# The channel's parameters


async def test_parameters_are_validated_as_path_parameters() -> None:
    async def handler(game: int, team: Literal["red", "blue"]) -> tuple[int, str]:
        return game, team

    assert await call(handler, {"game": "7", "team": "red"}, pattern=GAMES) == (7, "red")


async def test_not_all_parameters_need_be_asked_for() -> None:
    async def handler(team: str) -> str:
        return team

    assert await call(handler, {"game": "7", "team": "red"}, pattern=GAMES) == "red"


async def test_a_parameter_may_be_under_another_name() -> None:
    async def handler(number: Annotated[int, Path(alias="room", gt=3)]) -> int:
        return number

    assert await call(handler) == 7
    with pytest.raises(Denied, match=r"^room: Input should be greater than 3$"):
        await call(handler, {"room": "2"})


def plain(room: int) -> int:
    return room


def with_dependency(room: int, _: Annotated[int, Depends(plain)]) -> int:
    return room


@pytest.mark.parametrize("function", [plain, with_dependency], ids=lambda function: function.__name__)
async def test_an_invalid_parameter_is_a_refusal_that_does_not_quote_it(function: Callable[..., Any]) -> None:
    with pytest.raises(Denied) as denied:
        await call(function, {"room": "MARKER" * 100})
    assert denied.value.reason == "room: Input should be a valid integer, unable to parse string as an integer"
    assert denied.value.status == 422


async def test_a_refusal_fits_a_close_reason() -> None:
    def check(value: str) -> str:
        raise ValueError("none of mine " * 100)

    async def handler(room: Annotated[str, pydantic.AfterValidator(check)]) -> None: ...

    with pytest.raises(Denied, match=r"^room: ") as denied:
        await call(handler)
    assert len(denied.value.reason.encode()) <= 123


# The message


def taking(annotation: Any) -> Callable[..., Any]:
    async def handler(message) -> Any:  # type: ignore[no-untyped-def]
        return message

    handler.__annotations__["message"] = annotation
    return handler


@pytest.mark.parametrize(
    ("annotation", "message", "expected"),
    [
        (Say, {"text": "hi"}, Say(text="hi")),
        (Say, Say(text="hi"), Say(text="hi")),
        (Say, '{"text":"hi"}', Say(text="hi")),
        (Point, {"x": "1"}, Point(1)),
        (Point, Point(1), Point(1)),
        (Say | Move, {"type": "move", "x": 1}, Move(type="move", x=1)),
        (Annotated[Say | Move, pydantic.Field(discriminator="type")], {"type": "say", "text": ""}, Say(text="")),
        (Annotated[Say, Body()], {"text": "hi"}, Say(text="hi")),
        (TypeAliasType("Alias", Say | Move), '{"type":"move","x":1}', Move(type="move", x=1)),
        (list[int], "[1]", [1]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (int, "7", 7),
        (str, '{"text":"hi"}', '{"text":"hi"}'),
        (bytes, b"raw", b"raw"),
        (str | bytes, b"raw", b"raw"),
        (Annotated[str, pydantic.Field(max_length=5)], "hello", "hello"),
        (Text, "hello", "hello"),
        (Literal["ping"], "ping", "ping"),
        (Say | str, "hello", "hello"),
        (Any, {"as": "it is"}, {"as": "it is"}),
    ],
)
async def test_a_message_is_validated_against_its_annotation(annotation: Any, message: object, expected: Any) -> None:
    assert await publish(taking(annotation), message) == expected


async def test_a_message_without_an_annotation_is_passed_on_as_it_is() -> None:
    async def handler(message) -> Any:  # type: ignore[no-untyped-def]
        return message

    message = object()
    assert await publish(handler, message) is message


@pytest.mark.parametrize(
    ("annotation", "message", "kind", "code"),
    [
        (Say, {"txt": "MARKER"}, "missing", 1008),
        (Say, "{MARKER", "json_invalid", 1007),
        (Say, b"MARKER", "model_attributes_type", 1008),
        (Point, 7, "dataclass_type", 1008),
        (str, {"MARKER": 1}, "string_type", 1008),
        (str, b"MARKER", "string_type", 1008),
        (bytes, "MARKER", "bytes_type", 1008),
        (Annotated[str, pydantic.Field(max_length=2)], "MARKER", "string_too_long", 1008),
        (Annotated[Say | Move, pydantic.Field(discriminator="type")], {"type": "MARKER"}, "union_tag_invalid", 1008),
    ],
)
async def test_an_invalid_message_is_refused_without_being_quoted(
    annotation: Any, message: object, kind: str, code: int
) -> None:
    with pytest.raises(InvalidMessage) as invalid:
        await publish(taking(annotation), message)
    assert [error["type"] for error in invalid.value.errors] == [kind]
    assert invalid.value.close_code == code
    assert "MARKER" not in str(invalid.value)


async def test_dependencies_are_not_opened_for_an_invalid_message() -> None:
    journal = Journal()

    async def handler(message: Say, session: Annotated[str, Depends(journal.opened)]) -> None: ...

    with pytest.raises(InvalidMessage):
        await publish(handler, {})
    assert journal == []


# How it is called


async def test_a_sync_function_runs_in_a_thread() -> None:
    def handler(room: int) -> tuple[int, bool]:
        return room, threading.current_thread() is threading.main_thread()

    assert await call(handler) == (7, False)


class Callable_:
    async def __call__(self, peer: Peer, room: int) -> tuple[str | None, int]:
        return peer.user, room

    async def method(self, peer: Peer, room: int) -> tuple[str | None, int]:
        return peer.user, room


async def with_more(more: str, peer: Peer, room: int) -> tuple[str | None, int]:
    return peer.user, room


@functools.wraps(Callable_().method)
def wrapper(*arguments: Any, **named: Any) -> Any:
    return Callable_().method(*arguments, **named)


@pytest.mark.parametrize(
    "function",
    [Callable_(), Callable_().method, functools.partial(with_more, "more"), wrapper],
    ids=["object", "method", "partial", "wrapped"],
)
async def test_methods_objects_partials_and_decorated_functions_are_functions(function: Callable[..., Any]) -> None:
    assert await call(function) == ("ann", 7)


async def test_postponed_annotations_are_read() -> None:
    handler = from_source(
        "async def handler(someone: Peer, room: int, message: Say, given: Annotated[str, Depends(provide)]):\n"
        "    return someone.user, room, message.text, given",
        provide=lambda: "given",
    )
    assert await publish(handler, {"text": "hi"}) == ("ann", 7, "hi", "given")


def test_a_handler_says_whether_it_needs_a_scope() -> None:
    async def header(token: Annotated[str, Header()]) -> None: ...
    async def query(token: Annotated[str, Query()]) -> None: ...
    async def cookie(token: Annotated[str, Cookie()]) -> None: ...
    async def request(connection: HTTPConnection) -> None: ...
    async def response(response: Response) -> None: ...

    assert not Handler(plain, ROOMS).needs_scope
    assert all(
        Handler(function, ROOMS).needs_scope for function in (header, query, cookie, request, response, with_dependency)
    )
    assert repr(Handler(plain, ROOMS)) == "<Handler plain>"
    assert Handler(plain, ROOMS).function is plain


async def test_dependencies_without_a_scope_are_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match="with_dependency: its dependencies read the request or the handshake"):
        await Handler(with_dependency, ROOMS).call(peer_of(scope_of()), None, {"room": "7"})


# Dependencies


@pytest.mark.parametrize("scope", ["function", "request", None])
@pytest.mark.parametrize("kind", ["opened", "opened_in_a_thread"])
async def test_a_yield_dependency_is_closed_when_the_call_returns(kind: str, scope: Any) -> None:
    journal = Journal()

    async def handler(room: int, session: Annotated[str, Depends(getattr(journal, kind), scope=scope)]) -> str:
        journal.append(f"called with {session}")
        return "returned"

    assert await call(handler) == "returned"
    assert journal == ["opened", "called with session", "closed"]


@pytest.mark.parametrize("kind", ["opened", "opened_in_a_thread"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Denied("no"), Denied), (HTTPException(402), Denied), (LookupError("lost"), LookupError)],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
async def test_a_yield_dependency_sees_what_the_handler_raises(
    kind: str, error: Exception, outcome: type[Exception]
) -> None:
    journal = Journal()

    async def handler(session: Annotated[str, Depends(getattr(journal, kind))]) -> None:
        raise error

    with pytest.raises(outcome):
        await call(handler)
    assert journal == ["opened", f"saw {type(error).__name__}", "closed"]


async def test_a_yield_dependency_sees_that_a_parameter_is_invalid() -> None:
    journal = Journal()

    async def handler(room: int, session: Annotated[str, Depends(journal.opened)]) -> None:
        journal.append("called")

    with pytest.raises(Denied):
        await call(handler, {"room": "x"})
    assert journal == ["opened", "saw Denied", "closed"]


async def swallows() -> AsyncIterator[None]:
    with contextlib.suppress(Denied):
        yield


async def test_a_dependency_that_swallows_a_refusal_does_not_turn_it_into_a_consent() -> None:
    async def handler(_: Annotated[None, Depends(swallows)]) -> None:
        raise Denied("no")

    with pytest.raises(RuntimeError, match="has caught an exception and not raised it again"):
        await call(handler)


async def fails_at_its_end() -> AsyncIterator[None]:
    yield
    raise HTTPException(409, "conflict")


async def test_what_a_dependency_raises_at_its_end_is_what_the_call_raises() -> None:
    async def handler(_: Annotated[None, Depends(fails_at_its_end)]) -> None: ...

    with pytest.raises(Denied, match="conflict"):
        await call(handler)


async def test_a_dependency_is_called_once_a_call_and_anew_for_the_next() -> None:
    calls: list[int] = []

    def number() -> int:
        calls.append(len(calls))
        return calls[-1]

    def nested(of: Annotated[int, Depends(number)]) -> int:
        return of

    async def handler(
        one: Annotated[int, Depends(number)],
        two: Annotated[int, Depends(nested)],
        own: Annotated[int, Depends(number, use_cache=False)],
    ) -> tuple[int, int, int]:
        return one, two, own

    declared, scope = Handler(handler, ROOMS), scope_of()
    assert await declared.call(peer_of(scope), scope, {"room": "7"}) == (0, 0, 1)
    assert await declared.call(peer_of(scope), scope, {"room": "7"}) == (2, 2, 3)


async def test_nested_dependencies_see_the_channels_parameters_the_headers_the_query_and_the_cookies() -> None:
    async def inner(room: int, x_token: Annotated[str, Header()], token: str) -> tuple[int, str, str]:
        return room, x_token, token

    def outer(inner: Annotated[tuple[int, str, str], Depends(inner)], session: Annotated[str, Cookie()]) -> Any:
        return (*inner, session)

    async def handler(room: Annotated[Any, Depends(outer)]) -> Any:
        return room

    scope = scope_of(x_token="t", cookie="session=s")
    assert await call(handler, scope=scope) == (7, "t", "secret", "s")


class Pagination:
    def __init__(self, limit: Annotated[int, Query(alias="most")] = 10) -> None:
        self.limit = limit


async def test_a_class_is_a_dependency_and_a_default_may_be_the_marker() -> None:
    async def handler(page: Annotated[Pagination, Depends()], room: int = Path(), plain: int = Depends(plain)) -> Any:
        return page.limit, room, plain

    assert await call(handler) == (10, 7, 7)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_security_gets_its_scopes(kind: str) -> None:
    key = APIKeyHeader(name="x-key")

    async def user(scopes: SecurityScopes, request: HTTPConnection) -> tuple[list[str], str]:
        return scopes.scopes, request.headers["x-key"]

    async def handler(user: Annotated[Any, Security(user, scopes=["join"])]) -> Any:
        return user

    async def with_key(key: Annotated[str, Security(key)]) -> str:
        return key

    assert await call(handler, scope=scope_of(kind, x_key="k")) == (["join"], "k")
    if kind == "http":  # FastAPI's own schemes ask for a Request
        assert await call(with_key, scope=scope_of(kind, x_key="k")) == "k"
        with pytest.raises(Denied, match="Not authenticated"):
            await call(with_key, scope=scope_of(kind))


async def test_dependency_overrides_of_the_application_hold() -> None:
    app, journal = FastAPI(), Journal()

    def never() -> str:
        raise AssertionError("overridden")

    def nested(of: Annotated[str, Depends(never)]) -> str:
        return of

    async def handler(room: int, given: Annotated[str, Depends(nested)]) -> str:
        return given

    app.dependency_overrides[never] = journal.opened
    assert await call(handler, scope=scope_of(app=app)) == "session"
    assert journal == ["opened", "closed"]


async def test_an_application_without_overrides_will_do() -> None:
    assert await call(with_dependency, scope=scope_of(app=Starlette())) == 7


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda token: None, "header.x-token: Field required"),
        (lambda limit: None, "query.limit: Input should be a valid integer, unable to parse string as an integer"),
    ],
    ids=["header", "query"],
)
async def test_an_invalid_header_or_query_parameter_is_a_refusal(function: Any, reason: str) -> None:
    function.__annotations__.update(token=Annotated[str, Header(alias="x-token")], limit=Annotated[int, Query()])
    with pytest.raises(Denied) as denied:
        await call(function)
    assert (denied.value.reason, denied.value.status) == (reason, 422)


# The scope


async def test_a_websocket_in_a_handler_reads_the_scope_and_does_not_send() -> None:
    async def handler(websocket: WebSocket, connection: HTTPConnection) -> Any:
        websocket.state.seen = True
        with pytest.raises(RuntimeError, match="cannot send or receive"):
            await websocket.receive()
        return websocket is connection, websocket.headers["x-token"], websocket.path_params

    scope = scope_of(x_token="t")
    handlers = Handler(handler, ROOMS)
    assert await handlers.call(peer_of(scope), scope, {"room": "7"}) == (True, "t", {"room": "7"})
    assert scope["state"] == {"seen": True}  # the application's own place, which is meant to be shared
    assert scope["path_params"] == {"place": "1"}
    assert not [key for key in scope if key.startswith("fastapi")]


async def test_a_request_in_a_handler_is_on_a_scope_of_its_own() -> None:
    async def handler(request: Request) -> Any:
        request.scope["more"] = True
        return request.path_params

    assert await call(handler, scope=scope_of("http")) == {"room": "7"}


@pytest.mark.parametrize("stack", ["fastapi_middleware_astack", "fastapi_inner_astack", "fastapi_function_astack"])
async def test_exits_that_a_dependency_pushes_run_at_the_end_of_the_call_and_not_of_the_connection(stack: str) -> None:
    journal = Journal()

    async def pushes(connection: HTTPConnection) -> None:
        connection.scope[stack].callback(journal.append, "exit")

    async def handler(_: Annotated[None, Depends(pushes)]) -> None:
        journal.append("called")

    scope = {**scope_of(), "fastapi_middleware_astack": None, "fastapi_inner_astack": None}
    await call(handler, scope=scope)
    assert journal == ["called", "exit"]


# What is raised


@pytest.mark.parametrize("function", ["handler", "dependency"])
async def test_an_http_exception_is_a_refusal_with_its_status_and_headers(function: str) -> None:
    async def raises() -> None:
        raise HTTPException(429, "too fast", headers={"Retry-After": "7"})

    async def handler(_: Annotated[None, Depends(raises)]) -> None: ...

    with pytest.raises(Denied) as denied:
        await call(raises if function == "handler" else handler)
    assert (denied.value.reason, denied.value.status, denied.value.headers) == ("too fast", 429, {"Retry-After": "7"})
    assert isinstance(denied.value.__cause__, HTTPException)


async def test_an_http_exception_without_more_is_a_refusal_too() -> None:
    async def handler() -> None:
        raise HTTPException(403)

    with pytest.raises(Denied, match=r"^Forbidden$") as denied:
        await call(handler)
    assert denied.value.headers == {}


@pytest.mark.parametrize("error", [Denied("no", limit="mine"), LookupError("lost")], ids=["Denied", "LookupError"])
async def test_other_exceptions_pass_through(error: Exception) -> None:
    async def handler() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await call(handler)
    assert raised.value is error


# Handlers without a peer


async def test_a_handler_without_a_peer_has_parameters_dependencies_and_a_request_that_says_nothing() -> None:
    app = FastAPI()
    app.state.pool = "pool"
    app.dependency_overrides[plain] = lambda: "overridden"

    def pool(request: Request, limit: int = 10, x_token: Annotated[str | None, Header()] = None) -> Any:
        return request.app.state.pool, request.state.session, request.path_params, limit, x_token

    async def handler(room: int, pool: Annotated[Any, Depends(pool)], more: Annotated[Any, Depends(plain)]) -> Any:
        return room, *pool, more

    scope = requestless_scope(app, {"session": "lifespan's"})
    result = await Handler(handler, ROOMS, takes_peer=False).call(None, scope, {"room": "7"})
    assert result == (7, "pool", "lifespan's", {"room": "7"}, 10, None, "overridden")
    assert scope["path_params"] == {}


async def test_a_handler_without_a_peer_needs_no_application() -> None:
    assert await Handler(with_dependency, ROOMS, takes_peer=False).call(None, requestless_scope(), {"room": "7"}) == 7


def needs_query(token: str) -> None: ...
def needs_websocket(websocket: WebSocket) -> None: ...


def with_peer(someone: Peer) -> None: ...
def with_named_peer(peer: Any) -> None: ...
def with_query(token: Annotated[str, Query()]) -> None: ...
def with_header(_: Annotated[None, Depends(needs_query)]) -> None: ...
def with_websocket(_: Annotated[None, Depends(needs_websocket)]) -> None: ...


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (with_peer, "with_peer: parameter 'someone': .* it has no peer"),
        (with_named_peer, "with_named_peer: parameter 'peer': .* it has no peer"),
        (with_query, "with_query: parameter 'token': nobody .* give it a default"),
        (with_header, "with_header: dependency needs_query: parameter 'token': nobody .* give it a default"),
        (with_websocket, "with_websocket: dependency needs_websocket: .* ask for an HTTPConnection"),
    ],
)
def test_what_only_a_peer_has_is_refused_where_there_is_none(function: Callable[..., Any], fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        Handler(function, ROOMS, takes_peer=False)


# What is no handler


def unmarked(peer: Peer, user: str) -> None: ...
def unmarked_with_default(peer: Peer, user: str = "") -> None: ...
def body(peer: Peer, thing: Say) -> None: ...
def marked_body(thing: Annotated[Say, Body()]) -> None: ...
def form(thing: Annotated[str, Form()]) -> None: ...
def file(thing: Annotated[bytes, File()]) -> None: ...
def body_of(thing: Say) -> None: ...
def nested_body(_: Annotated[None, Depends(body_of)]) -> None: ...
def background(tasks: BackgroundTasks) -> None: ...
def another_path(place: Annotated[int, Path()]) -> None: ...
def two_peers(one: Peer, two: Connection) -> None: ...
def other_peer(peer: str) -> None: ...
def optional_peer(someone: Peer | None) -> None: ...
def positional(room: str, /) -> None: ...
def many(*rooms: str) -> None: ...
def more(**rooms: str) -> None: ...
def no_message(message: str) -> None: ...
def path_of_a_type_that_it_cannot_have(room: Say) -> None: ...
def no_type(given: Annotated[dict[str, int], Query()]) -> None: ...
async def yields(room: str) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (
            unmarked,
            r"unmarked: parameter 'user': the channels 'room:\{room\}' have no such .* Depends\(…\), Header\(\)",
        ),
        (unmarked_with_default, "unmarked_with_default: parameter 'user': the channels"),
        (body, "body: parameter 'thing': the channels"),
        (marked_body, "parameter 'thing': a channel's event has no body, form or file"),
        (form, "parameter 'thing': a channel's event has no body, form or file"),
        (file, "parameter 'thing': a channel's event has no body, form or file"),
        (nested_body, "nested_body: dependency body_of: parameter 'thing': a channel's event has no body"),
        (background, "parameter 'tasks': nothing runs background tasks here"),
        (another_path, r"parameter 'place': the channels 'room:\{room\}' have no parameter 'place'"),
        (two_peers, "parameter 'two': the peer is 'one' already"),
        (other_peer, "parameter 'peer': annotate the peer with Peer or Connection"),
        (optional_peer, "parameter 'someone'"),
        (positional, "parameter 'room': handlers are called with arguments by name"),
        (many, "parameter 'rooms': handlers are called with arguments by name"),
        (more, "parameter 'rooms': handlers are called with arguments by name"),
        (no_message, "parameter 'message': the channels .* have no such parameter"),
        (path_of_a_type_that_it_cannot_have, "path_of_a_type_that_it_cannot_have: Path params must be"),
        (no_type, "no_type: (Query parameter 'given' must be|FastAPI cannot read)"),
        (yields, "yields: a handler returns, it does not yield"),
        (Say, "a handler is a function"),
        ("text", "'text': a handler is a function"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_declaration_is_a_type_error_that_names_parameter_and_remedy(function: Any, fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        Handler(function, ROOMS)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def handler(message: Say, given: Annotated[str, Depends(unknown)]): ...", "unknown"),
        ("def handler(message: Unknown): ...", "Unknown"),
    ],
)
def test_an_annotation_that_cannot_be_looked_up_is_a_type_error(source: str, fault: str) -> None:
    with pytest.raises(TypeError, match=f"{fault}.*what annotations name must be in the module at run time"):
        Handler(from_source(source), ROOMS, takes="message")


def dependency_as_message(message: Annotated[str, Depends(body_of)]) -> None: ...


class Unknown: ...


def no_schema(message: Unknown) -> None: ...


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (plain, "plain: it takes no message: add a parameter named 'message'"),
        (dependency_as_message, "parameter 'message': it gets the message, and cannot be a dependency too"),
        (no_schema, "no_schema: parameter 'message': Pydantic cannot validate .*Unknown"),
    ],
)
def test_a_handler_of_messages_must_take_one(function: Callable[..., Any], fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        Handler(function, ROOMS, takes="message")


def test_a_channel_parameter_cannot_have_the_messages_name() -> None:
    with pytest.raises(ValueError, match="rename that one"):
        Handler(no_message, ChannelPattern("re:{message}"), takes="message")
    Handler(no_message, ChannelPattern("re:{message}"))
