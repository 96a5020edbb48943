"""What stands around a connection of the server class, played by the test: the event loop's time and its transport."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from hubbub.model import Data
from hubbub.server.shared import Shared
from hubbub.wire.frames import Opcode
from hubbub.wire.mask import mask

KEY = bytes.fromhex("37fa213d")
FIN = 0x80
HIGH = 65_536
"""Buffered bytes from which on the transport is congested."""


class Handle:
    """What `call_at` returns."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timer(Handle):
    """What it returns for a time that has not come yet; on uvloop only this knows when."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        super().__init__(callback)
        self._when = when

    def when(self) -> float:
        return self._when


class Loop:
    """The event loop, with a time that the test moves; what is no timer runs in the loop of the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()

    @property
    def due(self) -> list[float]:
        """In how many seconds each of the timers is due."""
        return sorted(when - self.now for when, _, timer in self._timers if timer.callback)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> Handle:
        timer = Timer(when, lambda: callback(*arguments)) if when > self.now else Handle(lambda: callback(*arguments))
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Handle:
        return self.call_at(self.now + delay, callback, *arguments)

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Make a call of the loop's next turn at once."""
        callback(*arguments)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def advance(self, seconds: float) -> None:
        """Move the time, and make the calls that are due, each at its time."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.callback:
                timer.callback()
        self.now = until


class Tcp(asyncio.Transport):
    """The event loop's transport: what was written to it, and what it was told.

    Attributes:
        written: What the peer was sent, whether it has taken it or not.
        log: The calls that end a connection, in order.
        is_stalled: Whether the peer takes nothing.
    """

    def __init__(self, **extra: Any) -> None:
        names = {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.2", 5_000), **extra}
        super().__init__(names)
        self.written = b""
        self.log: list[str] = []
        self.is_stalled = False
        self.has_write_eof = True
        self.high = HIGH
        self._protocol: Any = None
        self._is_reading = True
        self._waiting = 0
        self._is_congested = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    # Going out

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if "write_eof" in self.log:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.written += data
        if self.is_stalled and "abort" not in self.log:
            self._waiting += len(data)
            if self._waiting > self.high and not self._is_congested:
                self._is_congested = True
                self._protocol.pause_writing()

    def take(self, size: int | None = None) -> None:
        """Let the peer read some of what waits for it, or all of it."""
        self._waiting -= self._waiting if size is None else size
        if self._is_congested and self._waiting <= self.high // 4:
            self._is_congested = False
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def can_write_eof(self) -> bool:
        return self.has_write_eof

    def write_eof(self) -> None:
        if self.is_closing():
            raise RuntimeError("unable to perform operation; the handler is closed")  # as uvloop has it
        self.log.append("write_eof")

    # Coming in

    def receive(self, data: bytes) -> None:
        """Let bytes of the peer arrive."""
        assert self.is_reading(), "nothing arrives while the reading is paused"
        self._protocol.data_received(data)

    def is_reading(self) -> bool:
        return self._is_reading and not self.is_closing()

    def pause_reading(self) -> None:
        if self.is_closing():
            raise RuntimeError("Cannot pause_reading() when closing")  # as uvloop has it
        self._is_reading = False

    def resume_reading(self) -> None:
        if self.is_closing():
            raise RuntimeError("Cannot resume_reading() when closing")
        self._is_reading = True

    # The end

    def is_closing(self) -> bool:
        return "close" in self.log or "abort" in self.log

    def close(self) -> None:
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")

    def end(self) -> None:
        """Let the peer end the connection: FIN."""
        if self._protocol.eof_received() is None:
            self.close()

    def lose(self, error: Exception | None = None) -> None:
        """Tell the protocol that the connection is gone."""
        self._protocol.connection_lost(error)


class User:
    """A `TransportUser` that remembers its calls, and does what the test wants when a message arrives."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.violations: list[str] = []
        self.when_received: Callable[[Data], object] = lambda data: None

    def received(self, data: Data) -> None:
        self.calls.append(data)
        self.when_received(data)

    def control_received(self) -> None:
        self.calls.append("control")

    def violated(self, limit: str) -> None:
        self.violations.append(limit)

    def congested(self) -> None:
        self.calls.append("congested")

    def writable(self) -> None:
        self.calls.append("writable")

    def draining(self) -> None:
        self.calls.append("draining")

    def application_ended(self, code: int) -> None:
        self.calls.append(("application_ended", code))

    def lost(self, code: int, reason: str) -> None:
        self.calls.append(("lost", code, reason))


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no application is asked")


def shared_on(loop: Loop, state: ServerState, **options: Any) -> Shared:
    """Return what the connections of a server share whose time is that of `loop`."""
    config = uvicorn.Config(no_application, log_config=None, **options)
    return Shared(cast(asyncio.AbstractEventLoop, loop), state.connections, config)


def sent(opcode: int, payload: bytes = b"", bits: int = FIN) -> bytes:
    """Return a frame as a client sends it."""
    size = len(payload)
    if size < 126:
        head = bytes((bits | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((bits | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((bits | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + KEY + mask(payload, KEY)


def text(payload: str) -> bytes:
    return sent(Opcode.TEXT, payload.encode())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take apart what a server has sent: opcodes and payloads."""
    found = []
    while data:
        opcode, size, start = data[0] & 0x0F, data[1], 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[2:start], "big")
        found.append((opcode, data[start : start + size]))
        data = data[start + size :]
    return found


async def turn() -> None:
    """Let everything run that the loop has been given so far."""
    await asyncio.sleep(0)
