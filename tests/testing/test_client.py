"""The in-process client, against small applications: what each docstring promises, and what a server would do."""

import asyncio
import gc
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from hubbub import Connection, Hub, Limits
from hubbub.testing import Client, ClientConnection, ManualClock, RecordingTransport, Refused
from hubbub.testing import client as client_module

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Handler = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

SOON_S = 0.02
"""A timeout for what is not to come."""


def asgi(handler: Handler) -> Handler:
    """Return an application without a lifespan whose connections `handler` handles once they are asked for."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            assert await receive() == {"type": "websocket.connect"}
            await handler(scope, receive, send)

    return app


def accepting(handler: Handler | None = None, **acceptance: Any) -> Handler:
    """Return an application that accepts, lets `handler` go on if there is one, and waits for the client to leave."""

    async def accept(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", **acceptance})
        if handler is not None:
            await handler(scope, receive, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return asgi(accept)


def saying(*events: Event) -> Handler:
    """Return an application that accepts and sends these events."""

    async def say(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    return accepting(say)


def text(data: str) -> Event:
    return {"type": "websocket.send", "text": data}


def binary(data: bytes) -> Event:
    return {"type": "websocket.send", "bytes": data}


def close(code: int, reason: str = "") -> Event:
    return {"type": "websocket.close", "code": code, "reason": reason}


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever happens in a test, the kit leaves no task behind."""
    before = asyncio.all_tasks()
    yield
    await settle()
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


# The example of the docstring, and many clients


