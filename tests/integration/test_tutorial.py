"""Every behaviour of FastAPI's WebSocket tutorial, on a real uvicorn with a real client.

Each test runs twice: on the tutorial's own application, in which only the class definition gave way to an import, and
on what it becomes with a hub. Where the two differ, the test says so.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.clients import Client, client, refusal
from tests.integration.deadline import DEADLINE_S
from tests.integration.modules import load
from tests.integration.servers import serving

pytestmark = pytest.mark.usefixtures("each_class")


@pytest.fixture(params=["tutorial", "tutorial_on_the_hub"])
def application(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


@pytest.fixture
async def port(application: ModuleType) -> AsyncIterator[int]:
    async with serving(application.app) as port:
        yield port


async def test_an_echo(port: int) -> None:
    async with client(port, "/ws") as someone:
        assert await someone.ask("hello") == "Message text was: hello"
        assert await someone.ask("again ✓") == "Message text was: again ✓"


async def test_a_cookie_lets_in(port: int) -> None:
    async with client(port, "/items/plumbus/ws", additional_headers={"Cookie": "session=fish"}) as someone:
        await someone.send("hello")
        assert await someone.receive_many(2) == ["The session or token is fish", "hello, for item plumbus"]


async def test_a_token_lets_in_and_a_query_parameter_is_read(port: int) -> None:
    async with client(port, "/items/plumbus/ws?token=secret&q=3") as someone:
        await someone.send("hello")
        assert await someone.receive_many(3) == [
            "The session or token is secret",
            "The query parameter q is 3",
            "hello, for item plumbus",
        ]


async def test_without_cookie_and_token_nobody_gets_in(port: int) -> None:
    assert (await refusal(port, "/items/plumbus/ws")).status_code == 403


async def test_a_query_parameter_of_the_wrong_type_is_refused_at_the_handshake(port: int) -> None:
    assert (await refusal(port, "/items/plumbus/ws?token=secret&q=three")).status_code == 403


async def test_a_path_parameter_of_the_wrong_type_is_refused_at_the_handshake(port: int) -> None:
    assert (await refusal(port, "/ws/one")).status_code == 403


async def test_personal_messages_and_broadcasts(port: int) -> None:
    async with client(port, "/ws/1") as one, client(port, "/ws/2") as two:
        assert await two.ask("hello") == "You wrote: hello"
        assert await two.receive() == "Client #2 says: hello"
        assert await one.receive() == "Client #2 says: hello"
        assert await one.ask("welcome") == "You wrote: welcome"
        assert [await one.receive(), await two.receive()] == ["Client #1 says: welcome"] * 2


@pytest.mark.parametrize("how", ["close", "vanish"])
async def test_the_others_hear_who_left(port: int, how: str) -> None:
    async with client(port, "/ws/1") as one:
        async with client(port, "/ws/2") as two:
            await two.ask("hello")
            assert await one.receive() == "Client #2 says: hello"
            if how == "close":
                await two.close()
            else:
                two.vanish()
            assert await one.receive() == "Client #2 left the chat"
        assert await one.ask("still here") == "You wrote: still here"
        assert await one.receive() == "Client #1 says: still here"


async def test_messages_in_json(port: int) -> None:
    async with client(port, "/json/1") as one, client(port, "/json/2") as two:
        await one.send_json({"text": "hello"})
        personal, chat = await one.receive_json(), await one.receive_json()
        assert (personal["type"], personal["text"]) == ("personal", "hello")
        assert (chat["type"], chat["text"]) == ("chat", "hello")
        assert await two.receive_json() == chat


async def test_text_that_is_not_json(port: int, application: ModuleType) -> None:
    """In the tutorial it ends the connection like any uncaught exception; a typed connection answers and goes on."""
    async with client(port, "/json/1") as one, client(port, "/json/2") as two:
        await one.send("{")
        if hasattr(application, "manager"):
            assert (await one.closed()).code == 1011
        else:
            assert (await one.receive_json())["code"] == "invalid_message"
        await two.send_json({"text": "the others do not notice"})
        assert (await two.receive_json())["type"] == "personal"


@asynccontextmanager
async def client_once_there_is_room(port: int, path: str) -> AsyncIterator[Client]:
    """Connect again and again: the server hears of the client that left a moment after that client."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with client(port, path) as someone:
                    yield someone
                    return
            except InvalidStatus:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/limit/by-hand", 400, "Too many connections"),
        ("/limit/worded", 400, "Too many connections"),
        ("/limit", 503, "Too many connections"),
    ],
)
async def test_one_connection_too_many(port: int, path: str, status: int, detail: str) -> None:
    async with client(port, path) as one, client(port, path) as two:
        assert await one.ask("one of two") == await two.receive() == "one of two"
        assert await two.ask("two of two") == await one.receive() == "two of two"
        refused = await refusal(port, path)
        assert refused.status_code == status
        assert json.loads(refused.body)["detail"] == detail
        assert await one.ask("still here") == await two.receive() == "still here"
        await two.close()
        async with client_once_there_is_room(port, path) as three:
            assert await three.ask("there is room again") == await one.receive() == "there is room again"
