"""The connection for commands: one for all callers, who do not wait for each other.

What is called in one turn of the loop leaves in one write, and replies are matched by order. So a call that has left
stays in the row whatever becomes of its caller; if it is cancelled, its reply is thrown away (redis-py#2624 is what
happens otherwise). All calls wait equally long at most, hence one timer, for the oldest, is enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

from hiredis import ReplyError

from ...errors import BrokerUnavailable
from .address import Address
from .link import Journal, Link
from .script import Script
from .wire import Wire, packed

__all__ = ("COMMAND_S", "ELSEWHERE", "QUEUE_BYTES", "WAIT_S", "Argument", "Commands", "Elsewhere", "code_of")

COMMAND_S = 5.0
"""Seconds for one command, from the call to the reply."""

WAIT_S = 1.0
"""Seconds that a call waits for a connection while there is none."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Bytes of commands without a reply; beyond that, calls are refused."""

_OVERHEAD_BYTES = 200  # what a call takes besides its bytes
_MOVE_ON = frozenset({"READONLY", "LOADING", "MASTERDOWN"})  # said by a server that is not, or not yet, the right one

ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""What a node of a cluster begins a refusal with if a key may be found later, or at another node."""

Argument = bytes | str | int


class Elsewhere(BrokerUnavailable):
    """This node of a cluster is not, or not now, the one for a key; nothing was executed."""


class _Call:
    __slots__ = ("future", "packet", "since")

    def __init__(self, packet: bytes, future: asyncio.Future[Any], since: float) -> None:
        self.packet = packet
        self.future = future
        self.since = since

    @property
    def size(self) -> int:
        return len(self.packet) + _OVERHEAD_BYTES

    def fail(self, reason: str, published: Literal["no", "unknown"]) -> None:
        if not self.future.done():
            self.future.set_exception(BrokerUnavailable(reason, published=published))


class Commands:
    """Sends commands to Redis.

    Args:
        address: Where Redis is.
        journal: Whom to tell of what goes wrong.
        command_s: Seconds for one command; after that the connection counts as dead.
        wait_s: Seconds that a call waits for a connection.
    """

    def __init__(
        self, address: Address, journal: Journal, command_s: float = COMMAND_S, wait_s: float = WAIT_S
    ) -> None:
        self._shown = address.shown
        self._journal = journal
        self._command_s = command_s
        self._wait_s = wait_s
        self._link = Link(address, self, journal)
        self._waiting: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_flush_due = False
        self._leaving = ""  # why the server is the wrong one: wait for the replies that are due, then go
        self._is_closed = False
        self._away_since: float | None = None

    def start(self) -> None:
        """Connect from now on."""
        self._loop = asyncio.get_running_loop()
        self._away_since = self._loop.time()
        self._link.start()

    def hurry(self) -> None:
        """Connect at once, if there is no connection, and let calls wait for it: Redis is there."""
        if self._away_since is not None:
            self._away_since = self._loop.time()
            self._link.hurry()

    async def aclose(self) -> None:
        """End; every call that is under way raises."""
        self._is_closed = True
        await self._link.aclose()
        self._fail_all(self._waiting, "closed", "no")
        if self._timer is not None:
            self._timer.cancel()

    async def call(self, *arguments: Argument) -> Any:
        """Send a command and return the reply.

        Raises:
            BrokerUnavailable: It was refused, or could not be sent, or has not been answered.
        """
        return self._checked(await self.send(*arguments))

    async def run(self, script: Script, keys: Iterable[bytes], *arguments: Argument) -> Any:
        """Run a script and return the reply.

        Raises:
            BrokerUnavailable: It was refused, or could not be sent, or has not been answered.
        """
        keys = tuple(keys)
        reply = await self.send("EVALSHA", script.checksum, len(keys), *keys, *arguments)
        if isinstance(reply, ReplyError) and code_of(reply) == "NOSCRIPT":  # EVAL leaves it there
            reply = await self.send("EVAL", script.text, len(keys), *keys, *arguments)
        return self._checked(reply)

    def send(self, *arguments: Argument) -> asyncio.Future[Any]:
        """Send a command with others of this turn; the future gets the reply, be it a `ReplyError`."""
        call = _Call(packed(arguments), self._loop.create_future(), self._loop.time())
        refusal = self._refusal(call)
        if refusal is not None:
            call.fail(refusal, "no")
            return call.future
        self._bytes += call.size
        self._waiting.append(call)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)
        if self._timer is None:
            self._watch()
        return call.future

    def _refusal(self, call: _Call) -> str | None:
        if self._is_closed:
            return self._described("closed")
        if self._away_since is not None and call.since - self._away_since >= self._wait_s:
            return self._described(self._link.fault)
        if self._bytes + call.size > QUEUE_BYTES and self._bytes:
            return self._described("too much is under way")
        return None

    def _described(self, reason: str) -> str:
        return f"Redis at {self._shown}: {reason}"

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, ReplyError):
            refusal = Elsewhere if code_of(reply) in ELSEWHERE else BrokerUnavailable
            raise refusal(self._described(str(reply)), published="no")
        return reply

    def _flush(self) -> None:
        self._is_flush_due = False
        wire = self._link.wire
        if wire is None or wire.is_congested or self._leaving:
            return
        packets = []
        for call in self._waiting:
            if call.future.done():  # cancelled before it was sent
                self._bytes -= call.size
            else:
                packets.append(call.packet)
                self._sent.append(call)
        self._waiting.clear()
        if packets:
            wire.write(b"".join(packets))

    def opened(self, wire: Wire) -> None:
        """Send what has been waiting."""
        self._away_since = None
        self._leaving = ""
        self._journal.back(self._link)
        self._flush()

    def received(self, reply: Any) -> None:
        """Give the reply to the oldest call."""
        if not self._sent:
            self._link.drop("a reply to nothing")
            return
        call = self._sent.popleft()
        self._bytes -= call.size
        if not call.future.done():
            call.future.set_result(reply)
        if isinstance(reply, ReplyError) and code_of(reply) in _MOVE_ON:
            self._leaving = str(reply)
        if self._leaving and not self._sent:
            self._link.drop(self._leaving)

    def writable(self) -> None:
        """Send what has been waiting."""
        self._flush()

    def lost(self, reason: str) -> None:
        """Nobody knows what became of the calls that were sent; those that were not wait for the next connection."""
        self._away_since = self._loop.time()
        self._fail_all(self._sent, reason, "unknown")
        if self._timer is not None:
            self._timer.cancel()
        self._watch()

    def _fail_all(self, calls: deque[_Call], reason: str, published: Literal["no", "unknown"]) -> None:
        while calls:
            self._fail(calls.popleft(), reason, published)

    def _fail(self, call: _Call, reason: str, published: Literal["no", "unknown"]) -> None:
        self._bytes -= call.size
        call.fail(self._described(reason), published)

    def _watch(self) -> None:
        """Look again when the oldest call is due."""
        dues = []
        if self._sent:
            dues.append(self._sent[0].since + self._command_s)
        if self._waiting:
            dues.append(self._waiting[0].since + self._patience_s)
        self._timer = self._loop.call_at(min(dues), self._expire) if dues else None

    @property
    def _patience_s(self) -> float:
        return self._command_s if self._link.wire is not None else self._wait_s

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._sent and self._sent[0].since + self._command_s <= now:
            self._link.drop(f"no answer within {self._command_s:g} s")
        while self._waiting and self._waiting[0].since + self._patience_s <= now:
            self._fail(self._waiting.popleft(), self._link.fault, "no")
        if self._timer is not None:
            self._timer.cancel()
        self._watch()


def code_of(error: ReplyError) -> str:
    """Return what an error begins with: its kind, in capitals."""
    return str(error).partition(" ")[0]
