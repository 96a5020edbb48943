"""What Hubbub relies on in FastAPI and Starlette, without Hubbub: a release that changes it fails here, by name."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AsyncExitStack
from types import FunctionType, MappingProxyType
from typing import Annotated, Any, Generic, get_args, get_origin

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_signature
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect, WebSocketState
from typing_extensions import TypeVar

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

INNER = "fastapi_inner_astack"
OUTER = "fastapi_middleware_astack"


async def handshake(app: App, path: str = "/ws", *, denial: bool = True, gone: bool = False) -> list[Event]:
    """Run one handshake against an application and return what it answered; the client leaves once it is accepted."""
    arriving: asyncio.Queue[Event] = asyncio.Queue()
    arriving.put_nowait({"type": "websocket.connect"})
    answers: list[Event] = []

    async def send(event: Event) -> None:
        if gone:
            raise OSError("the client is gone")
        answers.append(event)
        if event["type"] == "websocket.accept":
            arriving.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": "left"})

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("testclient", 50_000),
        "server": ("testserver", 80),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}} if denial else {},
    }
    await app(scope, arriving.get, send)
    return answers


class Journal(list[str]):
    """What happened, in order, with exits to be pushed on FastAPI's stacks."""

    def exit(self, name: str, *, swallows: bool = False) -> Callable[..., bool]:
        def note(kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
            self.append(f"{name} saw {type(error).__name__}")
            return swallows

        return note

    def async_exit(self, name: str, *, swallows: bool = False) -> Callable[..., Awaitable[bool]]:
        async def note(kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
            return self.exit(name, swallows=swallows)(kind, error, traceback)

        return note


# The two stacks of exits


async def test_a_websocket_route_has_both_exit_stacks_in_its_scope_when_dependencies_run() -> None:
    app = FastAPI()
    found: list[type] = []

    async def dependency(connection: HTTPConnection) -> None:
        found.extend(type(connection.scope[name]) for name in (INNER, OUTER))

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, _: Annotated[None, Depends(dependency)]) -> None: ...

    await handshake(app)
    assert found == [AsyncExitStack, AsyncExitStack]


async def test_plain_starlette_has_neither_exit_stack_nor_dependant() -> None:
    found: list[bool] = []

    async def endpoint(websocket: WebSocket) -> None:
        scope = websocket.scope
        found.extend([INNER in scope, OUTER in scope, hasattr(scope.get("route"), "dependant")])

    await handshake(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))
    assert found == [False, False, False]


@pytest.mark.parametrize("scope", ["request", "function"])
@pytest.mark.parametrize("error", [None, ValueError("wrong")], ids=["returns", "raises"])
async def test_the_outer_stack_unwinds_after_the_inner_one_and_after_every_yield_dependency(
    error: Exception | None, scope: Any
) -> None:
    app = FastAPI()
    journal = Journal()

    async def earlier() -> AsyncIterator[None]:
        try:
            yield
        finally:
            journal.append("earlier dependency closed")

    async def hub(connection: HTTPConnection) -> None:
        connection.scope[INNER].push(journal.exit("inner"))
        connection.scope[OUTER].push_async_exit(journal.async_exit("outer"))

    async def later() -> AsyncIterator[None]:
        try:
            yield
        finally:
            journal.append("later dependency closed")

    @app.websocket("/ws")
    async def endpoint(
        _1: Annotated[None, Depends(earlier)],
        _2: Annotated[None, Depends(hub)],
        _3: Annotated[None, Depends(later, scope=scope)],
    ) -> None:
        journal.append("endpoint")
        if error is not None:
            raise error

    if error is None:
        await handshake(app)
    else:
        with pytest.raises(ValueError, match="wrong"):
            await handshake(app)
    saw = type(error).__name__
    assert journal == [
        "endpoint",
        "later dependency closed",
        f"inner saw {saw}",
        "earlier dependency closed",
        f"outer saw {saw}",
    ]


async def test_an_exit_on_the_outer_stack_can_swallow_the_exception() -> None:
    app = FastAPI()
    journal = Journal()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        websocket.scope[OUTER].push_async_exit(journal.async_exit("outer", swallows=True))
        raise ValueError("wrong")

    await handshake(app)
    assert journal == ["outer saw ValueError"]


