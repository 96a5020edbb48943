"""How a handshake is refused, and what becomes of a connection when its endpoint ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from hubbub import Connection, ConnectionManager, Denied, Hub, Limits
from hubbub.testing import Client, ClientConnection, ManualClock, RecordingTransport, Refused

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

ORDER = {
    "connecting": {
        "websocket.accept": "open",
        "websocket.close": "over",
        "websocket.http.response.start": "denying",
    },
    "denying": {"websocket.http.response.body": "denying"},
    "open": {"websocket.send": "open", "websocket.close": "over"},
    "over": {},
}


class Server:
    """Around an application: as strict as uvicorn about the order of events, and with a log of what was raised.

    Args:
        app: The application.
        denial: Whether it offers denial responses.
        left: The client leaves during the handshake: every answer to it is an `OSError`.
    """

    def __init__(self, app: App, *, denial: bool = True, left: bool = False) -> None:
        self.app = app
        self.denial = denial
        self.left = left
        self.log: list[BaseException] = []
        self.unexpected: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        if not self.denial:
            del scope["extensions"]["websocket.http.response"]
        state = "connecting"

        async def strict(event: Event) -> None:
            nonlocal state
            kind = event["type"]
            if kind not in ORDER[state] or (kind.startswith("websocket.http") and not self.denial):
                self.unexpected.append(kind)
                raise RuntimeError(f"unexpected ASGI message {kind!r} while {state}")
            state = ORDER[state][kind]
            if self.left:
                raise OSError("the client is gone")
            await send(event)

        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            await self.app(scope, receive, strict)
        except Exception as error:
            self.log.append(error)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock=clock)


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    return FastAPI(lifespan=hub.lifespan)


async def refusal(opener: Client, path: str = "/ws", **handshake: Any) -> Refused:
    """Return how the handshake is refused."""
    with pytest.raises(Refused) as refused:
        await opener.connect(path, **handshake).__aenter__()
    return refused.value


async def refused(server: App, path: str = "/ws", **handshake: Any) -> Refused:
    """Run the application for one handshake, and return how it is refused."""
    async with Client(server) as client:
        return await refusal(client, path, **handshake)


async def close_of(ann: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the close that comes next."""
    with pytest.raises(WebSocketDisconnect) as ended:
        await ann.receive()
    return ended.value.code, ended.value.reason


async def closed(server: App, path: str = "/ws") -> tuple[int, str]:
    """Run the application for one connection, and return how it closes it."""
    async with Client(server) as client, client.connect(path) as ann:
        return await close_of(ann)


async def turns(number: int = 10) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


class Mine(Exception):
    """An exception of the application's own."""


# Refusals: by whom, and what the client gets


REFUSALS: dict[str, tuple[Exception, int, Any, dict[str, str]]] = {
    "Denied": (Denied("members only"), 403, {"detail": "members only", "limit": None}, {}),
    "Denied with all it takes": (
        Denied("slow down", limit="mine", status=429, headers={"Retry-After": "3"}),
        429,
        {"detail": "slow down", "limit": "mine"},
        {"retry-after": "3"},
    ),
    "HTTPException": (
        HTTPException(401, "who?", {"WWW-Authenticate": "Bearer"}),
        401,
        {"detail": "who?"},
        {"www-authenticate": "Bearer"},
    ),
    "HTTPException with a body": (HTTPException(409, {"code": [1]}), 409, {"detail": {"code": [1]}}, {}),
}


def by_the_endpoint(app: FastAPI, hub: Hub, error: Exception) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        raise error


def by_a_dependency_before_the_hubs(app: FastAPI, hub: Hub, error: Exception) -> None:
    async def dependency() -> None:
        raise error

    @app.websocket("/ws")
    async def endpoint(
        _: Annotated[None, Depends(dependency)], connection: Annotated[Connection, Depends(hub)]
    ) -> None:
        await connection.accept()


def by_a_dependency_after_the_hubs(app: FastAPI, hub: Hub, error: Exception) -> None:
    async def dependency() -> None:
        raise error

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
    ) -> None:
        await connection.accept()


def by_a_sync_dependency_of_a_dependency_on_the_connection(app: FastAPI, hub: Hub, error: Exception) -> None:
    def user(connection: Annotated[Connection, Depends(hub)]) -> str:
        raise error

    async def account(user: Annotated[str, Depends(user)]) -> str:
        return user

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)], _: Annotated[str, Depends(account)]) -> None:
        await connection.accept()


