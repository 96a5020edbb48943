"""One connection of a hub: its state, its inbox, its backlog and its end.

Theory of operation. The transport calls in (`received`, `congested`, `writable`, `lost`), the hub and the endpoint call
from the other side (`deliver`, `send_frame`, `take`, `end`); all of it happens in the loop's thread, and nothing is
awaited between a check and the change that rests on it. Nothing of the application's runs inside `end`, `lost` or a
fan-out: what it wants to hear of them is told in a task that begins later, whatever the loop's task factory.

Going out, a frame is written straight to the transport until the transport says that it is congested; from then on it
waits in the backlog, which `writable` drains. So there is no backlog whenever the transport is not congested, and one
order holds for direct sends and publications alike.

Coming in, messages pass the limits when they arrive and wait in the inbox for the endpoint; a full one stops the
reading (see `state.inbox`). What was read before the peer closed is still delivered; after an end of our making nothing
is. A detached connection has no endpoint: its handler gets one message at a time, in a task only if it has to wait.

There may be very many connections, and most of them rest: inbox, backlog and timers are made when they are needed.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Protocol

from starlette.websockets import WebSocketDisconnect

from ..config import Limits, Outbox
from ..interfaces import Clock, Timer, Transport, TransportSettings
from ..model import CloseCode, Data, OnInvalid, OutboxPolicy
from ..state.inbox import Arrival, Inbox
from ..wire.prepared import PreparedFrame, payload_size
from .admission import Admission
from .backlog import Backlog
from .eager import Eager
from .statistics import Counters

__all__ = ("ConnectionEnded", "CoreConnection", "Handlers", "Owner", "Phase", "Settings", "current_connections")

logger = logging.getLogger("hubbub")

SEND_DEADLINE_S = 10.0
"""How long a direct send waits for room before its client counts as slow."""
CLOSE_DEADLINE_S = 5.0
"""How long a close waits for what is queued before it."""
JOINED_BYTES = 65_536
"""How much is joined to one write at most."""
DRAIN_DEADLINE_S = 1.0
"""How long it waits when the server stops."""

current_connections: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar(
    "hubbub_current_connections", default=()
)
"""The ids of the connections whose endpoint this is; set in the endpoint's task, and so in the tasks that it starts.
Ids, since a context may outlive its connection by far."""


class Phase(enum.Enum):
    """Where a connection is in its life (RFC 6455 section 4 and 7)."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_NEXT = {
    Phase.CONNECTING: (Phase.OPEN, Phase.CLOSED),
    Phase.OPEN: (Phase.CLOSING, Phase.CLOSED),
    Phase.CLOSING: (Phase.CLOSED,),
    Phase.CLOSED: (),
}


class ConnectionEnded(WebSocketDisconnect):
    """The connection has ended: what `receive` and the endpoint's own `send` raise. A `WebSocketDisconnect`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"the connection has ended with close code {self.code}" + (f" ({self.reason})" if self.reason else "")


_OPEN = Phase.OPEN
_TAKEN = Arrival.TAKEN
# Looking a member up in its enum takes as long as all else that is done for a message here.


class Owner(Protocol):
    """What a connection asks of its hub."""

    clock: Clock
    counters: Counters
    eager: Eager
    runs: Collection[object]
    """What is published and has not left yet."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once in so many seconds."""

    def opened(self, connection: CoreConnection) -> None:
        """The connection is open."""

    def settle(self, connection: CoreConnection) -> None:
        """Hand over what is published to it and has not left yet."""

    def flow_changed(self, connection: CoreConnection) -> None:
        """It has become congested, or is so no more."""

    def ended(self, connection: CoreConnection) -> None:
        """It is open no more. Comes once after `opened`."""

    def turned_away(self, connection: CoreConnection) -> None:
        """It is not admitted any more."""

    def released(self, connection: CoreConnection) -> None:
        """It holds nothing any more. Comes after `ended`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the connections of a hub, or of one endpoint.

    Args:
        limits: What is taken from the client.
        outbox: What is kept for it.
        on_invalid: What to do with an invalid message.
        admissions: The counts that a connection takes part in while it is connected.
        transport: What its transport is asked for.
        is_quiet: Whether it hears only what it joins: no broadcast, nothing that is sent to its user.
    """

    limits: Limits
    outbox: Outbox
    on_invalid: OnInvalid
    admissions: tuple[Admission, ...]
    transport: TransportSettings = field(default_factory=TransportSettings)
    is_quiet: bool = False


