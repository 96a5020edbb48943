"""A second hub in the same process shares nothing with the first."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import ModuleType

import pytest

from hubbub import Hub, Outbox
from tests.integration.clients import Client, Close, client, refusal
from tests.integration.modules import load
from tests.integration.servers import serving

pytestmark = pytest.mark.usefixtures("each_class")


@pytest.fixture
def application() -> ModuleType:
    return load("two_hubs")


@pytest.fixture
async def port(application: ModuleType) -> AsyncIterator[int]:
    async with serving(application.app) as port:
        yield port


@pytest.fixture
async def clients(port: int) -> AsyncIterator[tuple[Client, Client]]:
    """The same user in the same room, on each hub."""
    async with client(port, "/first/ann") as one, client(port, "/second/ann") as other:
        assert await one.receive() == await other.receive() == "ready"
        yield one, other


@pytest.mark.parametrize(
    "send",
    [
        lambda hub, message: hub.broadcast(message),
        lambda hub, message: hub.publish("room:1", message),
        lambda hub, message: hub.channel("room:1").publish(message),
        lambda hub, message: hub.send("ann", message),
    ],
    ids=["broadcast", "publish", "channel", "send"],
)
async def test_a_message_stays_on_its_hub(
    application: ModuleType, clients: tuple[Client, Client], send: Callable[[Hub, str], Awaitable[None]]
) -> None:
    one, other = clients
    await send(application.first, "for the first")
    await send(application.second, "for the second")
    assert (await one.receive(), await other.receive()) == ("for the first", "for the second")
    await application.first.broadcast("last")
    await application.second.broadcast("last")
    assert await one.receive() == await other.receive() == "last"


async def test_a_disconnected_user_stays_connected_to_the_other(
    application: ModuleType, clients: tuple[Client, Client]
) -> None:
    one, other = clients
    await application.first.disconnect("ann")
    assert await one.closed() == Close(3503, "")
    await application.second.send("ann", "still here")
    assert await other.receive() == "still here"


async def test_connections_and_statistics_are_their_own(
    application: ModuleType, clients: tuple[Client, Client]
) -> None:
    first, second = application.first, application.second
    assert len(first.connections) == len(second.connections) == 1
    assert not first.connections.keys() & second.connections.keys()
    before = second.statistics()
    await first.publish("room:1", "hello")
    await clients[0].send("hello")
    await first.disconnect("ann")
    await clients[0].receive()
    await clients[0].closed()
    assert second.statistics() == before
    assert (first.statistics().published, first.statistics().closed) == (1, {3503: 1})


async def test_limits_count_what_is_on_their_hub(port: int) -> None:
    async with AsyncExitStack() as stack:
        for path in ("/first/ann", "/first/bob", "/second/ann"):
            someone = await stack.enter_async_context(client(port, path))
            assert await someone.receive() == "ready"
        assert (await refusal(port, "/first/cho")).status_code == 503
        someone = await stack.enter_async_context(client(port, "/second/cho"))
        assert await someone.receive() == "ready"


async def test_allowed_origins_are_their_own(port: int) -> None:
    async with client(port, "/first/ann", origin="https://first.example") as someone:
        assert await someone.receive() == "ready"
    assert (await refusal(port, "/second/ann", origin="https://first.example")).status_code == 403


async def test_families_are_their_own(application: ModuleType) -> None:
    first, second = application.first, application.second
    first.channels("room:{room}", outbox=Outbox(policy="latest"))
    second.channels("room:{name}", outbox=Outbox(policy="drop_oldest"))
    with pytest.raises(ValueError, match="overlaps"):
        first.channels("room:{name}")


async def test_one_can_end_and_the_other_goes_on(application: ModuleType, port: int) -> None:
    async with AsyncExitStack() as stack:
        async with application.first:
            one, other = [await stack.enter_async_context(client(port, f"/{hub}/ann")) for hub in ("first", "second")]
            assert await one.receive() == await other.receive() == "ready"
        assert await one.closed() == Close(1012, "")
        await application.second.broadcast("still here")
        assert await other.receive() == "still here"


async def test_managers_share_nothing_either(application: ModuleType, port: int) -> None:
    async with client(port, "/managers/first") as one, client(port, "/managers/second") as other:
        assert await one.receive() == await other.receive() == "ready"
        await application.managers["first"].broadcast("for the first")
        assert await one.receive() == "for the first"
        assert await other.ask("for the second") == "for the second"
        [socket_of_one] = application.managers["first"].active_connections
        assert socket_of_one not in application.managers["second"].active_connections
        with pytest.raises(RuntimeError, match="does not know this socket"):
            await application.managers["second"].send_personal_message("hello", socket_of_one)