def by_a_yield_dependency_after_the_hubs_before_it_yields(app: FastAPI, hub: Hub, error: Exception) -> None:
    async def dependency() -> AsyncIterator[None]:
        raise error
        yield

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
    ) -> None:
        await connection.accept()


def by_a_yield_dependency_after_the_hubs_on_exit(app: FastAPI, hub: Hub, error: Exception) -> None:
    async def dependency() -> AsyncIterator[None]:
        yield
        raise error

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
    ) -> None: ...


def by_a_yield_dependency_before_the_hubs_on_exit(app: FastAPI, hub: Hub, error: Exception) -> None:
    def dependency() -> Iterator[None]:
        yield
        raise error

    @app.websocket("/ws")
    async def endpoint(
        _: Annotated[None, Depends(dependency)], connection: Annotated[Connection, Depends(hub)]
    ) -> None: ...


def by_a_yield_dependency_that_turns_an_error_into_a_refusal(app: FastAPI, hub: Hub, error: Exception) -> None:
    def dependency() -> Iterator[None]:
        try:
            yield
        except LookupError:
            raise error from None

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
    ) -> None:
        raise LookupError


REFUSERS = [
    by_the_endpoint,
    by_a_dependency_before_the_hubs,
    by_a_dependency_after_the_hubs,
    by_a_sync_dependency_of_a_dependency_on_the_connection,
    by_a_yield_dependency_after_the_hubs_before_it_yields,
    by_a_yield_dependency_after_the_hubs_on_exit,
    by_a_yield_dependency_before_the_hubs_on_exit,
    by_a_yield_dependency_that_turns_an_error_into_a_refusal,
]


CASES = {
    f"{name}, {refuser.__name__}": (refuser, *refusal)
    for refuser in REFUSERS
    for name, refusal in REFUSALS.items()
    # There the hub has not seen the handshake yet, and cannot answer it.
    if refuser is not by_a_dependency_before_the_hubs or not isinstance(refusal[0], Denied)
}


@pytest.mark.parametrize(("refuser", "error", "status", "body", "headers"), CASES.values(), ids=CASES.keys())
async def test_a_refusal_before_acceptance_is_an_http_response_answered_once(
    app: FastAPI,
    hub: Hub,
    refuser: Callable[[FastAPI, Hub, Exception], None],
    error: Exception,
    status: int,
    body: Any,
    headers: dict[str, str],
) -> None:
    refuser(app, hub, error)
    server = Server(app)
    response = await refused(server)
    assert (response.status, response.json()) == (status, body)
    assert response.headers.items() >= {"content-type": "application/json", **headers}.items()
    assert server.unexpected == []
    assert server.log == []
    assert hub.statistics().accepted == 0
    assert not hub.connections


