"""Server-Sent Events on real servers: all of them, and how they end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.clients import RawClient, http_client
from tests.integration.deadline import DEADLINE_S
from tests.integration.servers import COMMANDS, Server
from tests.redis_server import redis_server

GONE_S = 2.0
"""When a server must be gone after the signal, whatever streams are open."""
UVICORN = [kind for kind in COMMANDS if kind not in ("hypercorn", "granian")]
WITHOUT_A_SIGNAL = {"hypercorn"}
"""Its workers get no signal, but are told by the process that has started them; streams are cut when its
`--graceful-timeout` is over."""
WORKERS = ("hubbub.cli", "run", "--port", "{port}", "--log-level", "warning", "--workers", "2", "{application}")
LARGE = 1_000_000

Start = Callable[[str], Server]


class Stream:
    """A stream that is open, and read block by block."""

    def __init__(self, response: httpx.Response) -> None:
        self.worker = response.headers["x-worker"]
        self._lines = response.aiter_lines()

    async def next(self) -> str | None:
        """Return the next block, or `None` at the end."""
        lines: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                if not line:
                    return "\n".join(lines)
                lines.append(line)
        assert lines == []
        return None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def start(kind: str) -> Server:
        server = Server(kind, "events", tmp_path / f"{len(servers)}.log")
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@asynccontextmanager
async def listening(server: Server, name: str, last_event_id: str | None = None) -> AsyncIterator[Stream]:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    async with http_client(server.port) as http, http.stream("GET", f"/events/{name}", headers=headers) as response:
        assert response.status_code == 200
        yield Stream(response)


async def publish(server: Server, name: str, text: str, size: int = 0) -> str:
    async with http_client(server.port) as http:
        response = await http.post(f"/news/{name}", params={"text": text, "size": size})
        position: str = response.json()
        return position


async def state(server: Server) -> dict[str, object]:
    async with http_client(server.port) as http:
        answer: dict[str, object] = json.loads((await http.get("/state")).content)
        return answer


async def until(server: Server, name: str, value: object) -> None:
    """Ask, again and again, until the server says that something is so."""
    async with asyncio.timeout(DEADLINE_S):
        while (await state(server))[name] != value:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.01)


async def assert_gone(server: Server, since: float) -> None:
    """See that the server is gone in time and in order."""
    status = await asyncio.to_thread(server.wait)
    assert time.monotonic() - since < GONE_S
    assert status == EXIT_STATUS.get(server.kind, 0)
    assert server.exceptions == set(), server.log
    assert "ERROR" not in server.log, server.log


EXIT_STATUS = {kind: -15 for kind in COMMANDS if "uvicorn" in kind}
"""uvicorn ends by the signal that it has got, once it has shut down."""


@pytest.mark.parametrize("kind", COMMANDS)
async def test_open_streams_end_with_a_word_and_do_not_keep_the_server(start: Start, kind: str) -> None:
    server = start(kind)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(listening(server, "a")) for _ in range(5)]
        firsts = [await stream.next() for stream in streams]
        position = await publish(server, "a", "one")
        assert firsts == [f"id: {position.partition(':')[0]}:0"] * 5
        assert [await stream.next() for stream in streams] == [f"id: {position}\ndata: one"] * 5

        server.terminate()
        since = time.monotonic()
        if kind in WITHOUT_A_SIGNAL:
            with pytest.raises(httpx.RemoteProtocolError):
                await streams[0].next()
            await asyncio.to_thread(server.wait)
            return
        retries = [await stream.next() or "" for stream in streams]
        assert all(200 <= int(retry.removeprefix("retry: ")) <= 5_000 for retry in retries)
        assert len(set(retries)) > 1  # not all at once
        assert [await stream.next() for stream in streams] == [None] * 5
        await assert_gone(server, since)


@pytest.mark.parametrize("kind", ["hubbub-run", "uvicorn-sansio"])
async def test_so_it_is_with_ctrl_c(start: Start, kind: str) -> None:
    server = start(kind)
    async with listening(server, "a") as stream:
        await stream.next()
        server.interrupt()
        since = time.monotonic()
        assert (await stream.next() or "").startswith("retry: ")
        await asyncio.to_thread(server.wait)
        assert time.monotonic() - since < GONE_S


@asynccontextmanager
async def stalled(server: Server) -> AsyncIterator[RawClient]:
    """Ask for a stream, and read nothing of it."""
    client = await RawClient.dial(server.port, receive_buffer=8_192)
    await client.send_bytes(b"GET /events/a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        await until(server, "accepted", 1)
        yield client
    finally:
        client.hang_up()


@pytest.mark.parametrize("kind", UVICORN)
async def test_a_client_that_does_not_read_keeps_no_server(start: Start, kind: str) -> None:
    server = start(kind)
    async with stalled(server):
        while not (await state(server))["is_queued"]:
            await publish(server, "a", "x", LARGE)
        server.terminate()
        await assert_gone(server, time.monotonic())


async def test_nor_does_it_behind_middleware_on_the_server_class(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_TEST_MIDDLEWARE", "1")
    await test_a_client_that_does_not_read_keeps_no_server(start, "hubbub-run")
    await test_a_slow_client_is_cut_off_without_a_complaint(start, "hubbub-run")


@pytest.mark.parametrize("kind", UVICORN)
async def test_a_slow_client_is_cut_off_without_a_complaint(start: Start, kind: str) -> None:
    server = start(kind)
    async with stalled(server) as slow:
        while not (await state(server))["closed"]:
            await publish(server, "a", "x", LARGE)
        assert (await state(server))["closed"] == {"3008": 1}
        await slow.receive_end()
        server.terminate()
        await assert_gone(server, time.monotonic())


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_client_that_goes_is_forgotten(start: Start, kind: str) -> None:
    server = start(kind)
    async with listening(server, "a") as stream:
        await stream.next()
    client = await RawClient.dial(server.port)
    await client.send_bytes(b"GET /events/a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    async with listening(server, "a") as stream:
        await stream.next()
    client.vanish()
    await until(server, "closed", {"1006": 3})
    server.terminate()
    await assert_gone(server, time.monotonic())


async def test_several_workers_end_too_and_nothing_is_missing_after_that(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "workers", WORKERS)
    with redis_server() as redis:
        monkeypatch.setenv("HUBBUB_TEST_BROKER", redis.url)
        server = start("workers")
        async with AsyncExitStack() as stack:
            streams: list[Stream] = []
            while len({stream.worker for stream in streams}) < 2:
                streams.append(await stack.enter_async_context(listening(server, "a")))
                await streams[-1].next()
            first = await publish(server, "a", "one")
            assert [await stream.next() for stream in streams] == [f"id: {first}\ndata: one"] * len(streams)
            server.terminate()
            since = time.monotonic()
            for stream in streams:
                assert (await stream.next() or "").startswith("retry: ")
                assert await stream.next() is None
            await assert_gone(server, since)

        again = start("hubbub-run")
        second = await publish(again, "a", "two")
        async with listening(again, "a", first) as stream:
            assert await stream.next() == f"id: {second}\ndata: two"
        again.stop()


async def test_history_in_the_memory_of_a_process_ends_with_it(start: Start) -> None:
    server = start("hubbub-run")
    first = await publish(server, "a", "one")
    server.stop()
    again = start("hubbub-run")
    async with listening(again, "a", first) as stream:
        reset = await stream.next() or ""
        assert reset.splitlines()[1] == "event: reset"
        assert not reset.startswith(f"id: {first}")
