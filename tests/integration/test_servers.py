"""The same behaviour on every ASGI server: uvicorn with each of its WebSocket classes, hypercorn and granian."""

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.clients import TEXT, Client, Close, RawClient, client, http_client, refusal
from tests.integration.servers import COMMANDS, OLDEST, Server

NOTHING = {"connections": 0, "users": 0, "channels": 0, "queued_bytes": 0}
EXPECTED_EXCEPTIONS = {
    "ArithmeticError: raised on purpose",
    "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
}

# What a server does not do, whatever the application; there is nothing that a hub could do about it.
CLOSE_THAT_THE_ENDPOINT_SEES = {"hypercorn": {"code": 1006, "reason": ""}, "granian": {"code": 4002, "reason": ""}}
CODE_FOR_BAD_UTF_8 = {"uvicorn-wsproto": 1006, "hypercorn": 1006, "granian": 1005}  # 1006: no close frame at all
WAITS_FOR_ITS_CLIENTS = {"hypercorn": sys.version_info >= (3, 12)}
"""Servers that do not end before their clients leave, with or without a hub: since Python 3.12
`asyncio.Server.wait_closed` waits for them."""
CODE_AT_THE_SERVERS_END = {"hypercorn": 1011, "granian": 1006}
EXCEPTIONS_AT_THE_SERVERS_END = {"hypercorn": {"asyncio.exceptions.CancelledError"}}
IGNORES_HEADERS_OF_THE_ACCEPTANCE = {"granian"}


END_DEADLINE_S = 4.5


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(request.param, "behaviour", tmp_path_factory.mktemp(request.param) / "log")
    server.start()
    yield server
    try:
        server.wait_for_answer("/left", NOTHING)
    finally:
        server.stop()
    assert server.exceptions <= EXPECTED_EXCEPTIONS, server.log


@pytest.fixture
def port(server: Server) -> int:
    return server.port


def test_both_ends_of_the_range_of_uvicorn_are_tested() -> None:
    declared = next(line for line in metadata.requires("hubbub") or () if line.startswith("uvicorn[standard]"))
    oldest = metadata.distributions(name="uvicorn", path=[str(OLDEST)])
    assert f">={next(iter(oldest)).version}".removesuffix(".0") in declared
    assert metadata.version("uvicorn") > "0.53"


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(server.port) as http:
        yield http


@pytest.fixture
def name() -> str:
    """A name that nobody else in this run has: the servers are shared."""
    return secrets.token_hex(8)


# Messages


async def test_text_and_binary_messages_come_back(port: int) -> None:
    async with client(port, "/echo") as someone:
        for message in ("hello ✓", b"\x00\xff", "", b"", "x" * 65_536):
            assert await someone.ask(message) == message


async def test_personal_messages_and_broadcasts(port: int, name: str) -> None:
    ann, bob = f"Ann-{name}", f"Bob-{name}"
    async with client(port, f"/chat/{ann}") as one:
        async with client(port, f"/chat/{bob}") as two:
            assert await two.ask("hello") == "You wrote: hello"
            assert [await one.receive(), await two.receive()] == [f"{bob} says: hello"] * 2
        assert await one.receive() == f"{bob} left"
        assert await one.ask("bye") == "You wrote: bye"


async def test_raw_sends_broadcasts_and_personal_messages_keep_their_order(port: int) -> None:
    async with client(port, "/mixed") as someone:
        await someone.send("999")
        assert await someone.receive_many(999) == [str(number) for number in range(999)]
        assert await someone.closed() == Close(1000, "")


async def test_every_tab_of_a_user_hears_what_is_sent_to_the_user(
    port: int, http: httpx.AsyncClient, name: str
) -> None:
    path = f"/users/{name}"
    async with client(port, path) as one, client(port, path) as two, client(port, path + "x") as stranger:
        for tab in (one, two, stranger):
            assert await tab.receive() == "ready"
        await http.post(f"/send/{name}", json={"unread": "3"})
        await http.post(f"/send/{name}x", json={"unread": "0"})
        assert [await one.receive_json(), await two.receive_json()] == [{"unread": "3"}] * 2
        assert await stranger.receive_json() == {"unread": "0"}