async def test_an_endpoint_that_returns_without_accepting_answers_403(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    server = Server(app)
    response = await refused(server)
    assert response.status == 403
    assert response.json() == {"detail": "The endpoint did not accept the connection", "limit": None}
    assert server.log == []
    assert hub.statistics().refused == {"denied": 1}


async def test_a_path_parameter_that_does_not_validate_is_refused_at_the_handshake(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws/{number}")
    async def endpoint(connection: Annotated[Connection, Depends(hub)], number: int) -> None:
        await connection.accept()

    server = Server(app)
    assert (await refused(server, "/ws/seven")).status == 403
    assert server.log == []
    assert hub.statistics().accepted == 0


async def test_an_error_before_acceptance_reaches_the_servers_log_and_is_not_answered_by_the_hub(
    app: FastAPI, hub: Hub
) -> None:
    error = Mine()
    by_the_endpoint(app, hub, error)
    server = Server(app)
    response = await refused(server)
    assert response.body == b""
    assert server.log == [error]


async def test_a_raw_close_before_acceptance_is_the_only_answer(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await websocket.close(1008)

    server = Server(app)
    assert (await refused(server)).body == b""
    assert server.log == []


async def test_a_denial_response_of_the_endpoints_own_is_the_only_answer(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await websocket.send_denial_response(PlainTextResponse("mine", 418))

    server = Server(app)
    response = await refused(server)
    assert (response.status, response.body) == (418, b"mine")
    assert server.log == []


async def test_a_raw_accept_is_none_of_the_hubs_business(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await websocket.accept()
        await websocket.send_text("raw")
        await websocket.close(4000)

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.assert_received("raw")
        assert await close_of(ann) == (4000, "")
    assert server.log == []
    assert hub.statistics().accepted == 0


async def test_a_client_that_leaves_during_its_refusal_is_no_error(app: FastAPI, hub: Hub) -> None:
    by_the_endpoint(app, hub, Denied("members only"))
    server = Server(app, left=True)
    await refused(server)
    assert server.log == []


# Refusals and the application's own exception handlers


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Denied, Denied("no", limit="mine")),
        (HTTPException, HTTPException(401)),
        (401, HTTPException(401)),
        (Mine, Mine()),
        (LookupError, KeyError()),
    ],
    ids=["Denied", "HTTPException", "a status", "an own exception", "a base class"],
)
async def test_an_exception_handler_of_the_application_decides_the_answer(
    app: FastAPI, hub: Hub, kind: Any, error: Exception
) -> None:
    @app.exception_handler(kind)
    async def handler(websocket: WebSocket, error: Exception) -> JSONResponse:
        return JSONResponse({"handled": type(error).__name__}, 418)

    by_the_endpoint(app, hub, error)
    server = Server(app)
    response = await refused(server)
    assert (response.status, response.json()) == (418, {"handled": type(error).__name__})
    assert server.log == []


async def test_a_handler_for_denied_gets_the_hubs_own_refusals_with_their_limit(app: FastAPI, hub: Hub) -> None:
    @app.exception_handler(Denied)
    async def handler(websocket: WebSocket, denied: Denied) -> JSONResponse:
        return JSONResponse({"limit": denied.limit}, denied.status, denied.headers)

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections=1)))],
    ) -> None:
        await connection.receive()

    server = Server(app)
    async with Client(server) as client, client.connect("/ws"):
        response = await refusal(client)
        assert (response.status, response.json()) == (503, {"limit": "connections"})
        assert response.headers["retry-after"] == "10"
    assert server.log == []


async def test_a_refusal_is_counted_although_the_application_answers_it(app: FastAPI, hub: Hub) -> None:
    @app.exception_handler(Denied)
    async def handler(websocket: WebSocket, denied: Denied) -> JSONResponse:
        return JSONResponse({}, 418)

    by_the_endpoint(app, hub, Denied("no", limit="mine"))
    await refused(Server(app))
    assert hub.statistics().refused == {"mine": 1}


async def test_a_handler_that_closes_by_itself_is_the_only_answer(app: FastAPI, hub: Hub) -> None:
    @app.exception_handler(Mine)
    async def handler(websocket: WebSocket, error: Mine) -> None:
        await websocket.close(4000)

    by_the_endpoint(app, hub, Mine())
    server = Server(app)
    assert (await refused(server)).body == b""
    assert server.log == []


async def test_a_websocket_exception_before_acceptance_is_a_plain_refusal(app: FastAPI, hub: Hub) -> None:
    by_the_endpoint(app, hub, WebSocketException(1008, "no"))
    server = Server(app)
    assert (await refused(server)).status == 403
    assert server.log == []


# Refusals on a server without denial responses


async def returns(connection: Connection) -> None: ...


async def closes(connection: Connection) -> None:
    await connection.close()


async def denies(connection: Connection) -> None:
    raise Denied("no", status=429)


async def raises_an_http_exception(connection: Connection) -> None:
    raise HTTPException(401)


async def raises_a_websocket_exception(connection: Connection) -> None:
    raise WebSocketException(4000)


@pytest.mark.parametrize(
    "use",
    [returns, closes, denies, raises_an_http_exception, raises_a_websocket_exception],
    ids=lambda use: use.__name__,
)
async def test_without_denial_responses_a_refusal_is_a_plain_close(
    app: FastAPI, hub: Hub, use: Callable[[Connection], Awaitable[None]]
) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await use(connection)

    server = Server(app, denial=False)
    response = await refused(server)
    assert (response.status, response.body) == (403, b"")
    assert server.log == []


async def test_without_denial_responses_a_foreign_origin_is_a_plain_close(app: FastAPI, hub: Hub) -> None:
    by_the_endpoint(app, hub, Mine())
    server = Server(app, denial=False)
    response = await refused(server, headers={"Origin": "https://evil.example"})
    assert (response.status, response.body) == (403, b"")
    assert server.log == []
    assert hub.statistics().refused == {"allowed_origins": 1}