def tutorial() -> FastAPI:
    """Return the chat of FastAPI's tutorial."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws/{client_id}")
    async def chat(connection: Annotated[Connection, Depends(hub)], client_id: int) -> None:
        await connection.accept()
        async for message in connection:
            await hub.broadcast(f"Client #{client_id} says: {message}")

    return app


async def test_the_example() -> None:
    app = tutorial()
    async with Client(app) as client, client.connect("/ws/1") as ann, client.connect("/ws/2") as bob:
        await ann.send("hello")
        await bob.assert_received("Client #1 says: hello")


async def test_any_number_of_clients_in_one_process() -> None:
    async with Client(tutorial()) as client:
        connections = [client.connect(f"/ws/{number}") for number in range(100)]
        for connection in connections:
            await connection.__aenter__()
        await connections[7].send("hello")
        await client.assert_all_received("Client #7 says: hello")
        for connection in connections:
            await connection.assert_nothing()


# The lifespan


async def test_the_lifespan_runs_around_the_connections_and_its_state_reaches_them() -> None:
    steps: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        steps.append("startup")
        yield {"pool": "a pool"}
        steps.append("shutdown")

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        steps.append(websocket.state.pool)

    async with Client(app) as client:
        for _ in range(2):
            async with client.connect("/") as connection:
                await connection.assert_closed(1006)
    assert steps == ["startup", "a pool", "a pool", "shutdown"]


async def test_what_one_connection_puts_into_its_state_another_does_not_see() -> None:
    seen = []

    async def endpoint(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append(dict(scope["state"]))
        scope["state"]["mine"] = True

    async with Client(accepting(endpoint)) as client, client.connect("/"), client.connect("/"):
        assert seen == [{}, {}]


async def test_an_application_without_a_lifespan_may_just_return() -> None:
    async with Client(accepting()) as client, client.connect("/") as connection:
        assert connection.is_open


async def test_an_application_without_a_lifespan_may_raise() -> None:
    """ASGI 3.0, lifespan: "the server must continue but not send any lifespan events"."""
    inner = accepting()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await inner(scope, receive, send)

    async with Client(app) as client, client.connect("/") as connection:
        assert connection.is_open


@pytest.mark.parametrize("error", [KeyError("lifespan"), asyncio.CancelledError()], ids=repr)
async def test_what_such_an_application_raises_is_nobodys_concern(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        raise error

    async with Client(app):
        pass
    gc.collect()
    assert caplog.messages == []


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_a_lifespan_raises_after_its_startup_is_raised_in_the_end(goes_on: bool) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if goes_on:
            await receive()
        raise ValueError("no database")

    client = await Client(app).__aenter__()
    await settle()
    with pytest.raises(ValueError, match="no database"):
        await client.__aexit__(None, None, None)


async def test_leaving_waits_until_the_lifespan_has_returned() -> None:
    steps = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        for _ in range(10):
            await asyncio.sleep(0)
        steps.append("returned")

    async with Client(app):
        assert steps == []
    assert steps == ["returned"]


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_what_the_lifespan_raises_is_raised_to_the_test(phase: str) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if phase == "startup":
            raise ValueError("no database")
        yield
        raise ValueError("no database")

    entered = False
    with pytest.raises(ValueError, match="no database"):
        async with Client(FastAPI(lifespan=lifespan)):
            entered = True
    assert entered is (phase == "shutdown")


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_lifespan_that_says_that_it_failed_is_an_error_with_its_message(phase: str) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{step}"}
            if step == phase:
                await send({"type": f"lifespan.{step}.failed", "message": "no database"})
                return
            await send({"type": f"lifespan.{step}.complete"})

    with pytest.raises(RuntimeError, match=f"the application's {phase} failed: no database"):
        async with Client(app):
            pass


async def test_a_lifespan_ends_although_the_test_fails() -> None:
    steps = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        steps.append("shutdown")

    with pytest.raises(LookupError, match="the test's own"):
        async with Client(FastAPI(lifespan=lifespan)):
            raise LookupError("the test's own")
    assert steps == ["shutdown"]


# The handshake


async def scope_of(path: str = "/", *, of_client: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> Any:
    """Return the scope that an application sees of a connection that a client opens with these options."""
    scopes = []

    async def look(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        scopes.append(scope)

    async with Client(accepting(look), **of_client) as client, client.connect(path, **options):
        pass
    [scope] = scopes
    return scope


async def test_the_scope_is_that_of_an_asgi_server() -> None:
    assert await scope_of("/a%20b/%C3%BC?x=1&y=%20") == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("testserver", 80),
        "client": ("testclient", 50_000),
        "root_path": "",
        "path": "/a b/ü",
        "raw_path": b"/a%20b/%C3%BC",
        "query_string": b"x=1&y=%20",
        "headers": [(b"host", b"testserver")],
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


@pytest.mark.parametrize(
    ("base_url", "scheme", "host", "server"),
    [
        ("ws://testserver", "ws", b"testserver", ("testserver", 80)),
        ("ws://localhost:8000", "ws", b"localhost:8000", ("localhost", 8000)),
        ("wss://example.com", "wss", b"example.com", ("example.com", 443)),
        ("wss://example.com:8443", "wss", b"example.com:8443", ("example.com", 8443)),
        ("ws://[::1]:8000", "ws", b"[::1]:8000", ("::1", 8000)),
    ],
)
async def test_the_base_url_says_where_the_application_is(
    base_url: str, scheme: str, host: bytes, server: tuple[str, int]
) -> None:
    scope = await scope_of(of_client={"base_url": base_url})
    assert (scope["scheme"], scope["server"], scope["headers"]) == (scheme, server, [(b"host", host)])


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({"Origin": "https://a.example"}, [(b"host", b"testserver"), (b"origin", b"https://a.example")]),
        ([("X", "1"), ("x", "2")], [(b"host", b"testserver"), (b"x", b"1"), (b"x", b"2")]),
        ({"HOST": "other"}, [(b"host", b"other")]),
        ({"Cookie": "é"}, [(b"host", b"testserver"), (b"cookie", b"\xe9")]),
    ],
)
async def test_headers_are_added_and_the_host_can_be_another(headers: Any, raw: list[tuple[bytes, bytes]]) -> None:
    assert (await scope_of(headers=headers))["headers"] == raw


@pytest.mark.parametrize(
    ("of_client", "of_connection", "seen"),
    [
        (("198.51.100.1", 1), None, ("198.51.100.1", 1)),
        (("198.51.100.1", 1), ("198.51.100.2", 2), ("198.51.100.2", 2)),
        (None, None, None),
        (None, ("198.51.100.2", 2), ("198.51.100.2", 2)),
    ],
)
async def test_the_address_can_be_chosen(
    of_client: tuple[str, int] | None, of_connection: tuple[str, int] | None, seen: tuple[str, int] | None
) -> None:
    assert (await scope_of(of_client={"client": of_client}, client=of_connection))["client"] == seen


async def test_subprotocols_are_offered_and_the_choice_is_told() -> None:
    scope = await scope_of(subprotocols=["v1", "v2"])
    assert scope["subprotocols"] == ["v1", "v2"]
    assert (b"sec-websocket-protocol", b"v1, v2") in scope["headers"]
    app = accepting(subprotocol="v2", headers=[(b"set-cookie", b"a=1")])
    async with Client(app) as client, client.connect("/", subprotocols=["v1", "v2"]) as connection:
        assert connection.subprotocol == "v2"
        assert connection.accept_headers == [(b"set-cookie", b"a=1")]


async def test_without_a_choice_there_is_no_subprotocol() -> None:
    async with Client(accepting()) as client, client.connect("/") as connection:
        assert (connection.subprotocol, connection.accept_headers) == (None, [])


def refusing(*events: Event) -> Handler:
    """Return an application that answers the handshake with these events."""

    async def refuse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    return asgi(refuse)


async def refusal_of(app: Any, **options: Any) -> Refused:
    """Return how `app` refuses a handshake."""
    with pytest.raises(Refused) as caught:
        async with Client(app, **options) as client, client.connect("/"):
            raise AssertionError("the handshake was accepted")
    return caught.value


async def test_a_test_may_ask_for_the_refusal() -> None:
    async def endpoint(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        refuses = scope["path"] == "/no" or (b"x-refuse", b"1") in scope["headers"]
        await send(close(1008) if refuses else {"type": "websocket.accept"})
        await receive()

    async with Client(asgi(endpoint)) as client:
        assert (await client.refused("/no")).status == 403
        assert (await client.refused("/yes", headers={"X-Refuse": "1"})).status == 403
        with pytest.raises(AssertionError, match="/yes: expected a refusal, but the application accepted"):
            await client.refused("/yes")


async def test_a_close_before_acceptance_is_a_refusal_with_403() -> None:
    refused = await refusal_of(refusing(close(1008, "no")))
    assert (refused.status, refused.headers, refused.body) == (403, {}, b"")


@pytest.mark.parametrize(
    "bodies", [[{"body": b'{"a":1}'}], [{"body": b'{"a"', "more_body": True}, {"body": b":1}"}]], ids=["one", "two"]
)
async def test_a_denial_response_is_a_refusal_with_its_status_headers_and_body(bodies: list[Event]) -> None:
    start = {"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"10")]}
    refused = await refusal_of(refusing(start, *({"type": "websocket.http.response.body", **body} for body in bodies)))
    assert (refused.status, refused.headers, refused.json()) == (429, {"retry-after": "10"}, {"a": 1})
    assert str(refused) == 'the handshake was refused with HTTP 429: {"a":1}'


async def test_a_denial_response_needs_neither_headers_nor_body() -> None:
    events = {"type": "websocket.http.response.start", "status": 503}, {"type": "websocket.http.response.body"}
    refused = await refusal_of(refusing(*events))
    assert (refused.status, refused.headers, refused.body) == (503, {}, b"")
    with pytest.raises(ValueError, match="Expecting value"):
        refused.json()


async def test_a_denial_response_that_never_ends_is_a_timeout() -> None:
    start = {"type": "websocket.http.response.start", "status": 503}
    with pytest.raises(TimeoutError):
        async with Client(refusing(start), timeout_s=SOON_S) as client, client.connect("/"):
            raise AssertionError("the handshake was accepted")


async def test_a_refusal_of_a_hub_is_one() -> None:
    hub = Hub(limits=Limits(connections=1))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass

    async with Client(app) as client, client.connect("/"):
        with pytest.raises(Refused) as caught:
            await client.connect("/").__aenter__()
    assert (caught.value.status, caught.value.json()["limit"]) == (503, "connections")


async def test_a_refusal_of_fastapi_is_one() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})

    refused = await refusal_of(app)
    assert (refused.status, refused.json()) == (401, {"detail": "who are you?"})
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await refusal_of(FastAPI())).status == 403


async def crash(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    raise ValueError("a fault of the endpoint")


async def test_an_endpoint_that_fails_before_acceptance_fails_the_test() -> None:
    with pytest.raises(ValueError, match="a fault of the endpoint"):
        async with Client(asgi(crash)) as client, client.connect("/"):
            pass


@pytest.mark.parametrize("handler", [asgi(crash), refusing()], ids=["raises", "returns"])
async def test_a_handshake_that_the_endpoint_leaves_unanswered_is_refused_with_500(handler: Handler) -> None:
    """As uvicorn and hypercorn do; 403 is the answer to a close."""
    assert (await refusal_of(handler, raise_app_exceptions=False)).status == 500


@pytest.mark.parametrize(
    "answer",
    [
        [close(1008)],
        [{"type": "websocket.http.response.start", "status": 403}, {"type": "websocket.http.response.body"}],
    ],
    ids=["close", "denial response"],
)
async def test_an_endpoint_that_refused_hears_that_the_client_is_gone(
    answer: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_FINISH_DEADLINE_S", SOON_S)
    seen = []

    async def refuse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for event in answer:
            await send(event)
        seen.append((await receive())["type"])

    assert (await refusal_of(asgi(refuse))).status == 403
    assert seen == ["websocket.disconnect"]


@pytest.mark.parametrize("event", [text("too early"), {"type": "websocket.http.response.body"}])
async def test_what_is_no_answer_to_the_handshake_is_an_error_of_the_endpoint(event: Event) -> None:
    with pytest.raises(RuntimeError, match=event["type"]):
        async with Client(refusing(event)) as client, client.connect("/"):
            raise AssertionError("the handshake was accepted")


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
async def test_a_second_answer_to_the_handshake_is_an_error_of_the_endpoint(kind: str) -> None:
    app = saying({"type": kind, "status": 403})
    with pytest.raises(RuntimeError, match=f"{kind} cannot be sent: the handshake is over"):
        async with Client(app) as client, client.connect("/") as connection:
            await connection.assert_closed(1006)


@pytest.mark.parametrize("transport", [None, RecordingTransport()], ids=["own transport", "recording transport"])
async def test_a_handshake_that_nobody_answers_is_a_timeout_and_can_be_left(
    transport: RecordingTransport | None,
) -> None:
    left = []

    async def wait(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        left.append(await receive())

    async with Client(asgi(wait), timeout_s=SOON_S) as client:
        with pytest.raises(TimeoutError):
            async with client.connect("/", transport=transport):
                raise AssertionError("the handshake was accepted")
        assert left == []
    assert [event["type"] for event in left] == ["websocket.disconnect"]


async def test_a_connection_that_is_never_opened_is_nothing() -> None:
    async with Client(accepting()) as client:
        connection = client.connect("/")
        client.connect("/", transport=RecordingTransport())
        assert not connection.is_open


# Messages


class Point(BaseModel):
    x: int


@dataclass
class Named:
    name: str


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("a text", {"text": "a text"}),
        ("", {"text": ""}),
        (b"binary", {"bytes": b"binary"}),
        (b"", {"bytes": b""}),
        ({"a": [1, None]}, {"text": '{"a":[1,null]}'}),
        ([], {"text": "[]"}),
        (None, {"text": "null"}),
        (Point(x=1), {"text": '{"x":1}'}),
        (Named("ü"), {"text": '{"name":"ü"}'}),
    ],
    ids=repr,
)
async def test_a_message_is_text_or_binary_or_else_json(message: object, event: Event) -> None:
    seen = []

    async def look(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append(await receive())

    async with Client(accepting(look)) as client, client.connect("/") as connection:
        await connection.send(message)
        await settle()
    assert seen == [{"type": "websocket.receive", **event}]


async def test_messages_are_received_as_they_were_sent_and_in_order() -> None:
    app = saying(text("1"), binary(b"2"), {**text("3"), "bytes": None}, {**binary(b"4"), "text": None}, text(""))
    async with Client(app) as client, client.connect("/") as connection:
        assert [await connection.receive() for _ in range(5)] == ["1", b"2", "3", b"4", ""]


async def test_a_message_that_comes_later_is_waited_for() -> None:
    async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send(text((await receive())["text"]))

    async with Client(accepting(echo)) as client, client.connect("/") as connection:
        receiving = asyncio.create_task(connection.receive())
        await settle()
        assert not receiving.done()
        await connection.send("x")
        assert await receiving == "x"


async def test_a_receive_that_gives_up_loses_nothing() -> None:
    async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send(text((await receive())["text"]))

    async with Client(accepting(echo), timeout_s=SOON_S) as client, client.connect("/") as connection:
        with pytest.raises(TimeoutError):
            await connection.receive()
        await connection.send("x")
        assert await connection.receive() == "x"


async def test_every_receive_has_a_timeout_the_clients_or_its_own() -> None:
    async with Client(accepting(), timeout_s=60) as client, client.connect("/") as connection:
        with pytest.raises(TimeoutError):
            await connection.receive(timeout_s=SOON_S)
        with pytest.raises(TimeoutError):
            await connection.receive_json(timeout_s=0)
    async with Client(accepting(), timeout_s=SOON_S) as client, client.connect("/") as connection:
        with pytest.raises(TimeoutError):
            await connection.receive()


async def test_what_has_come_is_received_without_time() -> None:
    async with Client(saying(text("1"))) as client, client.connect("/") as connection:
        await settle()
        assert await connection.receive(timeout_s=0) == "1"


@pytest.mark.parametrize("event", [text('{"a": 1}'), binary(b'{"a": 1}')])
async def test_a_message_can_be_received_as_json(event: Event) -> None:
    async with Client(saying(event)) as client, client.connect("/") as connection:
        assert await connection.receive_json() == {"a": 1}


async def test_what_is_not_json_is_not_received_as_json() -> None:
    async with Client(saying(text("hello"))) as client, client.connect("/") as connection:
        with pytest.raises(ValueError, match="Expecting value"):
            await connection.receive_json()


# The end


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        (close(4000, "bye"), 4000, "bye"),
        ({"type": "websocket.close"}, 1000, ""),
        ({"type": "websocket.close", "code": 1001, "reason": None}, 1001, ""),
    ],
)
async def test_a_close_of_the_application_is_received_after_what_came_before_it_and_again(
    event: Event, code: int, reason: str
) -> None:
    async with Client(saying(text("1"), event)) as client, client.connect("/") as connection:
        assert await connection.receive() == "1"
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as caught:
                await connection.receive()
            assert (caught.value.code, caught.value.reason) == (code, reason)
        await connection.assert_nothing()


async def test_a_close_can_be_received_when_the_connection_has_been_left() -> None:
    async with Client(saying(text("last"), close(4000))) as client:
        async with client.connect("/") as connection:
            await settle()
        await connection.assert_received("last")
        await connection.assert_closed(4000)


async def test_a_close_is_received_although_the_endpoint_goes_on() -> None:
    may_return = asyncio.Event()

    async def go_on(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send(close(4000))
        await may_return.wait()

    async with Client(accepting(go_on)) as client, client.connect("/") as connection:
        await connection.assert_closed(4000)
        may_return.set()


async def test_an_endpoint_that_returns_without_a_close_is_a_connection_that_broke() -> None:
    async def leave(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send(text("1"))

    async with Client(asgi(leave)) as client, client.connect("/") as connection:
        await connection.assert_received("1")
        await connection.assert_closed(1006, "the application ended")


@pytest.mark.parametrize(
    ("leave", "code", "reason"),
    [
        (lambda connection: connection.close(), 1000, ""),
        (lambda connection: connection.close(4000, "bye"), 4000, "bye"),
        (lambda connection: connection.abort(), 1006, ""),
    ],
    ids=["close", "close with a code", "abort"],
)
async def test_the_application_hears_once_that_the_client_left(
    leave: Callable[[ClientConnection], Awaitable[None]], code: int, reason: str
) -> None:
    seen = []

    async def look(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await look(scope, receive, send)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), SOON_S)

    async with Client(app) as client, client.connect("/") as connection:
        await leave(connection)
        await connection.close(4001, "again")
        await connection.abort()
        assert not connection.is_open
    assert seen == [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": code, "reason": reason},
    ]


async def test_leaving_the_block_closes_with_1000() -> None:
    codes = []
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.receive_text()
        codes.append(caught.value.code)

    async with Client(app) as client:
        async with client.connect("/"):
            pass
        assert codes == [1000]


async def test_a_send_to_a_client_that_left_fails_as_on_a_server() -> None:
    errors = []

    async def send_late(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        with pytest.raises(OSError, match="the client is gone") as caught:
            await send(text("late"))
        errors.append(caught.value)

    async with Client(asgi(send_late)) as client:
        async with client.connect("/"):
            pass
        assert len(errors) == 1


async def test_a_send_after_the_applications_own_close_fails_and_it_hears_the_disconnect() -> None:
    seen = []

    async def send_late(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send(close(4000))
        seen.append(await receive())
        with pytest.raises(OSError, match="the client is gone"):
            await send(text("late"))

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send_late(scope, receive, send)

    async with Client(asgi(app)) as client, client.connect("/") as connection:
        await connection.assert_closed(4000)
    assert seen == [{"type": "websocket.disconnect", "code": 4000}]


async def test_the_application_hears_of_its_own_close_with_the_code_that_it_has() -> None:
    seen = []

    async def leave(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})  # 1000 by default (ASGI, "Close")
        seen.append(await receive())

    async with Client(asgi(leave)) as client, client.connect("/") as connection:
        await connection.assert_closed(1000)
    assert seen == [{"type": "websocket.disconnect", "code": 1000}]


async def test_a_close_says_what_the_endpoint_raises_soon_after_it() -> None:
    async def fail(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send(close(1011))
        for _ in range(10):
            await asyncio.sleep(0)
        await crash(scope, receive, send)

    async with Client(asgi(fail), raise_app_exceptions=False) as client, client.connect("/") as connection:
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.receive()
    assert caught.value.code == 1011
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("handler", [crash, None], ids=["raises", "returns"])
async def test_a_connection_that_broke_says_what_the_endpoint_raised(handler: Handler | None) -> None:
    async def leave(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if handler is not None:
            await handler(scope, receive, send)

    async with Client(asgi(leave), raise_app_exceptions=False) as client, client.connect("/") as connection:
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.receive()
    assert isinstance(caught.value.__cause__, ValueError if handler is crash else type(None))


@pytest.mark.parametrize("expected", [("assert_received", "x"), ("assert_closed", 1000)], ids=["message", "close"])
async def test_an_assertion_that_fails_over_a_fault_of_the_endpoint_shows_it(expected: tuple[str, Any]) -> None:
    assertion, argument = expected
    with pytest.raises(AssertionError) as caught:
        async with Client(accepting(crash)) as client, client.connect("/") as connection:
            await getattr(connection, assertion)(argument)
    assert "a fault of the endpoint" in "".join(traceback.format_exception(caught.value))


async def test_a_connection_is_open_between_the_handshake_and_the_end() -> None:
    async with Client(accepting()) as client:
        connection = client.connect("/")
        assert not connection.is_open
        async with connection:
            assert connection.is_open
            await connection.close()
            assert not connection.is_open


@pytest.mark.parametrize("end", ["close", "return"])
async def test_a_connection_is_open_until_the_client_has_received_the_close(end: str) -> None:
    async def leave(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send(text("last"))
        if end == "close":
            await send(close(1000))

    async with Client(asgi(leave)) as client, client.connect("/") as connection:
        await settle()
        assert connection.is_open, "the client has received no close yet"
        await connection.assert_received("last")
        assert connection.is_open
        await connection.assert_closed(1000 if end == "close" else 1006)
        assert not connection.is_open


async def test_a_test_that_fails_sees_its_own_error_and_not_the_endpoints() -> None:
    async def fail(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await crash(scope, receive, send)

    with pytest.raises(LookupError, match="the test's own"):
        async with Client(asgi(fail)) as client, client.connect("/"):
            raise LookupError("the test's own")


async def visit(app: Handler, *paths: str, leave: str = "the client", **options: Any) -> None:
    """Open a connection to each path and leave it, or the client only, which leaves them all."""
    async with Client(app, **options) as client:
        for path in paths:
            connection = await client.connect(path).__aenter__()
            await settle()
            if leave == "the connection":
                await connection.__aexit__(None, None, None)


async def test_a_client_that_left_receives_nothing_more() -> None:
    async with Client(accepting()) as client, client.connect("/") as connection:
        await connection.close()
        await connection.assert_nothing()
        with pytest.raises(TimeoutError):
            await connection.receive(timeout_s=0)


@pytest.mark.parametrize("leave", ["the connection", "the client"])
async def test_leaving_raises_what_the_endpoint_raised(leave: str) -> None:
    with pytest.raises(ValueError, match="a fault of the endpoint"):
        await visit(accepting(crash), "/", leave=leave)


@pytest.mark.parametrize("leave", ["the connection", "the client"])
async def test_leaving_does_not_raise_it_if_it_is_not_to(leave: str) -> None:
    await visit(accepting(crash), "/", leave=leave, raise_app_exceptions=False)


async def test_one_endpoint_that_raised_does_not_keep_the_others_running() -> None:
    left = []

    async def endpoint(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if scope["path"] == "/crash":
            await crash(scope, receive, send)
        left.append((await receive())["type"])

    with pytest.raises(ValueError, match="a fault of the endpoint"):
        await visit(asgi(endpoint), "/crash", "/fine")
    assert left == ["websocket.disconnect"]


async def test_an_endpoint_that_cancels_itself_is_no_error() -> None:
    async def cancel(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    async with Client(accepting(cancel)) as client, client.connect("/") as connection:
        await connection.assert_closed(1006)


async def test_an_endpoint_that_goes_on_after_the_end_is_cancelled_and_fails_the_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_FINISH_DEADLINE_S", SOON_S)
    ends = []

    async def go_on(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    message = f"/forever: the endpoint went on for {SOON_S} s after the end"
    with pytest.raises(AssertionError, match=message):
        async with Client(accepting(go_on)) as client, client.connect("/forever"):
            pass
    assert ends == ["cancelled"]


async def test_leaving_waits_until_the_endpoint_has_returned() -> None:
    may_return = asyncio.Event()

    async def linger(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await may_return.wait()

    visiting = asyncio.create_task(visit(asgi(linger), "/"))
    await settle()
    assert not visiting.done()
    may_return.set()
    await visiting


# Stalling


async def test_a_stalled_client_takes_nothing_until_it_reads_again() -> None:
    sent = []

    async def stream(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        for number in range(3):
            await send(text(str(number)))
            sent.append(number)

    async with Client(accepting(stream), timeout_s=SOON_S) as client, client.connect("/") as connection:
        connection.stall()
        await connection.send("go")
        await connection.assert_nothing()
        with pytest.raises(TimeoutError):
            await connection.receive()
        assert sent == []
        connection.resume()
        await connection.assert_received("0", "1", "2")
        assert sent == [0, 1, 2]


async def test_what_had_come_before_the_stall_is_received() -> None:
    async with Client(saying(text("1"))) as client, client.connect("/") as connection:
        await settle()
        connection.stall()
        await connection.assert_received("1")


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_a_stalled_client_that_leaves_frees_the_application(leave: str) -> None:
    errors = []

    async def stream(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(OSError, match="the client is gone") as caught:
            await send(text("stuck"))
        errors.append(caught.value)

    async with Client(accepting(stream)) as client, client.connect("/") as connection:
        connection.stall()
        await connection.send("go")
        await settle()
        assert errors == []
        await (connection.close() if leave == "close" else connection.abort())
        await settle()
        assert len(errors) == 1


async def test_a_stalled_client_does_not_delay_the_others_of_a_hub() -> None:
    async with Client(tutorial()) as client, client.connect("/ws/1") as ann, client.connect("/ws/2") as bob:
        bob.stall()
        await ann.send("hello")
        await ann.assert_received("Client #1 says: hello")
        await bob.assert_nothing()
        bob.resume()
        await bob.assert_received("Client #1 says: hello")


# Assertions


JSON = '{"a":[1,2],"b":null}'


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (text("x"), "x"),
        (binary(b"x"), b"x"),
        (text(JSON), JSON),
        (text(JSON), {"b": None, "a": (1, 2)}),
        (text('{"x": 1}'), Point(x=1)),
        (text('{"name": "ü"}'), Named("ü")),
        (text("[]"), []),
        (text("null"), None),
        (text('"2026-01-02"'), date(2026, 1, 2)),
    ],
)
async def test_a_message_that_is_as_expected_passes(event: Event, expected: object) -> None:
    async with Client(saying(event)) as client, client.connect("/") as connection:
        await connection.assert_received(expected)


@pytest.mark.parametrize(
    ("event", "expected", "message"),
    [
        (text("y"), "x", "expected 'x', but 'y' came"),
        (binary(b"x"), "x", "expected 'x', but b'x' came"),
        (text("x"), b"x", "expected b'x', but 'x' came"),
        (text("[1]"), [2], r"expected \[2\], but \[1\] came"),
        (text('{"x": 2}'), Point(x=1), "expected {'x': 1}, but {'x': 2} came"),
        (text('{"a": 1 }'), '{"a":1}', "expected"),
        (text("hello"), {"a": 1}, "hello"),
        (binary(b"\xff"), {"a": 1}, "xff"),
        (text("2026-01-02"), date(2026, 1, 2), "expected '2026-01-02'"),
        (close(4000, "bye"), "x", "expected 'x', but the connection was closed with 4000"),
        (None, "x", "expected 'x', but nothing came"),
    ],
)
async def test_a_message_that_is_not_as_expected_fails_and_says_what_came(
    event: Event | None, expected: object, message: str
) -> None:
    app = accepting() if event is None else saying(event)
    async with Client(app, timeout_s=SOON_S) as client, client.connect("/") as connection:
        with pytest.raises(AssertionError, match=message):
            await connection.assert_received(expected)


async def test_several_messages_are_expected_in_this_order() -> None:
    async with Client(saying(*map(text, "123"))) as client, client.connect("/") as connection:
        await connection.assert_received()
        await connection.assert_received("1", "2")
        with pytest.raises(AssertionError, match="expected '4', but '3' came"):
            await connection.assert_received("4", "3")


@pytest.mark.parametrize(("code", "reason"), [(4000, "bye"), (4000, None)])
async def test_a_close_that_is_as_expected_passes_however_often_it_is_asked_for(code: int, reason: str | None) -> None:
    async with Client(saying(close(4000, "bye"))) as client, client.connect("/") as connection:
        await connection.assert_closed(code, reason)
        await connection.assert_closed(code, reason)


@pytest.mark.parametrize(
    ("event", "expected", "message"),
    [
        (close(4000, "bye"), (4001,), r"expected a close with 4001, but it was 4000 \(bye\)"),
        (close(4000, "bye"), (4000, "hi"), r"expected a close with 4000 \(hi\), but it was 4000 \(bye\)"),
        (close(4000, "bye"), (4000, ""), r"expected a close with 4000 \(\), but it was 4000 \(bye\)"),
        (text("x"), (4000,), "expected a close with 4000, but 'x' came"),
        (None, (4000,), "expected a close with 4000, but nothing came"),
    ],
)
async def test_a_close_that_is_not_as_expected_fails_and_says_what_came(
    event: Event | None, expected: tuple[Any, ...], message: str
) -> None:
    app = accepting() if event is None else saying(event)
    async with Client(app, timeout_s=SOON_S) as client, client.connect("/") as connection:
        with pytest.raises(AssertionError, match=message):
            await connection.assert_closed(*expected)


@pytest.mark.parametrize("event", [text("x"), close(1000)])
async def test_anything_that_came_fails_the_assertion_that_nothing_did(event: Event) -> None:
    async with Client(saying(event)) as client, client.connect("/") as connection:
        with pytest.raises(AssertionError, match=f"expected nothing, but .*{event['type']}"):
            await connection.assert_nothing()


async def test_what_takes_the_application_many_turns_is_still_noticed() -> None:
    async def think(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        for _ in range(100):
            await asyncio.sleep(0)
        await send(text("x"))

    async with Client(accepting(think)) as client, client.connect("/") as connection:
        await connection.assert_nothing()
        await connection.send("go")
        with pytest.raises(AssertionError, match="expected nothing"):
            await connection.assert_nothing()
        await connection.assert_received("x")
        await connection.assert_nothing()


async def test_each_open_connection_is_asked_for_the_message_and_no_other() -> None:
    async with Client(tutorial(), timeout_s=SOON_S) as client, client.connect("/ws/1") as ann:
        client.connect("/ws/2")
        async with client.connect("/ws/3"):
            pass
        async with client.connect("/ws/4") as bob:
            await ann.send("1")
            await client.assert_all_received("Client #1 says: 1")
            await ann.send("2")
            await bob.assert_received("Client #1 says: 2")
            with pytest.raises(AssertionError, match="but nothing came"):
                await client.assert_all_received("Client #1 says: 2")


async def test_a_connection_whose_close_has_not_been_received_is_asked_too() -> None:
    async with Client(saying(text("last"), close(1000))) as client, client.connect("/") as connection:
        await settle()
        with pytest.raises(AssertionError, match="expected 'another', but 'last' came"):
            await client.assert_all_received("another")
        await connection.assert_closed(1000)


# With a hub's own parts


def echoing(**limits: float) -> tuple[FastAPI, Hub, ManualClock]:
    """Return an application that echoes, its hub with these limits, and the clock of the hub."""
    clock = ManualClock()
    hub = Hub(clock=clock, limits=Limits(**limits))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def echo(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        async for message in connection:
            await connection.send(message)

    return app, hub, clock


async def test_the_clock_of_a_hub_can_be_moved_by_hand() -> None:
    app, _, clock = echoing(idle_s=60)
    async with Client(app) as client, client.connect("/") as connection:
        clock.advance(59)
        await connection.send("x")
        await connection.assert_received("x")
        clock.advance(59)
        await connection.assert_nothing()
        clock.advance(1)
        await connection.assert_closed(1008, "idle_s")


async def test_a_recording_transport_takes_the_place_of_the_connections_own() -> None:
    app, hub, _ = echoing()
    transport = RecordingTransport()
    async with Client(app) as client, client.connect("/", transport=transport):
        transport.receive("1")
        await settle()
        assert transport.written == ["1"]
        transport.buffered_bytes = 65_536
        transport.receive("2")
        await settle()
        assert transport.written == ["1"]
        assert hub.statistics().queued_bytes > 0
        transport.buffered_bytes = 0
        assert transport.written == ["1", "2"]
    assert hub.statistics().closed == {1000: 1}


@pytest.mark.parametrize(("leave", "code"), [("close", 4000), ("abort", 1006), ("lose", 4001)])
async def test_a_client_with_a_recording_transport_leaves_like_any_other(leave: str, code: int) -> None:
    app, hub, _ = echoing()
    transport = RecordingTransport()
    async with Client(app) as client, client.connect("/", transport=transport) as connection:
        if leave == "close":
            await connection.close(4000)
        elif leave == "abort":
            await connection.abort()
        else:
            transport.lose(4001)
        assert hub.statistics().closed == {code: 1}
    assert hub.statistics().connections == 0


async def test_a_refused_connection_with_a_recording_transport_can_be_left() -> None:
    hub = Hub(limits=Limits(connections=1))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass

    async with Client(app) as client, client.connect("/"):
        with pytest.raises(Refused):
            await client.connect("/", transport=RecordingTransport()).__aenter__()