async def test_the_outer_stack_sees_a_cancellation() -> None:
    app = FastAPI()
    journal = Journal()
    started = asyncio.Event()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        websocket.scope[INNER].push(journal.exit("inner"))
        websocket.scope[OUTER].push_async_exit(journal.async_exit("outer"))
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(handshake(app))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal == ["inner saw CancelledError", "outer saw CancelledError"]


async def test_exits_pushed_by_a_dependency_run_although_a_later_dependency_or_parameter_fails() -> None:
    app = FastAPI()
    journal = Journal()

    async def hub(connection: HTTPConnection) -> None:
        connection.scope[INNER].push(journal.exit("inner"))
        connection.scope[OUTER].push_async_exit(journal.async_exit("outer"))

    @app.websocket("/{number}")
    async def endpoint(number: int, _: Annotated[None, Depends(hub)]) -> None: ...

    answers = await handshake(app, "/ws")
    assert journal == ["inner saw WebSocketRequestValidationError", "outer saw NoneType"]
    assert [answer["type"] for answer in answers] == ["websocket.close"]
    assert answers[0]["code"] == 1008


@pytest.mark.parametrize(
    "error", [HTTPException(418), WebSocketException(4000)], ids=lambda error: type(error).__name__
)
async def test_exception_handlers_run_between_the_inner_and_the_outer_stack(error: Exception) -> None:
    app = FastAPI()
    journal = Journal()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        websocket.scope[INNER].push(journal.exit("inner"))
        websocket.scope[OUTER].push_async_exit(journal.async_exit("outer"))
        raise error

    await handshake(app)
    assert journal == [f"inner saw {type(error).__name__}", "outer saw NoneType"]


async def test_an_exception_handler_gets_the_endpoints_own_websocket() -> None:
    app = FastAPI()
    seen: list[WebSocket] = []

    @app.exception_handler(LookupError)
    async def handler(websocket: WebSocket, error: LookupError) -> None:
        seen.append(websocket)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        seen.append(websocket)
        raise LookupError

    await handshake(app)
    assert seen[0] is seen[1]


# The route and its dependencies


class Provider:
    """A callable object as a dependency, like the hub."""

    async def __call__(self, connection: HTTPConnection) -> HTTPConnection:
        return connection


def reports_its_dependant(found: list[Dependant], provider: Provider) -> Callable[..., Awaitable[None]]:
    async def endpoint(given: Annotated[Any, Depends(provider)], item: str = "") -> None:
        found.append(given.scope["route"].dependant)

    return endpoint


def under_the_application(endpoint: App) -> App:
    app = FastAPI()
    app.websocket("/a/b/ws")(endpoint)
    return app


def under_an_included_router(endpoint: App) -> App:
    inner, middle, app = APIRouter(prefix="/b"), APIRouter(), FastAPI()
    inner.websocket("/ws")(endpoint)
    middle.include_router(inner)
    app.include_router(middle, prefix="/a")
    return app


def under_a_mounted_application(endpoint: App) -> App:
    inner, app = FastAPI(), FastAPI()
    inner.websocket("/b/ws")(endpoint)
    app.mount("/a", inner)
    return app


PLACES = [under_the_application, under_an_included_router, under_a_mounted_application]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_the_scope_names_the_route_and_its_dependant_keeps_callables_and_names(
    place: Callable[[App], App],
) -> None:
    found: list[Dependant] = []
    provider = Provider()
    endpoint = reports_its_dependant(found, provider)
    await handshake(place(endpoint), "/a/b/ws")
    assert found[0].call is endpoint
    assert [(sub.call, sub.name) for sub in found[0].dependencies] == [(provider, "given")]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_the_dependant_of_a_route_is_one_object_for_all_connections(place: Callable[[App], App]) -> None:
    found: list[Dependant] = []
    app = place(reports_its_dependant(found, Provider()))
    await handshake(app, "/a/b/ws")
    await handshake(app, "/a/b/ws")
    assert found[0] is found[1]


async def test_dependencies_of_routers_and_decorators_come_first_and_have_no_name() -> None:
    found: list[Dependant] = []
    first, second = Provider(), Provider()
    router, app = APIRouter(), FastAPI()
    router.websocket("/ws", dependencies=[Depends(second)])(reports_its_dependant(found, Provider()))
    app.include_router(router, dependencies=[Depends(first)])
    await handshake(app)
    assert [(sub.call, sub.name) for sub in found[0].dependencies[:2]] == [(first, None), (second, None)]