# Refusals by the hub's own limits


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://testserver.evil.example",
        "http://testserver:81",
        "https://xtestserver",
        "",
    ],
)
async def test_a_foreign_origin_is_refused_before_the_endpoint_runs(app: FastAPI, hub: Hub, origin: str) -> None:
    by_the_endpoint(app, hub, Mine())
    server = Server(app)
    response = await refused(server, headers={"Origin": origin})
    assert response.status == 403
    assert response.json() == {"detail": "This origin may not connect", "limit": "allowed_origins"}
    assert server.log == []


@pytest.mark.parametrize("origin", ["http://testserver", "https://testserver", "http://TestServer:80"])
async def test_the_own_origin_may_connect(app: FastAPI, hub: Hub, origin: str) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.send("hello")

    async with Client(app) as client, client.connect("/ws", headers={"Origin": origin}) as ann:
        await ann.assert_received("hello")


async def test_allowed_origins_may_connect_and_a_star_lets_everyone_in() -> None:
    for allowed, origin in ((("https://app.example",), "https://app.example"), (("*",), "null")):
        hub = Hub(allowed_origins=allowed)
        app = FastAPI(lifespan=hub.lifespan)

        @app.websocket("/ws")
        async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
            await connection.send("hello")

        async with Client(app) as client, client.connect("/ws", headers={"Origin": origin}) as ann:
            await ann.assert_received("hello")


LIMITS: dict[str, tuple[Limits, int, str]] = {
    "connections": (Limits(connections=1), 503, "Too many connections"),
    "connections_per_user": (Limits(connections_per_user=1), 429, "Too many connections of this user"),
    "connections_per_address": (Limits(connections_per_address=1), 429, "Too many connections from this address"),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("whose", ["hub", "endpoint"])
async def test_a_limit_that_is_reached_refuses_with_its_name_until_somebody_leaves(whose: str, limit: str) -> None:
    limits, status, detail = LIMITS[limit]
    hub = Hub(limits=limits) if whose == "hub" else Hub()
    app = FastAPI(lifespan=hub.lifespan)
    dependency = hub if whose == "hub" else hub.connection(limits=limits)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(dependency)]) -> None:
        await connection.accept(user="ann")
        async for _ in connection:
            pass

    server = Server(app)
    async with Client(server) as client:
        async with client.connect("/ws") as ann:
            response = await refusal(client)
            assert (response.status, response.json()) == (status, {"detail": detail, "limit": limit})
            assert response.headers["retry-after"] == "10"
            assert hub.statistics().refused == {limit: 1}
            await ann.close()
        async with client.connect("/ws"):
            assert len(hub.connections) == 1
    assert server.log == []


async def test_another_user_or_address_is_not_refused_by_a_limit_that_ann_has_reached(app: FastAPI, hub: Hub) -> None:
    limits = Limits(connections_per_user=1, connections_per_address=1)

    @app.websocket("/ws/{user}")
    async def endpoint(connection: Annotated[Connection, Depends(hub.connection(limits=limits))], user: str) -> None:
        await connection.accept(user=user)
        async for _ in connection:
            pass

    async with (
        Client(app) as client,
        client.connect("/ws/ann", client=("192.0.2.1", 1)),
        client.connect("/ws/bob", client=("192.0.2.2", 1)),
    ):
        assert (await refusal(client, "/ws/ann", client=("192.0.2.3", 1))).json()["limit"] == "connections_per_user"
        assert (await refusal(client, "/ws/eve", client=("192.0.2.1", 2))).json()["limit"] == "connections_per_address"


async def test_clients_without_an_address_are_not_counted_by_address(hub: Hub, app: FastAPI) -> None:
    limits = Limits(connections_per_address=1)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub.connection(limits=limits))]) -> None:
        async for _ in connection:
            pass

    async with Client(app, client=None) as client, client.connect("/ws"), client.connect("/ws"):
        assert len(hub.connections) == 2


# The end of an endpoint after acceptance


ENDS: dict[str, tuple[Exception | None, int, str, bool]] = {
    "returns": (None, 1000, "", False),
    "an error": (Mine("secret"), 1011, "", True),
    "a RuntimeError": (RuntimeError("secret"), 1011, "", True),
    "an OSError": (OSError("secret"), 1011, "", True),
    "HTTPException": (HTTPException(403, "not here"), 1008, "not here", False),
    "HTTPException without a detail": (HTTPException(404), 1008, "Not Found", False),
    "HTTPException with a long detail": (HTTPException(400, "ü" * 100), 1008, "ü" * 61, False),
    "Denied": (Denied("members only"), 1008, "members only", False),
    "Denied by a limit": (Denied("slow down", limit="mine"), 1008, "mine", False),
    "WebSocketException": (WebSocketException(4001, "mine"), 4001, "mine", False),
    "WebSocketDisconnect": (WebSocketDisconnect(1001), 1000, "", False),
    "a group of errors": (ExceptionGroup("several", [Mine(), ValueError()]), 1011, "", True),
}


