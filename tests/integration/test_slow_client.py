"""Promises 2 and 3: a client that stops reading neither delays the others nor fills the server's memory.

How long it takes is the benchmark's concern (`python -m benchmarks stalled`).
"""

import asyncio
import struct
from pathlib import Path
from unittest.mock import ANY

import httpx

from tests.integration.clients import RawClient, http_client
from tests.integration.servers import Server

LISTENERS = 49
COUNT = 2_000
SIZE = 4_096
INTERVAL_S = 0.002
WARM_UP = 200

MIB = 1_048_576
OUTBOX = MIB
SERVER_BUFFERS = (LISTENERS + 1) * 65_536
"""What uvicorn may write to connections before it waits."""
MARGIN = 2 * MIB
"""What the allocator may keep. All broadcasts together, kept for the one who does not read, would be 8 MiB more."""

HEADER = b"\x81\x7e" + struct.pack("!H", SIZE)
FRAME = len(HEADER) + SIZE
PING = b"\x89"


class Listener(asyncio.Protocol):
    """Takes numbered broadcasts, as cheaply as Python can: 49 ordinary clients would need more time than the server.

    Args:
        count: How many must come, complete and in order.
    """

    def __init__(self, count: int) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._buffer = b""
        self._number = 0
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer, position = self._buffer + data, 0
        while len(buffer) - position >= FRAME:
            if buffer.startswith(PING, position):
                position += 2 + buffer[position + 1]
                continue
            if not buffer.startswith(HEADER + b"%08d." % self._number, position) or self._number == self._count:
                self._end(AssertionError(f"instead of number {self._number}: {buffer[position : position + 20]!r}"))
            self._number += 1
            position += FRAME
        self._buffer = buffer[position:]
        if self._number == self._count:
            self._end(None)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(AssertionError(f"lost after {self._number} broadcasts"))

    def _end(self, error: Exception | None) -> None:
        if self.heard.done():
            return
        if error is None:
            self.heard.set_result(None)
        else:
            self.heard.set_exception(error)


async def listen(port: int, name: str, count: int) -> Listener:
    """Connect somebody who wants so many broadcasts."""
    client = await RawClient.connect(port, f"/listen/{name}")
    _, listener = await asyncio.get_running_loop().create_connection(lambda: Listener(count), sock=client.detach())
    return listener


async def highest_memory(server: Server, running: asyncio.Future[list[None]]) -> int:
    """Watch the server's memory for as long as something runs."""
    highest = 0
    while not running.done():
        highest = max(highest, server.rss_bytes)
        await asyncio.wait([running], timeout=0.02)
    return highest


async def test_one_of_fifty_stops_reading(tmp_path: Path) -> None:
    server = Server("uvicorn-sansio", "news", tmp_path / "log")
    server.start()
    try:
        async with http_client(server.port) as http:
            await one_of_fifty_stops_reading(server, http)
    finally:
        server.stop()


async def one_of_fifty_stops_reading(server: Server, http: httpx.AsyncClient) -> None:
    async def broadcast(first: int, count: int) -> None:
        pace = {"size": SIZE, "interval_s": INTERVAL_S}
        (await http.post("/broadcast", params={"first": first, "count": count, **pace})).raise_for_status()

    names = [f"listener-{number:02}" for number in range(LISTENERS)]
    listeners = [await listen(server.port, name, WARM_UP + COUNT) for name in names]
    await broadcast(0, WARM_UP)
    stalled = await RawClient.connect(server.port, "/listen/stalled", receive_buffer=4_096)
    before = server.rss_bytes

    everything = asyncio.gather(broadcast(WARM_UP, COUNT), *(listener.heard for listener in listeners))
    highest = await highest_memory(server, everything)
    await everything

    state = (await http.get("/state")).json()
    assert state == {"connected": names, "closed": {"3008": 1}, "ends": {"stalled": 3008}}
    assert highest - before <= OUTBOX + SERVER_BUFFERS + MARGIN

    stalled.hang_up()
    for listener in listeners:
        listener.close()
    await asyncio.to_thread(server.wait_for_answer, "/state", {"connected": [], "closed": ANY, "ends": ANY})
