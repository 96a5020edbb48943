"""A TCP proxy that does to connections what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 65_536


class Way(enum.Enum):
    """The direction of what is forwarded."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class FaultProxy:
    """Forwards what comes in on `port` to a server, as long as nothing else is asked of it.

    Args:
        target: The port of the server on the loopback interface.

    Attributes:
        port: Where it listens.
        delay_s: Seconds for which each piece is held back, in both directions.
        is_refusing: Whether new connections are closed at once.
        accepted: Connections so far.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        self.is_refusing = False
        self.accepted = 0
        self._target = target
        self._open = {way: asyncio.Event() for way in Way}
        self._writers: dict[Way, set[asyncio.StreamWriter]] = {way: set() for way in Way}
        self._ended: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """End it with all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections."""
        for writer in {*self._writers[Way.TO_SERVER], *self._writers[Way.TO_CLIENT]}:
            writer.transport.abort()

    def swallow(self, *ways: Way) -> None:
        """Forward nothing any more and keep all connections open, in both directions or in some; new ones open too."""
        for way in ways or Way:
            self._open[way].clear()

    def heal(self) -> None:
        """Forward again, first what was held back."""
        for event in self._open.values():
            event.set()

    def half_close(self, way: Way = Way.TO_CLIENT) -> None:
        """Say on all connections that nothing more comes this way, and leave the other way open."""
        for writer in self._writers[way]:
            if not writer.is_closing():
                writer.write_eof()
                self._ended.add(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.accepted += 1
            if self.is_refusing:
                return
            with contextlib.suppress(OSError):
                await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # by aclose; the caller of this function would complain
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers[Way.TO_CLIENT].add(writer)
        self._writers[Way.TO_SERVER].add(server_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(Way.TO_SERVER, reader, server_writer))
                both.create_task(self._pump(Way.TO_CLIENT, server_reader, writer))
        except* OSError:
            pass
        finally:
            self._writers[Way.TO_CLIENT].discard(writer)
            self._writers[Way.TO_SERVER].discard(server_writer)
            self._ended -= {writer, server_writer}
            server_writer.transport.abort()

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._open[way].wait()
            if writer not in self._ended:  # what comes after the end goes nowhere
                writer.write(data)
                await writer.drain()
        await self._open[way].wait()  # a network that swallows everything swallows the end too
        if not writer.is_closing():
            writer.write_eof()


@asynccontextmanager
async def fault_proxy(target: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy to this port of the loopback interface; see `FaultProxy`."""
    proxy = FaultProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()