async def in_the_endpoint(connection: Connection, error: Exception | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize(("error", "code", "reason", "logged"), ENDS.values(), ids=ENDS.keys())
async def test_the_end_of_an_endpoint_decides_the_close_and_only_errors_reach_the_log(
    app: FastAPI, hub: Hub, error: Exception | None, code: int, reason: str, logged: bool
) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        if error is not None:
            raise error

    server = Server(app)
    assert await closed(server) == (code, reason)
    assert server.log == ([error] if logged else [])
    assert hub.statistics().closed == {code: 1}
    assert not hub.connections


@pytest.mark.parametrize(("error", "code", "reason", "logged"), ENDS.values(), ids=ENDS.keys())
async def test_a_dependency_that_has_accepted_ends_the_connection_in_the_same_ways(
    app: FastAPI, hub: Hub, error: Exception | None, code: int, reason: str, logged: bool
) -> None:
    async def outer(connection: Annotated[Connection, Depends(hub)]) -> Connection:
        await connection.accept()
        return connection

    async def inner(connection: Annotated[Connection, Depends(outer)]) -> None:
        if error is not None:
            raise error

    @app.websocket("/ws")
    async def endpoint(_: Annotated[None, Depends(inner)]) -> None: ...

    server = Server(app)
    assert await closed(server) == (code, reason)
    assert server.log == ([error] if logged else [])


async def test_a_parameter_that_does_not_validate_after_a_dependency_has_accepted_closes_with_1008(
    app: FastAPI, hub: Hub
) -> None:
    async def accepted(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()

    @app.websocket("/ws/{number}", dependencies=[Depends(accepted)])
    async def endpoint(number: int) -> None: ...

    server = Server(app)
    code, _ = await closed(server, "/ws/seven")
    assert code == 1008
    assert server.log == []


@pytest.mark.parametrize("error", [Denied("no"), HTTPException(401, "no")], ids=lambda error: type(error).__name__)
async def test_a_handler_that_answers_with_a_response_does_not_disturb_a_close(
    app: FastAPI, hub: Hub, error: Exception
) -> None:
    @app.exception_handler(type(error))
    async def handler(websocket: WebSocket, error: Exception) -> JSONResponse:
        return JSONResponse({}, 418)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        raise error

    server = Server(app)
    assert await closed(server) == (1008, "no")
    assert server.log == []


@pytest.mark.parametrize(
    "error", [Mine(), Denied("no"), HTTPException(401, "no")], ids=lambda error: type(error).__name__
)
async def test_a_handler_that_closes_the_websocket_decides_the_code(app: FastAPI, hub: Hub, error: Exception) -> None:
    @app.exception_handler(type(error))
    async def handler(websocket: WebSocket, handled: Exception) -> None:
        assert handled is error
        await websocket.close(4002, "handled")

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        raise error

    server = Server(app)
    assert await closed(server) == (4002, "handled")
    assert server.log == []


async def test_an_error_in_a_task_group_closes_with_1011_and_is_logged(app: FastAPI, hub: Hub) -> None:
    async def fails() -> None:
        raise Mine

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())
            async for _ in connection:
                pass

    server = Server(app)
    assert await closed(server) == (1011, "")
    assert [type(error) for error in server.log] == [ExceptionGroup]


GROUPS: dict[str, tuple[list[Exception], int, str, bool]] = {
    "disconnects, nested": (
        [WebSocketDisconnect(1001), ExceptionGroup("inner", [WebSocketDisconnect(1006)])],
        1000,
        "",
        False,
    ),
    "a refusal": ([Denied("members only")], 1008, "members only", False),
    "a refusal and disconnects": ([WebSocketDisconnect(1001), HTTPException(403, "no")], 1008, "no", False),
    "a refusal and an error": ([Denied("no"), Mine()], 1011, "", True),
    "a disconnect and an error": ([WebSocketDisconnect(1001), Mine()], 1011, "", True),
}


@pytest.mark.parametrize(("errors", "code", "reason", "logged"), GROUPS.values(), ids=GROUPS.keys())
async def test_a_group_of_exceptions_ends_a_connection_as_what_it_comes_down_to(
    app: FastAPI, hub: Hub, errors: list[Exception], code: int, reason: str, logged: bool
) -> None:
    group = ExceptionGroup("several", errors)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        raise group

    server = Server(app)
    assert await closed(server) == (code, reason)
    assert server.log == ([group] if logged else [])


async def test_a_client_that_leaves_a_task_group_which_sends_and_receives_is_no_error(app: FastAPI, hub: Hub) -> None:
    """The usual shape of an endpoint that does both: the sender's disconnect arrives in an `ExceptionGroup`."""

    async def ticks(connection: Connection) -> None:
        while True:
            await connection.send("tick")
            await asyncio.sleep(0)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ticks(connection))
            async for _ in connection:
                pass

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.assert_received("tick")
    assert server.log == []


