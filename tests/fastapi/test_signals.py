"""What a hub hears of the signals that end its server, and in which order."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from hubbub import Hub
from hubbub.fastapi.signals import hear_of_the_end

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server:
    """What has set handlers, as uvicorn does."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = {number: signal.signal(number, server.handle) for number in SIGNALS}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def told() -> list[str]:
    return []


def assert_alone(server: Server) -> None:
    assert [signal.getsignal(number) for number in SIGNALS] == [server.handle] * 2


async def turn() -> None:
    """Let the loop make the calls that it has been given."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_loop_is_told_and_then_the_handler_that_was_there(
    server: Server, told: list[str], number: signal.Signals
) -> None:
    stop = hear_of_the_end(lambda: told.append("end"))
    signal.raise_signal(number)
    assert (told, server.heard) == ([], [number])  # in a signal's handler nothing is safe but to tell the loop
    await turn()
    assert told == ["end"]
    stop()
    assert_alone(server)


async def test_a_loop_that_waits_is_woken(server: Server) -> None:
    ended = asyncio.Event()
    stop = hear_of_the_end(ended.set)
    threading.Timer(0, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()
    async with asyncio.timeout(20):
        await ended.wait()
    stop()


async def test_a_signal_that_nobody_handles_is_left_alone(server: Server, told: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop = hear_of_the_end(lambda: told.append("end"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    stop()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "last first"])
async def test_several_hubs_may_stop_in_any_order(server: Server, told: list[str], order: tuple[int, int]) -> None:
    stops = [hear_of_the_end(lambda: told.append("one")), hear_of_the_end(lambda: told.append("two"))]
    signal.raise_signal(signal.SIGTERM)
    await turn()
    assert sorted(told) == ["one", "two"]
    assert server.heard == [signal.SIGTERM]
    for number in order:
        stops[number]()
    signal.raise_signal(signal.SIGTERM)
    await turn()
    assert sorted(told) == ["one", "two"]
    assert server.heard == [signal.SIGTERM] * 2


async def test_a_handler_that_was_set_later_stays(server: Server, told: list[str]) -> None:
    later = Server()
    stop = hear_of_the_end(lambda: told.append("end"))
    signal.signal(signal.SIGTERM, later.handle)
    stop()
    assert signal.getsignal(signal.SIGTERM) == later.handle
    assert signal.getsignal(signal.SIGINT) == server.handle


def test_a_loop_that_is_closed_is_not_told(server: Server, told: list[str]) -> None:
    async def hear() -> Callable[[], None]:
        return hear_of_the_end(lambda: told.append("end"))

    stop = asyncio.run(hear())
    signal.raise_signal(signal.SIGTERM)
    assert (told, server.heard) == ([], [signal.SIGTERM])
    stop()
    assert signal.getsignal(signal.SIGTERM) == server.handle


async def test_in_another_thread_nothing_happens(server: Server, told: list[str]) -> None:
    def run() -> None:
        async def hear() -> None:
            hear_of_the_end(lambda: told.append("end"))()

        asyncio.run(hear())

    await asyncio.to_thread(run)
    assert_alone(server)


async def test_stopped_in_another_thread_it_passes_the_signals_on(server: Server, told: list[str]) -> None:
    await asyncio.to_thread(hear_of_the_end(lambda: told.append("end")))
    signal.raise_signal(signal.SIGTERM)
    await turn()
    assert (told, server.heard) == ([], [signal.SIGTERM])


# In the life of a hub


@pytest.mark.parametrize("kind", ["lifespan", "async with hub"])
async def test_a_hub_hears_of_the_end_for_as_long_as_it_runs(server: Server, kind: str) -> None:
    hub = Hub()
    async with hub.lifespan(None) if kind == "lifespan" else hub:
        signal.raise_signal(signal.SIGTERM)
        await turn()
        assert hub._runtime.core is not None
        assert hub._runtime.core.ends_streams
    assert server.heard == [signal.SIGTERM]
    assert_alone(server)


async def test_a_hub_that_is_entered_twice_hears_until_the_last_exit(server: Server) -> None:
    hub = Hub()
    async with hub:
        handler = signal.getsignal(signal.SIGTERM)
        async with hub.lifespan(None):
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is handler
    assert_alone(server)


async def test_a_hub_that_starts_again_takes_streams_again(server: Server) -> None:
    hub = Hub()
    async with hub:
        signal.raise_signal(signal.SIGTERM)
        await turn()
    async with hub:
        assert hub._runtime.core is not None
        assert not hub._runtime.core.ends_streams
    assert_alone(server)


def test_a_hub_whose_loop_was_closed_under_it_lets_go_of_the_signals(server: Server) -> None:
    hub = Hub()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(hub.__aenter__())
    loop.close()

    async def again() -> None:
        async with hub:
            pass

    with asyncio.Runner() as runner:
        runner.run(again())
    assert_alone(server)