# The handshake


async def test_a_subprotocol_and_headers_of_the_acceptance(server: Server) -> None:
    async with client(server.port, "/details", subprotocols=["chat.v1", "chat.v2"]) as someone:
        assert someone.connection.subprotocol == "chat.v2"
        assert someone.connection.response is not None
        headers = someone.connection.response.headers
        expected = (None, None) if server.kind in IGNORES_HEADERS_OF_THE_ACCEPTANCE else ("hubbub", "seen=yes")
        assert (headers.get("X-Served-By"), headers.get("Set-Cookie")) == expected


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://friend.example.evil.example"])
async def test_a_foreign_origin_is_refused(port: int, origin: str) -> None:
    refused = await refusal(port, "/echo", origin=origin)
    assert refused.status_code == 403
    assert json.loads(refused.body) == {"detail": "This origin may not connect", "limit": "allowed_origins"}


@pytest.mark.parametrize("origin", ["https://friend.example", "http://127.0.0.1:{port}", "http://localhost:{port}"])
async def test_an_allowed_origin_and_the_own_one_are_let_in(port: int, origin: str) -> None:
    async with client(port, "/echo", origin=origin.format(port=port)) as someone:
        assert await someone.ask("hello") == "hello"


@pytest.mark.parametrize(
    ("path", "status", "limit"),
    [
        ("/one/in-total", 503, "connections"),
        ("/one/of-an-address", 429, "connections_per_address"),
        ("/one/of-a-user/{name}", 429, "connections_per_user"),
    ],
)
async def test_one_connection_too_many_is_refused(port: int, name: str, path: str, status: int, limit: str) -> None:
    path = path.format(name=name)
    async with client(port, path) as someone:
        assert await someone.ask("hello") == "hello"
        refused = await refusal(port, path)
        assert refused.status_code == status
        assert json.loads(refused.body).keys() == {"detail", "limit"}
        assert json.loads(refused.body)["limit"] == limit
        assert int(refused.headers["Retry-After"]) > 0
        assert await someone.ask("still here") == "still here"


async def test_an_endpoint_that_does_not_accept_refuses(port: int) -> None:
    refused = await refusal(port, "/unaccepted")
    assert refused.status_code == 403
    assert json.loads(refused.body) == {"detail": "The endpoint did not accept the connection", "limit": None}


async def test_denied_in_the_endpoint_refuses_with_its_status_and_headers(port: int) -> None:
    refused = await refusal(port, "/denied")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert json.loads(refused.body) == {"detail": "Not today", "limit": None}


async def test_a_dependency_that_comes_after_the_hub_can_refuse(port: int) -> None:
    refused = await refusal(port, "/paid")
    assert refused.status_code == 402
    assert refused.headers["X-Price"] == "5"
    assert json.loads(refused.body) == {"detail": "Pay first"}


async def test_a_path_parameter_of_the_wrong_type_is_refused_at_the_handshake(port: int) -> None:
    assert (await refusal(port, "/numbers/one")).status_code == 403


# The end, from the server's side


@pytest.mark.parametrize(
    ("path", "close"),
    [
        ("/ends-with/return", Close(1000, "")),
        ("/ends-with/exception", Close(1011, "")),
        ("/ends-with/http", Close(1008, "not for you")),
        ("/ends-with/denied", Close(1008, "apples")),
    ],
)
async def test_how_the_endpoint_ends_is_what_the_client_sees(port: int, path: str, close: Close) -> None:
    async with client(port, path) as someone:
        assert await someone.closed() == close


async def test_a_close_of_the_endpoint_carries_its_code_and_reason_after_what_was_sent(port: int) -> None:
    async with client(port, "/closes?code=4444&reason=it+is+late") as someone:
        assert await someone.receive() == "last words"
        assert await someone.closed() == Close(4444, "it is late")


async def test_an_endpoint_that_only_pushes_can_close(port: int) -> None:
    async with client(port, "/closes-while-pushing") as someone:
        assert await someone.receive_many(100) == [str(number) for number in range(100)]
        assert await someone.closed() == Close(4001, "enough")