async def test_a_limit_that_is_reached_at_the_first_use_in_a_task_group_refuses_with_its_status(
    app: FastAPI, hub: Hub
) -> None:
    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections=1)))],
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.receive())

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        assert (await refusal(client)).status == 503
        await ann.send("end")
    assert server.log == []


async def test_a_cancelled_endpoint_drops_its_connection_at_once(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        await connection.receive()

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        server.tasks[0].cancel()
        assert (await close_of(ann))[0] == 1006
        assert not hub.connections
        assert server.tasks[0].cancelled()
    assert hub.statistics().closed == {1006: 1}


async def test_an_endpoint_cancelled_while_its_close_waits_lets_go_of_the_connection(app: FastAPI, hub: Hub) -> None:
    transport = RecordingTransport()

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(connections=1)))],
    ) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        await connection.send("never read")

    server = Server(app)
    async with Client(server) as client, client.connect("/ws", transport=transport):
        await turns()
        assert not server.tasks[0].done()
        assert (await refusal(client)).json()["limit"] == "connections"
        server.tasks[0].cancel()
        await asyncio.wait(server.tasks)
        async with client.connect("/ws", transport=RecordingTransport()):
            pass
    assert server.log == []


async def test_an_endpoint_cancelled_before_acceptance_answers_nothing_and_holds_nothing(
    app: FastAPI, hub: Hub
) -> None:
    started = asyncio.Event()

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        started.set()
        await asyncio.Event().wait()

    server = Server(app)
    async with Client(server) as client:
        connecting = asyncio.create_task(refusal(client))
        await started.wait()
        server.tasks[0].cancel()
        await connecting
        assert server.tasks[0].cancelled()
    assert hub.statistics().refused == {}


# Yield dependencies and the end


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Mine(), 1011),
        (HTTPException(403), 1008),
        (Denied("no"), 1008),
        (WebSocketException(4001), 4001),
        (WebSocketDisconnect(1001), 1000),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("first", ["hub", "dependency"])
async def test_yield_dependencies_see_the_exception_itself_and_close_while_the_connection_is_open(
    app: FastAPI, hub: Hub, first: str, error: Exception, code: int
) -> None:
    seen: list[tuple[BaseException, bool]] = []

    async def dependency() -> AsyncIterator[None]:
        try:
            yield
        except Exception as exception:
            seen.append((exception, len(hub.connections) == 1))
            await hub.broadcast("last words")
            raise

    if first == "hub":

        @app.websocket("/ws")
        async def hub_first(
            connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
        ) -> None:
            await connection.accept()
            raise error

    else:

        @app.websocket("/ws")
        async def dependency_first(
            _: Annotated[None, Depends(dependency)], connection: Annotated[Connection, Depends(hub)]
        ) -> None:
            await connection.accept()
            raise error

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.assert_received("last words")
        await ann.assert_closed(code)
    assert seen == [(error, True)]
    assert server.log == ([error] if code == 1011 else [])


@pytest.mark.parametrize(
    "error",
    [None, HTTPException(403), Denied("no"), WebSocketDisconnect(1001)],
    ids=["returns", "HTTPException", "Denied", "WebSocketDisconnect"],
)
@pytest.mark.parametrize("first", ["hub", "dependency"])
async def test_an_error_in_the_exit_of_a_yield_dependency_is_never_lost(
    app: FastAPI, hub: Hub, first: str, error: Exception | None
) -> None:
    """For example a commit that fails: whatever ended the endpoint, it must reach the log."""

    async def database() -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise Mine("the commit failed")

    if first == "hub":

        @app.websocket("/ws")
        async def hub_first(
            connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(database)]
        ) -> None:
            await connection.accept()
            await in_the_endpoint(connection, error)

    else:

        @app.websocket("/ws")
        async def database_first(
            _: Annotated[None, Depends(database)], connection: Annotated[Connection, Depends(hub)]
        ) -> None:
            await connection.accept()
            await in_the_endpoint(connection, error)

    server = Server(app)
    code, _ = await closed(server)
    assert [str(error) for error in server.log] == ["the commit failed"]
    assert code == 1011