async def test_dependency_overrides_leave_the_routes_dependant_as_it_is() -> None:
    found: list[Dependant] = []
    provider = Provider()
    app = FastAPI()
    app.websocket("/ws")(reports_its_dependant(found, provider))
    app.dependency_overrides[provider] = Provider()
    await handshake(app)
    assert found[0].dependencies[0].call is provider


async def test_all_dependencies_and_the_endpoint_get_one_and_the_same_websocket() -> None:
    app = FastAPI()
    seen: list[HTTPConnection] = []

    async def another(websocket: WebSocket) -> None:
        seen.append(websocket)

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, given: Annotated[Any, Depends(Provider())], _: Annotated[None, Depends(another)]
    ) -> None:
        seen.extend([websocket, given])

    await handshake(app)
    assert seen[0] is seen[1] is seen[2]


async def test_a_callable_object_that_asks_for_an_http_connection_gets_a_request_in_an_http_route() -> None:
    app = FastAPI()
    seen: list[HTTPConnection] = []

    @app.get("/")
    async def route(given: Annotated[Any, Depends(Provider())]) -> None:
        seen.append(given)

    async def receive() -> Event:
        return {"type": "http.request", "body": b""}

    async def send(event: Event) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "extensions": {}}
    await app(scope, receive, send)
    assert [type(connection) for connection in seen] == [Request]


async def test_a_coroutine_dependency_shares_its_context_with_the_endpoint_and_its_tasks() -> None:
    app = FastAPI()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def dependency() -> None:
        variable.set("set")

    async def task() -> None:
        seen.append(variable.get())

    @app.websocket("/ws")
    async def endpoint(_: Annotated[None, Depends(dependency)]) -> None:
        seen.append(variable.get())
        await asyncio.create_task(task())

    await handshake(app)
    assert seen == ["set", "set"]


# Signatures


T = TypeVar("T", default=Any)
U = TypeVar("U", default=Any)


class Two(Generic[T, U]):
    """A generic class with defaults, like `Connection`."""


def defined_with_postponed_annotations(source: str) -> FunctionType:
    names: dict[str, Any] = {"Two": Two, "Annotated": Annotated, "Depends": Depends}
    exec("from __future__ import annotations\n" + source, names)
    function = names["function"]
    assert isinstance(function, FunctionType)
    return function


def test_get_typed_signature_resolves_postponed_annotations_and_keeps_annotated() -> None:
    function = defined_with_postponed_annotations("def function(given: Annotated[Two[int, str], 'more']): ...")
    annotation = get_typed_signature(function).parameters["given"].annotation
    assert get_origin(annotation) is Annotated
    assert get_args(annotation) == (Two[int, str], "more")


async def test_a_callable_object_as_a_dependency_may_have_postponed_annotations() -> None:
    """As the hub has them: FastAPI resolves them from 0.124 on."""
    names: dict[str, Any] = {"HTTPConnection": HTTPConnection}
    exec(
        "from __future__ import annotations\n"
        "class Postponed:\n"
        "    async def __call__(self, connection: HTTPConnection) -> HTTPConnection: return connection\n",
        names,
    )
    app = FastAPI()
    seen: list[type] = []

    @app.websocket("/ws")
    async def endpoint(given: Annotated[Any, Depends(names["Postponed"]())]) -> None:
        seen.append(type(given))

    await handshake(app)
    assert seen == [WebSocket]


def test_get_typed_signature_looks_through_a_decorator_and_a_partial() -> None:
    async def function(number: int, given: Two[int, str]) -> None: ...

    @functools.wraps(function)
    async def decorated(*args: Any, **kwargs: Any) -> None: ...

    for call in (decorated, functools.partial(function, 1)):
        assert get_typed_signature(call).parameters["given"].annotation == Two[int, str]


def test_type_parameter_defaults_fill_in_what_is_not_given() -> None:
    assert get_args(Two[int]) == (int, Any)
    assert get_origin(Two[int]) is Two


# Starlette's WebSocket