@pytest.mark.parametrize(
    ("query", "close"), [("", Close(3503, "")), ("?code=4000&reason=signed+out", Close(4000, "signed out"))]
)
@pytest.mark.parametrize("endpoint", ["receives", "pushes", "never-receives"])
async def test_a_user_who_is_disconnected(
    port: int, http: httpx.AsyncClient, name: str, endpoint: str, query: str, close: Close
) -> None:
    async with client(port, f"/{endpoint}/{name}") as one, client(port, "/echo") as someone_else:
        await someone_else.ask("both are connected")
        await http.post(f"/disconnect/{name}{query}")
        assert await last_words(one) == close
        if endpoint == "never-receives":
            await http.post(f"/let-go/{name}")
        else:
            seen = (await http.get(f"/ends/{name}")).json()
            assert seen == {"code": close.code, "reason": close.reason}
        assert await someone_else.ask("still here") == "still here"


async def last_words(someone: Client) -> Close:
    """Return how the server has ended a connection on which it was pushing."""
    try:
        while True:
            await someone.receive()
    except ConnectionClosed:
        return await someone.closed()


async def test_an_endpoint_of_starlette_alone_that_returns_is_noticed(server: Server) -> None:
    """What the client sees then is up to the server."""
    async with client(server.port, "/plain") as someone:
        assert await someone.receive() == "ready"
        await someone.send("return")
        await asyncio.to_thread(server.wait_for_answer, "/left", NOTHING)


# The end, from the client's side


@pytest.mark.parametrize("endpoint", ["receives", "pushes"])
async def test_the_endpoint_sees_the_close_of_the_client(
    server: Server, http: httpx.AsyncClient, name: str, endpoint: str
) -> None:
    async with client(server.port, f"/{endpoint}/{name}") as someone:
        await someone.close(4002, "bye")
    seen = (await http.get(f"/ends/{name}")).json()
    assert seen == CLOSE_THAT_THE_ENDPOINT_SEES.get(server.kind, {"code": 4002, "reason": "bye"})


@pytest.mark.parametrize("endpoint", ["receives", "pushes", "never-receives"])
async def test_a_client_that_vanishes_is_noticed(
    server: Server, http: httpx.AsyncClient, name: str, endpoint: str
) -> None:
    someone = await RawClient.connect(server.port, f"/{endpoint}/{name}")
    assert (await http.get(f"/connections/{name}")).json() == 1
    someone.vanish()
    if endpoint == "never-receives":
        await asyncio.to_thread(server.wait_for_answer, f"/connections/{name}", 0)
        await http.post(f"/let-go/{name}")
    else:
        assert (await http.get(f"/ends/{name}")).json()["code"] in (1005, 1006)
    assert (await http.get(f"/connections/{name}")).json() == 0


async def test_a_client_that_stops_reading_is_let_go(server: Server, http: httpx.AsyncClient, name: str) -> None:
    someone = await RawClient.connect(server.port, f"/streams/{name}", receive_buffer=4_096)
    assert (await http.get(f"/ends/{name}")).json() == {"code": 3008, "reason": "slow"}
    assert (await http.get(f"/connections/{name}")).json() == 0
    someone.hang_up()


# Bad input: a clear error, and nothing else changes


async def test_a_message_that_is_too_large(port: int, http: httpx.AsyncClient) -> None:
    async with client(port, "/echo") as someone, client(port, "/echo") as someone_else:
        await someone.send("x" * 65_537)
        assert await someone.closed() == Close(1009, "message_bytes")
        assert await someone_else.ask("still here") == "still here"
        assert (await http.get("/violations")).json()["message_bytes"] == 1


async def test_too_many_messages(port: int) -> None:
    async with client(port, "/three-at-once") as someone:
        for number in range(3):
            assert await someone.ask(str(number)) == str(number)
        await someone.send("3")
        assert await someone.closed() == Close(1008, "messages_per_s")