@pytest.mark.parametrize(
    "refusal", [HTTPException(403, "no"), Denied("no")], ids=lambda refusal: type(refusal).__name__
)
@pytest.mark.parametrize("raised", [None, LookupError()], ids=["returns", "raises"])
@pytest.mark.parametrize("first", ["hub", "dependency"])
async def test_a_yield_dependency_that_refuses_on_exit_closes_with_1008(
    app: FastAPI, hub: Hub, first: str, raised: Exception | None, refusal: Exception
) -> None:
    async def dependency() -> AsyncIterator[None]:
        with contextlib.suppress(LookupError):
            yield
        raise refusal

    if first == "hub":

        @app.websocket("/ws")
        async def hub_first(
            connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
        ) -> None:
            await connection.accept()
            await in_the_endpoint(connection, raised)

    else:

        @app.websocket("/ws")
        async def dependency_first(
            _: Annotated[None, Depends(dependency)], connection: Annotated[Connection, Depends(hub)]
        ) -> None:
            await connection.accept()
            await in_the_endpoint(connection, raised)

    server = Server(app)
    assert await closed(server) == (1008, "no")
    assert server.log == []


async def test_a_yield_dependency_that_swallows_the_exception_makes_it_an_ordinary_end(app: FastAPI, hub: Hub) -> None:
    async def dependency() -> AsyncIterator[None]:
        with contextlib.suppress(Mine):
            yield

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], _: Annotated[None, Depends(dependency)]
    ) -> None:
        await connection.accept()
        raise Mine

    server = Server(app)
    assert await closed(server) == (1000, "")
    assert server.log == []


# What was sent before the end


@pytest.mark.parametrize(("error", "code"), [(None, 1000), (Mine(), 1011), (Denied("no"), 1008)])
async def test_everything_that_was_sent_before_the_end_arrives(
    app: FastAPI, hub: Hub, error: Exception | None, code: int
) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        for number in range(200):
            await connection.send(str(number))
            await hub.broadcast(f"all {number}")
        await in_the_endpoint(connection, error)

    async with Client(Server(app)) as client, client.connect("/ws") as ann:
        ann.stall()
        await turns()
        ann.resume()
        for number in range(200):
            await ann.assert_received(str(number), f"all {number}")
        await ann.assert_closed(code)


async def test_the_end_waits_five_seconds_for_a_client_that_does_not_read(
    app: FastAPI, hub: Hub, clock: ManualClock
) -> None:
    transport = RecordingTransport()

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        await connection.send("never read")

    server = Server(app)
    async with Client(server) as client, client.connect("/ws", transport=transport):
        await turns()
        assert not server.tasks[0].done()
        assert not hub.connections
        clock.advance(5)
        await asyncio.wait(server.tasks)
    assert server.log == []


# When the client has left first


@pytest.mark.parametrize(("error", "logged"), [(None, False), (Mine(), True), (HTTPException(400), False)])
async def test_an_endpoint_that_ends_after_its_client_keeps_the_clients_code(
    app: FastAPI, hub: Hub, error: Exception | None, logged: bool
) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass
        await in_the_endpoint(connection, error)

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.close(4444)
    assert server.log == ([error] if logged else [])
    assert hub.statistics().closed == {4444: 1}