async def test_a_websocket_sends_and_receives_through_two_attributes_that_can_be_replaced() -> None:
    app = FastAPI()
    sent: list[Event] = []
    received: list[str] = []

    async def receive() -> Event:
        return {"type": "websocket.receive", "text": "mine"}

    async def send(event: Event) -> None:
        sent.append(event)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        websocket._receive, websocket._send = receive, send
        received.append(await websocket.receive_text())
        await websocket.send_text("a")
        await websocket.send_bytes(b"b")
        await websocket.send_json({"c": 1})
        await websocket.close(4000, "over")

    answers = await handshake(app)
    assert [answer["type"] for answer in answers] == ["websocket.accept"]
    assert received == ["mine"]
    assert sent == [
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b"b"},
        {"type": "websocket.send", "text": '{"c":1}'},
        {"type": "websocket.close", "code": 4000, "reason": "over"},
    ]


async def test_the_states_of_a_websocket_tell_whether_the_handshake_has_been_answered() -> None:
    app = FastAPI()
    states: list[WebSocketState] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        states.append(websocket.application_state)
        await websocket.accept()
        states.append(websocket.application_state)
        await websocket.close()
        states.append(websocket.application_state)

    await handshake(app)
    assert states == [WebSocketState.CONNECTING, WebSocketState.CONNECTED, WebSocketState.DISCONNECTED]


async def test_an_os_error_of_the_server_while_accepting_reaches_the_caller() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    with pytest.raises(OSError, match="the client is gone"):
        await handshake(app, gone=True)


async def test_a_websocket_turns_an_os_error_into_a_disconnect_once_accepted() -> None:
    app = FastAPI()

    async def send(event: Event) -> None:
        raise OSError

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        websocket._send = send
        with pytest.raises(WebSocketDisconnect) as ended:
            await websocket.send_text("lost")
        assert ended.value.code == 1006

    await handshake(app)


async def test_a_received_disconnect_has_a_code_and_a_reason() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(WebSocketDisconnect) as ended:
            await websocket.receive_text()
        assert (ended.value.code, ended.value.reason) == (1001, "left")

    await handshake(app)


# Refusals as HTTP responses


async def test_a_denial_response_is_the_response_with_its_status_headers_and_body() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        headers = MappingProxyType({"Retry-After": "10"})
        await websocket.send_denial_response(JSONResponse({"detail": "no"}, 429, headers))

    start, body = await handshake(app)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert (b"retry-after", b"10") in start["headers"]
    assert (b"content-type", b"application/json") in start["headers"]
    assert body["type"] == "websocket.http.response.body"
    assert body["body"] == b'{"detail":"no"}'


async def test_a_denial_response_needs_the_servers_extension() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({}))

    with pytest.raises(RuntimeError, match="Denial Response"):
        await handshake(app, denial=False)


async def test_fastapi_answers_an_http_exception_before_acceptance_with_a_denial_response() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint() -> None:
        raise HTTPException(401, "who?", {"WWW-Authenticate": "Bearer"})

    start, body = await handshake(app)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert body["body"] == b'{"detail":"who?"}'


async def test_fastapi_sends_a_response_for_an_http_exception_even_after_acceptance() -> None:
    """A server refuses that event: the reason why Hubbub puts such an exception in other words."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        raise HTTPException(401)

    answers = await handshake(app)
    assert [answer["type"] for answer in answers[:2]] == ["websocket.accept", "websocket.http.response.start"]


async def test_starlette_answers_an_http_exception_with_its_detail_and_keeps_the_content_type() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        raise StarletteHTTPException(403, '{"detail": "no"}', {"content-type": "application/json"})

    start, body = await handshake(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))
    assert start["status"] == 403
    assert [value for name, value in start["headers"] if name == b"content-type"] == [b"application/json"]
    assert body["body"] == b'{"detail": "no"}'


async def test_a_websocket_exception_closes_through_the_websocket_itself() -> None:
    app = FastAPI()
    closes: list[Event] = []

    async def send(event: Event) -> None:
        closes.append(event)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        websocket._send = send
        raise WebSocketException(4001, "mine")

    await handshake(app)
    assert closes == [{"type": "websocket.close", "code": 4001, "reason": "mine"}]


def test_a_generator_dependency_may_be_a_sync_one() -> None:
    """It runs in a thread and still unwinds on the inner stack: the tests of the end of an endpoint use both kinds."""
    app = FastAPI()
    journal: list[str] = []

    def dependency() -> Iterator[None]:
        yield
        journal.append("closed")

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, _: Annotated[None, Depends(dependency)]) -> None:
        websocket.scope[OUTER].callback(journal.append, "outer")

    asyncio.run(handshake(app))
    assert journal == ["closed", "outer"]