@pytest.mark.parametrize(
    ("path", "message", "close"),
    [
        ("/text", b"binary", Close(1003, "text expected")),
        ("/bytes", "text", Close(1003, "binary expected")),
        ("/strict", b"binary", Close(1003, "invalid_message")),
        ("/strict", "{", Close(1007, "invalid_message")),
        ("/strict", "{}", Close(1008, "invalid_message")),
    ],
)
async def test_a_message_of_the_wrong_kind_ends_the_connection(
    port: int, path: str, message: str | bytes, close: Close
) -> None:
    async with client(port, path) as someone:
        await someone.send(message)
        assert await someone.closed() == close


@pytest.mark.parametrize(
    ("message", "error"), [("{", "json_invalid"), ("{}", "missing"), ('{"text": 1}', "string_type"), (b"{}", "binary")]
)
async def test_a_message_that_is_not_valid_is_answered(port: int, message: str | bytes, error: str) -> None:
    async with client(port, "/typed") as someone:
        await someone.send(message)
        answer = await someone.receive_json()
        assert (answer["type"], answer["code"]) == ("error", "invalid_message")
        assert [fault["type"] for fault in answer["errors"]] == [error]
        assert await someone.ask('{"text":"goes on"}') == '{"text":"goes on"}'


async def test_text_that_is_not_utf_8(server: Server) -> None:
    someone = await RawClient.connect(server.port, "/echo")
    await someone.send_frame(TEXT, b"\xff\xfe")
    assert (await someone.receive_close()).code == CODE_FOR_BAD_UTF_8.get(server.kind, 1007)
    someone.hang_up()


async def test_a_channel_name_that_is_too_long_and_one_channel_too_many(port: int) -> None:
    async with client(port, "/joins") as someone:
        await someone.send("n" * 256)
        assert await someone.receive_json() == {"denied": "channel_name_bytes"}
        for number in range(128):
            await someone.send(f"channel {number:03}")
            joined = (await someone.receive_json())["joined"]
        assert joined == [f"channel {number:03}" for number in range(128)]
        await someone.send("one more")
        assert await someone.receive_json() == {"denied": "channels_per_connection"}


async def test_where_a_client_is_comes_between_what_it_has_missed_and_what_is_live(port: int, name: str) -> None:
    numbers = [str(number) for number in range(50)]
    async with client(port, f"/follows/{name}") as someone:
        start = await someone.receive_json()
        assert start == {"channel": f"log:{name}", "epoch": start["epoch"], "offset": 0, "recovered": True}
        await someone.send(" ".join(numbers))
        assert [(await someone.receive_json())["data"] for _ in range(51)] == ["joined", *numbers]
    async with client(port, f"/follows/{name}?since={start['epoch']}:1") as someone:
        assert [(await someone.receive_json())["data"] for _ in range(50)] == numbers
        assert await someone.receive_json() == {**start, "offset": 51}
        assert (await someone.receive_json())["data"] == "joined"
    async with client(port, f"/follows/{name}?since=another:1") as someone:
        assert await someone.receive_json() == {**start, "offset": 52, "recovered": False}
        assert (await someone.receive_json())["data"] == "joined"


# The end of the server


@pytest.mark.parametrize("end", [Server.terminate, Server.interrupt])
@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_signal_ends_the_server_with_connections_open(
    kind: str, end: Callable[[Server], None], tmp_path: Path
) -> None:
    server = Server(kind, "behaviour", tmp_path / "log")
    server.start()
    try:
        async with (
            client(server.port, "/echo") as one,
            client(server.port, "/receives/one") as two,
            client(server.port, "/pushes/two") as three,
        ):
            await one.ask("hello")
            end(server)
            async with asyncio.timeout(END_DEADLINE_S):
                if WAITS_FOR_ITS_CLIENTS.get(kind, False):
                    for someone in (one, two, three):
                        await someone.connection.close()
                else:
                    codes = {(await last_words(someone)).code for someone in (one, two, three)}
                    assert codes == {CODE_AT_THE_SERVERS_END.get(kind, 1012)}
                status = await asyncio.to_thread(server.wait)
        assert status in (0, -signal.SIGTERM)
        assert server.exceptions <= EXCEPTIONS_AT_THE_SERVERS_END.get(kind, set()), server.log
    finally:
        server.kill()