async def test_an_uncaught_disconnect_is_no_error(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        while True:
            await connection.receive()

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.close(1001)
    assert server.log == []


async def test_an_uncaught_disconnect_of_a_raw_receive_is_no_error(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        while True:
            await websocket.receive_text()

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.close(1001)
    assert server.log == []


async def test_a_client_that_is_gone_when_it_is_accepted_is_no_error(app: FastAPI, hub: Hub) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()

    server = Server(app, left=True)
    await refused(server)
    assert server.log == []
    assert hub.statistics().accepted == 0


@pytest.mark.parametrize("error", [None, Mine(), HTTPException(400), Denied("no"), WebSocketDisconnect(1000)])
async def test_nothing_is_left_behind_however_an_endpoint_ends(app: FastAPI, hub: Hub, error: Exception | None) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept(user="ann")
        await connection.join("room")
        await in_the_endpoint(connection, error)

    async with Client(Server(app)) as client:
        before = asyncio.all_tasks()
        for _ in range(20):
            ann = await client.connect("/ws").__aenter__()
            await close_of(ann)
            await ann.finish(raises=True)
        await turns()
        assert asyncio.all_tasks() == before
        statistics = hub.statistics()
        assert (statistics.connections, statistics.users, statistics.channels, statistics.queued_bytes) == (0, 0, 0, 0)
        assert statistics.accepted == 20


# More than one hub on one socket


async def test_two_hubs_on_one_socket_answer_it_once_when_none_accepts(app: FastAPI, hub: Hub) -> None:
    other = Hub()

    @app.websocket("/ws")
    async def endpoint(
        one: Annotated[Connection, Depends(hub)], two: Annotated[Connection, Depends(other)]
    ) -> None: ...

    server = Server(app)
    assert (await refused(server)).status == 403
    assert server.log == []


@pytest.mark.parametrize("accepting", ["one", "two"])
async def test_of_two_hubs_on_one_socket_the_one_that_accepts_serves_and_ends_it(
    app: FastAPI, hub: Hub, accepting: str
) -> None:
    other = Hub()

    @app.websocket("/ws")
    async def endpoint(one: Annotated[Connection, Depends(hub)], two: Annotated[Connection, Depends(other)]) -> None:
        first, second = (one, two) if accepting == "one" else (two, one)
        await first.send("hello")
        with pytest.raises(RuntimeError, match="already"):
            await second.send("hello")

    server = Server(app)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.assert_received("hello")
        await ann.assert_closed(1000)
    assert server.log == []
    assert hub.statistics().accepted + other.statistics().accepted == 1


async def test_an_endpoint_hears_that_its_client_is_gone_although_a_second_hub_has_seen_the_socket(
    app: FastAPI, hub: Hub
) -> None:
    other = Hub()
    heard: list[bool] = []

    @app.websocket("/ws")
    async def endpoint(one: Annotated[Connection, Depends(hub)], two: Annotated[Connection, Depends(other)]) -> None:
        async for _ in one:
            pass
        try:
            await one.send("too late")
        except WebSocketDisconnect:
            heard.append(True)
        else:
            heard.append(False)

    async with Client(app) as client, client.connect("/ws"):
        pass
    assert heard == [True]


# Plain Starlette, where FastAPI's stacks are missing


def starlette(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Server:
    return Server(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))


async def test_on_plain_starlette_a_connection_works(hub: Hub) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        async for message in connection:
            await connection.send(message)
            await hub.broadcast(f"all: {message}")
        assert connection.close_code == 4000

    server = starlette(endpoint)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.send("hello")
        await ann.assert_received("hello", "all: hello")
        await ann.close(4000)
    assert server.log == []
    assert not hub.connections


async def test_on_plain_starlette_a_limit_is_answered_with_its_status_and_json() -> None:
    hub = Hub(limits=Limits(connections=1))

    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        async for _ in connection:
            pass

    server = starlette(endpoint)
    async with Client(server) as client, client.connect("/ws"):
        response = await refusal(client)
        assert (response.status, response.json()) == (503, {"detail": "Too many connections", "limit": "connections"})
        assert response.headers.items() >= {"content-type": "application/json", "retry-after": "10"}.items()
        assert hub.statistics().refused == {"connections": 1}
    assert server.log == []


async def test_on_plain_starlette_a_foreign_origin_is_answered_with_403(hub: Hub) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await (await hub(websocket)).accept()

    server = starlette(endpoint)
    response = await refused(server, headers={"Origin": "https://evil.example"})
    assert (response.status, response.json()["limit"]) == (403, "allowed_origins")
    assert server.log == []


async def test_on_plain_starlette_close_before_acceptance_answers_403(hub: Hub) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        await connection.close(1000, "members only")

    server = starlette(endpoint)
    response = await refused(server)
    assert (response.status, response.json()) == (403, {"detail": "members only", "limit": None})
    assert server.log == []


async def test_on_plain_starlette_the_manager_works() -> None:
    manager = ConnectionManager(max_connections=1)

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        async for text in websocket.iter_text():
            await manager.broadcast(text)

    server = starlette(endpoint)
    async with Client(server) as client, client.connect("/ws") as ann:
        await ann.send("hello")
        await ann.assert_received("hello")
        assert (await refusal(client)).status == 503
    assert server.log == []
    assert len(manager.active_connections) == 0