class Facade(Protocol):
    """What the application sees of a connection."""

    def _ended(self) -> None:
        """The connection is over: hold nothing that holds this in turn, or it would wait for the garbage collector."""


class Handlers(Protocol):
    """What a detached connection calls."""

    def message(self, data: Data) -> Awaitable[None] | None:
        """Take a message; what this returns is awaited."""

    def closed(self, code: int, reason: str) -> Awaitable[None] | None:
        """The connection has ended; what this returns is awaited."""

    def closing(self, error: Exception) -> tuple[CloseCode, str]:
        """Return close code and reason of what one of these has raised; 1011 for a fault that is to be logged."""

    def released(self) -> None:
        """The endpoint has returned: what only an endpoint needs can go."""


class CoreConnection:
    """A connection as its hub knows it; the public `Connection` is built on it.

    Args:
        hub: The hub that it belongs to.
        settings: What holds for it; can be replaced until it is admitted.
        address: The client's address, or `None` if it has none.

    Attributes:
        phase: Where the connection is in its life; only the connection itself changes it.
        facade: What the application sees of it; `None` when the connection is over.
        ends_unseen: Whether nobody says when its endpoint returns (plain Starlette): then what is sent is handed over
            before the send returns, or the last words would be lost with the server's close.
        is_congested: Whether its transport is full.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_close_timer",
        "_closed",
        "_context",
        "_handlers",
        "_heard",
        "_heard_at",
        "_hub",
        "_inbox",
        "_is_handling",
        "_opened_at",
        "_pause_timer",
        "_receiver",
        "_silence_timer",
        "_transport",
        "_user",
        "address",
        "close_code",
        "close_reason",
        "ends_unseen",
        "facade",
        "id",
        "is_admitted",
        "is_congested",
        "phase",
        "settings",
    )

    def __init__(self, hub: Owner, settings: Settings, address: str | None) -> None:
        self.id = secrets.token_hex(8)
        self.close_code = int(CloseCode.ABNORMAL)
        self.close_reason = ""
        self._hub = hub
        self.settings = settings
        self.address = address
        self.facade: Facade | None = None
        self.ends_unseen = False
        self.is_admitted = False
        self.is_congested = False
        self._user: str | None = None
        self.phase = Phase.CONNECTING
        self._transport: Transport | None = None
        self._inbox: Inbox[Data] | None = None
        self._pause_timer: Timer | None = None
        self._receiver: asyncio.Future[Data | None] | None = None
        self._handlers: Handlers | None = None
        self._is_handling = False
        self._context: contextvars.Context | None = None
        self._backlog: Backlog | None = None
        self._closed: asyncio.Future[None] | None = None
        self._close_timer: Timer | None = None
        self._silence_timer: Timer | None = None
        self._opened_at = self._heard_at = 0.0
        self._heard = False

    # The life of a connection

    @property
    def transport(self) -> Transport:
        """What carries it, once it is open."""
        assert self._transport is not None
        return self._transport

    @property
    def is_open(self) -> bool:
        """Whether it is accepted and has not ended."""
        return self.phase is Phase.OPEN

    @property
    def user(self) -> str | None:
        """Who is connected, or `None` for nobody in particular. Can be set until the connection is accepted."""
        return self._user

    @user.setter
    def user(self, user: str | None) -> None:
        if self.phase is not Phase.CONNECTING or self.is_admitted:
            raise RuntimeError("the user is settled when the connection is accepted: set it before, or accept(user=…)")
        if user is not None and (not isinstance(user, str) or not user):
            raise ValueError(f"user {user!r}: give a non-empty str, such as str(account.id), or None")
        self._user = user

    @property
    def queued_bytes(self) -> int:
        """Bytes in the outbox, and those of the senders that wait for room in it."""
        backlog = self._backlog
        return 0 if backlog is None else backlog.bytes

    def _enter(self, phase: Phase) -> None:
        if phase not in _NEXT[self.phase]:
            raise AssertionError(f"connection {self.id}: {self.phase} cannot become {phase}")
        self.phase = phase

    def open(self, transport: Transport) -> None:
        """Begin: the handshake is done and `transport` carries the connection. It has been admitted before."""
        self._enter(Phase.OPEN)
        self._transport = transport
        self._opened_at = self._heard_at = self._hub.clock.time()
        self._hub.opened(self)
        self._watch_silence()
        transport.start(self, self.settings.transport)

    def refuse(self) -> None:
        """An admitted connection is refused after all: it may be admitted again."""
        self._hub.turned_away(self)

    def fail(self) -> None:
        """The handshake of an admitted connection failed: it never opens."""
        self._enter(Phase.CLOSED)
        self._hub.released(self)

    def end(self, code: int, reason: str = "", deadline_s: float = CLOSE_DEADLINE_S) -> None:
        """Close from our side: out of the hub now, the close frame after what is queued, or after a deadline.

        A client that is ended as slow is not waited for: its outbox is freed at once.
        """
        if self.phase is not Phase.OPEN:
            return
        self._hub.settle(self)
        if self.phase is not Phase.OPEN:  # that was too much for it
            return
        self._enter(Phase.CLOSING)
        self._set_end(code, reason)
        self.discard_inbox()
        self._close_timer = self._hub.call_later(deadline_s, self.transport.abort)
        if code == CloseCode.SLOW or not self.is_congested:
            self._discard_backlog()
            self.transport.close(code, reason)

    def abort(self) -> None:
        """End without a close frame, unless it has never opened."""
        if self._transport is not None and self.phase is not Phase.CLOSED:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the transport has let go of the connection."""
        if self.phase in (Phase.CONNECTING, Phase.CLOSED):
            return
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._closed)

    def let_go(self) -> None:
        """The connection is over: let go of what the application sees of it."""
        facade, self.facade = self.facade, None
        if facade is not None:
            facade._ended()

    def _violate(self, limit: str, code: CloseCode = CloseCode.POLICY_VIOLATION) -> None:
        self._hub.counters.violations[limit] += 1
        self.end(code, limit)

    def _set_end(self, code: int, reason: str) -> None:
        """Record how it ended, take it out of the hub, and tell all who wait."""
        self.close_code, self.close_reason = code, reason
        self._hub.ended(self)
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        self._cancel_pause_timer()
        self._wake_receiver()
        if self._backlog is not None:
            self._backlog.fail(lambda: ConnectionEnded(code, reason))

    def discard_inbox(self) -> None:
        """Throw away and count what has arrived: nobody will receive it."""
        if self._inbox is not None:
            self._hub.counters.discarded += self._inbox.clear()

    def _discard_backlog(self) -> None:
        if self._backlog is not None:
            self._hub.counters.discarded += len(self._backlog)
            self._backlog = None

    # Going out

    def deliver(self, frame: PreparedFrame, channel: str, policy: OutboxPolicy | None) -> None:
        """Take a publication of `channel`."""
        if self.phase is not Phase.OPEN:
            return
        if not self.is_congested:
            self._put(frame)
            return
        policy = policy or self.settings.outbox.policy
        counters = self._hub.counters
        queued, lost = self._the_backlog().offer(frame, channel, policy)
        if lost:
            counters.dropped[policy] += lost
        if queued:
            counters.deliveries += 1
            counters.bytes_sent += frame.size
            self._let_in()  # what was pushed out may have been larger
        elif policy == "disconnect":
            self.end(CloseCode.SLOW, "slow")

    def send_now(self, frame: PreparedFrame) -> bool:
        """Send to this one connection if that needs no waiting; return whether it was sent."""
        hub = self._hub
        if self.phase is not _OPEN or self.is_congested or self.ends_unseen or hub.runs:
            return False
        counters = hub.counters
        counters.deliveries += 1
        counters.bytes_sent += frame.size
        self._transport.write(frame)  # type: ignore[union-attr]  # it is open
        return True

    async def send_frame(self, frame: PreparedFrame) -> None:
        """Send to this one connection, waiting for room in its outbox.

        Once the connection has ended this raises in its own endpoint and the tasks that the endpoint started, so that
        their loops end; to anyone else a send to one that is gone is not an error, but counted.

        Raises:
            ConnectionEnded: This is the connection's own endpoint, and the connection has ended.
        """
        self._hub.settle(self)
        if self.phase is not Phase.OPEN:
            self._undelivered(ConnectionEnded(self.close_code, self.close_reason))
            return
        backlog = self._backlog
        if backlog is None or (not backlog.has_waiting and backlog.has_room(frame)):
            self._put(frame)
            if self.ends_unseen:
                await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = self._hub.call_later(
            SEND_DEADLINE_S, lambda: None if waiter.done() else self.end(CloseCode.SLOW, "slow")
        )
        backlog.wait(frame, waiter, deadline)
        waiter.add_done_callback(lambda waiter: self._gave_up(waiter) if waiter.cancelled() else None)
        try:
            await waiter
        except ConnectionEnded as ended:
            self._undelivered(ended)

    async def send_frames(self, frames: Sequence[PreparedFrame]) -> None:
        """Send several, joined where its transport takes them so. Raises as `send_frame`."""
        self._hub.settle(self)
        sent = 0
        while sent < len(frames) and self.phase is Phase.OPEN:
            sharing = None if self.is_congested else self.transport.sharing
            if sharing is None:
                await self.send_frame(frames[sent])
                sent += 1
                continue
            batch = tuple(_up_to(JOINED_BYTES, frames[sent:]))
            self._hub.counters.deliveries += len(batch)
            self._hub.counters.bytes_sent += sum(frame.size for frame in batch)
            sharing.write_encoded(sharing.encoding(batch))
            sent += len(batch)

    def _gave_up(self, waiter: asyncio.Future[None]) -> None:
        """A waiting sender was cancelled: it holds nobody up who waits behind it."""
        if self._backlog is not None:
            self._backlog.give_up(waiter)
            self._let_in()

    def _let_in(self) -> None:
        """Put waiting senders in line, as far as there is room."""
        backlog = self._backlog
        while backlog is not None and (frame := backlog.first_waiting()) is not None:
            if self.is_congested and not backlog.has_room(frame):
                return
            backlog.let_in()
            self._put(frame)

    def _undelivered(self, ended: ConnectionEnded) -> None:
        self._hub.counters.undelivered += 1
        if self.id in current_connections.get():
            raise ended

    def _the_backlog(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self.settings.outbox.bytes)
        return self._backlog

    def _put(self, frame: PreparedFrame) -> None:
        counters = self._hub.counters
        counters.deliveries += 1
        counters.bytes_sent += frame.size
        if self.is_congested:
            self._the_backlog().put(frame)
        else:
            self._transport.write(frame)  # type: ignore[union-attr]  # it is open

    def congested(self) -> None:
        """The transport is full (see `TransportUser`)."""
        if not self.is_congested:
            self.is_congested = True
            self._the_backlog()
            self._flow_changed()

    def writable(self) -> None:
        """The transport has room: drain the backlog, then let waiting senders in (see `TransportUser`)."""
        self.is_congested = False
        while not self.is_congested and self._backlog is not None and (frame := self._backlog.pop()) is not None:
            self.transport.write(frame)
        self._let_in()
        if self.is_congested:
            return
        self._backlog = None
        self._flow_changed()
        if self.phase is Phase.CLOSING:
            self.transport.close(self.close_code, self.close_reason)

    def _flow_changed(self) -> None:
        if self.transport.sharing is not None:  # else the fan-out asks it each time
            self._hub.flow_changed(self)

    # Coming in

    def received(self, data: Data) -> None:
        """A message has arrived (see `TransportUser`)."""
        counters = self._hub.counters
        if self.phase is not _OPEN:
            counters.discarded += 1
            return
        size = len(data) if data.__class__ is bytes or data.isascii() else payload_size(data)
        counters.messages_received += 1
        counters.bytes_received += size
        now = self._hub.clock.time()
        self._heard_at = now
        self._heard = True
        inbox = self._inbox
        if inbox is None:
            inbox = self._the_inbox(now)
        arrival = inbox.admit(size, now)
        if arrival is None:
            receiver = self._receiver
            if receiver is not None and not receiver.done():
                self._receiver = None
                receiver.set_result(data)
                return
            if self._handlers is not None and not self._is_handling:
                self._handle(self._handlers, data)
                return
            arrival = inbox.keep(data, size, now)
        if arrival is not _TAKEN:
            self._notice(arrival, inbox)

    def _notice(self, arrival: Arrival, inbox: Inbox[Data]) -> None:
        """Deal with an arrival out of the ordinary."""
        match arrival:
            case Arrival.FILLED:
                self._pause_reading(inbox)
            case Arrival.DISCARDED:
                self._hub.counters.discarded += 1
            case Arrival.TOO_BIG:
                self._violate("message_bytes", CloseCode.MESSAGE_TOO_BIG)
            case _:
                self._violate("messages_per_s")

    def control_received(self) -> None:
        """A ping has arrived, or a pong that was not asked for (see `TransportUser`)."""
        now = self._hub.clock.time()
        if self.phase is Phase.OPEN and not self._the_inbox(now).count(now):
            self._violate("messages_per_s")

    def violated(self, limit: str) -> None:
        """The peer has gone over a limit that the transport holds (see `TransportUser`)."""
        self._hub.counters.violations[limit] += 1

    def _the_inbox(self, now: float) -> Inbox[Data]:
        if self._inbox is None:
            self._inbox = Inbox(self.settings.limits, now)
        return self._inbox

    def _pause_reading(self, inbox: Inbox[Data]) -> None:
        self._pause_timer = self._hub.clock.call_at(inbox.pause_ends_at(), self._end_long_pause)
        self.transport.pause_reading()

    def _end_long_pause(self) -> None:
        """Read on although the inbox is full, if the endpoint has taken nothing for long."""
        assert self._inbox is not None
        due = self._inbox.pause_ends_at()
        if due > self._hub.clock.time():
            self._pause_timer = self._hub.clock.call_at(due, self._end_long_pause)
        else:
            self._inbox.discard()
            self._resume_reading()

    def take_now(self) -> Data | None:
        """Return the next message if it has come.

        Raises:
            RuntimeError: The connection is detached.
        """
        if self._handlers is not None:
            raise RuntimeError("the connection is detached: its messages go to detach(on_message=…)")
        return self._oldest()

    def _oldest(self) -> Data | None:
        inbox = self._inbox
        if inbox is None or not inbox.messages:
            return None
        if not inbox.is_paused:
            return inbox.take(0.0)  # the time is asked for during a pause only
        data = inbox.take(self._hub.clock.time())
        if not inbox.messages:
            self._resume_reading()
        return data

    async def take(self) -> Data:
        """Return the next message, waiting for it.

        Raises:
            ConnectionEnded: There will be none.
            RuntimeError: Another task is waiting already, or the connection is detached.
        """
        while (data := self.take_now()) is None:
            receiver = self.expect()
            try:
                data = await receiver
            except asyncio.CancelledError:
                self.give_back(receiver)
                raise
            if data is not None:
                break
        return data

    def expect(self) -> asyncio.Future[Data | None]:
        """Return what gets the next message, or `None` when there may be none; `take_now` has found nothing.

        Raises:
            ConnectionEnded: There will be none.
            RuntimeError: Another task is waiting already.
        """
        if self.phase is not _OPEN:
            raise ConnectionEnded(self.close_code, self.close_reason)
        if self._receiver is not None and not self._receiver.done():
            raise RuntimeError("another task is receiving: let one task receive and pass it on")
        self._receiver = asyncio.get_running_loop().create_future()
        return self._receiver

    def give_back(self, receiver: asyncio.Future[Data | None]) -> None:
        """A task was cancelled that has waited for a message: if that has come, it is for the next task."""
        if receiver.cancelled():
            self._receiver = None
        elif (data := receiver.result()) is not None and self._inbox is not None:
            self._inbox.give_back(data, payload_size(data))

    def _resume_reading(self) -> None:
        self._cancel_pause_timer()
        if self.phase is not Phase.OPEN:
            return
        assert self._inbox is not None
        now = self._hub.clock.time()
        self._heard_at = now  # we did not read: the client was not silent
        self._inbox.resume(now)
        self.transport.resume_reading()

    def _cancel_pause_timer(self) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None

    def _wake_receiver(self) -> None:
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None
            if not receiver.done():
                receiver.set_result(None)
        elif self._handlers is not None and not self._is_handling:  # and so has handled all that has arrived
            self._tell_closed(self._handlers)

    def _watch_silence(self) -> None:
        """Arm one timer for the next moment at which the client could have been silent for too long."""
        limits = self.settings.limits
        due = []
        if limits.first_message_s is not None and not self._heard:
            due.append((self._opened_at + limits.first_message_s, "first_message_s"))
        if limits.idle_s is not None:
            is_paused = self._inbox is not None and self._inbox.is_paused
            since = self._hub.clock.time() if is_paused else self._heard_at
            due.append((since + limits.idle_s, "idle_s"))
        if not due:
            self._silence_timer = None
            return
        when, limit = min(due)
        if when <= self._hub.clock.time():
            self._violate(limit)
        else:
            self._silence_timer = self._hub.clock.call_at(when, self._watch_silence)

    # Detached: without an endpoint

    @property
    def is_detached(self) -> bool:
        """Whether the connection outlives its endpoint."""
        return self._handlers is not None

    def detach(self, handlers: Handlers) -> None:
        """Call the handlers from now on; the connection goes on when its endpoint has returned.

        Raises:
            RuntimeError: A task is receiving, or the connection is detached already.
        """
        if self._handlers is not None:
            raise RuntimeError("the connection is detached already")
        if self._receiver is not None and not self._receiver.done():
            raise RuntimeError("a task is receiving: detach when none is, and give detach(on_message=…)")
        self._receiver = None
        self._handlers = handlers
        self._is_handling = True  # what has arrived is handled when the endpoint has had its say
        asyncio.get_running_loop().call_soon(self._begin_handling, handlers)

    def _begin_handling(self, handlers: Handlers) -> None:
        self._handle(handlers, self._oldest())

    def application_ended(self, code: int) -> None:
        """The endpoint has returned or raised (see `TransportUser`)."""
        if self._handlers is None or code != CloseCode.NORMAL:
            self.end(code)
        if self._handlers is not None:
            self._handlers.released()

    def _handle(self, handlers: Handlers, data: Data | None) -> None:
        """Give the handler a message, and what has arrived meanwhile, for as long as it does not have to wait."""
        self._is_handling = True
        while data is not None:
            context = self._context
            if context is None:
                context = self._own_context()
            try:
                outcome = context.run(handlers.message, data)
                if outcome is not None:
                    coroutine = outcome if outcome.__class__ is CoroutineType else _wait_for(outcome, "on_message")
                    if not self._hub.eager.run(coroutine, context, self._handle_on):
                        return
            except (Exception, asyncio.CancelledError) as error:
                self._handler_failed(error)
            inbox = self._inbox
            data = self._oldest() if inbox is not None and inbox.messages else None
        self._rest(handlers)

    def _rest(self, handlers: Handlers) -> None:
        """Nothing is left to handle: until more arrives, or for good."""
        self._is_handling = False
        if self.phase is not _OPEN:
            self._tell_closed(handlers)

    async def _handle_on(self, outcome: Awaitable[None]) -> None:
        """Wait for the handler; what has arrived meanwhile is handled after that."""
        handlers = self._handlers
        assert handlers is not None
        try:
            await outcome
        except asyncio.CancelledError as cancelled:
            self._handler_failed(cancelled)
            self._rest(handlers)
            raise
        except Exception as error:
            self._handler_failed(error)
        # Not from here, where the context is entered already.
        asyncio.get_running_loop().call_soon(self._begin_handling, handlers)

    def _own_context(self) -> contextvars.Context:
        """Return the context of the handlers: it is theirs whoever has led to the call."""
        if self._context is None:
            self._context = contextvars.Context()
            self._context.run(current_connections.set, (self.id,))
        return self._context

    def _handler_failed(self, error: BaseException) -> None:
        """A handler has raised: that ends the connection as it does in an endpoint, and nothing more is handled."""
        assert self._handlers is not None
        if isinstance(error, Exception):
            code, reason = self._handlers.closing(error)
            if code is CloseCode.INTERNAL_ERROR:
                logger.error("the message handler of connection %s failed", self.id, exc_info=error)
            self.end(code, reason)
        else:
            self.abort()
        self.discard_inbox()

    def _tell_closed(self, handlers: Handlers) -> None:
        self._hub.eager.start(self._call_closed(handlers), self._own_context())

    async def _call_closed(self, handlers: Handlers) -> None:
        try:
            outcome = handlers.closed(self.close_code, self.close_reason)
            if outcome is not None:
                await _wait_for(outcome, "on_close")
        except Exception as error:
            if handlers.closing(error)[0] is CloseCode.INTERNAL_ERROR:
                logger.error("the close handler of connection %s failed", self.id, exc_info=error)

    # The end

    def draining(self) -> None:
        """The server stops (see `TransportUser`)."""
        self.end(CloseCode.SERVICE_RESTART, deadline_s=DRAIN_DEADLINE_S)

    def lost(self, code: int, reason: str) -> None:
        """The transport has let go (see `TransportUser`)."""
        was_open = self.phase is Phase.OPEN
        self._enter(Phase.CLOSED)
        if was_open:
            self._set_end(code, reason)
        self._discard_backlog()
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._hub.released(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


def _up_to(size: int, frames: Sequence[PreparedFrame]) -> Iterator[PreparedFrame]:
    """Yield the first frames of so many bytes together, or the first one."""
    for frame in frames:
        yield frame
        size -= frame.size
        if size <= 0:
            return


async def _wait_for(outcome: Awaitable[None], handler: str) -> None:
    if not inspect.isawaitable(outcome):
        raise TypeError(f"{handler} returned {outcome!r}: return None or an awaitable")
    await outcome
