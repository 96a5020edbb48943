"""One connection of a hub: its state, its inbox, its outbox and its end.

Theory of operation. The transport calls in (`received`, `congested`, `writable`, `lost`), the hub and the endpoint call
from the other side (`deliver`, `send_frame`, `take`, `end`); all of it happens in the loop's thread, and nothing is
awaited between a check and the change that rests on it.

Going out, a frame is written straight to the transport until the transport says that it is congested; from then on it
waits in the outbox, which `writable` drains. So the outbox is empty whenever the transport is not congested, and one
order holds for direct sends and publications alike. A publication that does not fit meets its policy; a direct send
waits for room in `_waiting`, first come, first served, and is put in line by whoever makes the room, not when its
task wakes up. Direct sends use only half of the outbox, or one endpoint that streams to a healthy client would have it
closed as slow by the next broadcast.

Coming in, messages pass the limits when they arrive and wait in the inbox for the endpoint; a full one stops the
reading (see `state.inbox`). What was read before the peer closed is still delivered; after an end of our making nothing
is.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from starlette.websockets import WebSocketDisconnect

from ..config import Limits, Outbox
from ..interfaces import Clock, Timer, Transport
from ..model import CloseCode, Data, OnInvalid, OutboxPolicy
from ..state.inbox import Arrival, Inbox
from ..state.outbox import OutboxQueue
from ..wire.prepared import PreparedFrame, payload_size
from .admission import Admission
from .statistics import Counters

__all__ = ("ConnectionEnded", "CoreConnection", "Owner", "Phase", "Settings", "current_connections")

SEND_DEADLINE_S = 10.0
"""How long a direct send waits for room before its client counts as slow."""
CLOSE_DEADLINE_S = 5.0
"""How long a close waits for what is queued before it."""
DIRECT_SHARE = 0.5
"""The part of the outbox that direct sends may fill."""

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


class Owner(Protocol):
    """What a connection asks of its hub."""

    clock: Clock
    counters: Counters

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once in so many seconds."""

    def opened(self, connection: CoreConnection) -> None:
        """The connection is open."""

    def ended(self, connection: CoreConnection) -> None:
        """It is open no more. Comes once after `opened`."""

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
    """

    limits: Limits
    outbox: Outbox
    on_invalid: OnInvalid
    admissions: tuple[Admission, ...]


class _Sender(NamedTuple):
    """A direct send that waits for room."""

    frame: PreparedFrame
    waiter: asyncio.Future[None]
    deadline: Timer


class CoreConnection:
    """A connection as its hub knows it; the public `Connection` is built on it.

    Args:
        hub: The hub that it belongs to.
        settings: What holds for it; can be replaced until it is admitted.
        address: The client's address, or `None` if it has none.

    Attributes:
        facade: What the application sees of it.
        ends_unseen: Whether nobody says when its endpoint returns (plain Starlette): then what is sent is handed over
            before the send returns, or the last words would be lost with the server's close.
    """

    def __init__(self, hub: Owner, settings: Settings, address: str | None) -> None:
        self.id = secrets.token_hex(8)
        self.close_code = int(CloseCode.ABNORMAL)
        self.close_reason = ""
        self._hub = hub
        self.settings = settings
        self.address = address
        self.facade: object = None
        self.ends_unseen = False
        self.is_admitted = False
        self._user: str | None = None
        self._phase = Phase.CONNECTING
        self._transport: Transport | None = None
        self._inbox: Inbox[Data] = Inbox(settings.limits, hub.clock.time())
        self._pause_timer: Timer | None = None
        self._receiver: asyncio.Future[None] | None = None
        self._is_congested = False
        self._outbox: OutboxQueue[PreparedFrame] | None = None
        self._waiting: deque[_Sender] = deque()
        self._closed: asyncio.Future[None] | None = None
        self._close_timer: Timer | None = None
        self._silence_timer: Timer | None = None
        self._opened_at = self._heard_at = 0.0
        self._heard = False

    # The life of a connection

    @property
    def phase(self) -> Phase:
        """Where the connection is in its life."""
        return self._phase

    @property
    def user(self) -> str | None:
        """Who is connected, or `None` for nobody in particular. Can be set until the connection is accepted."""
        return self._user

    @user.setter
    def user(self, user: str | None) -> None:
        if self._phase is not Phase.CONNECTING or self.is_admitted:
            raise RuntimeError("the user is settled when the connection is accepted: set it before, or accept(user=…)")
        if user is not None and (not isinstance(user, str) or not user):
            raise ValueError(f"user {user!r}: give a non-empty str, such as str(account.id), or None")
        self._user = user

    @property
    def queued_bytes(self) -> int:
        """Bytes in the outbox, and those of the senders that wait for room in it."""
        waiting = sum(sender.frame.size for sender in tuple(self._waiting))
        return waiting + (self._outbox.bytes if self._outbox is not None else 0)

    def _enter(self, phase: Phase) -> None:
        if phase not in _NEXT[self._phase]:
            raise AssertionError(f"connection {self.id}: {self._phase} cannot become {phase}")
        self._phase = phase

    def open(self, transport: Transport) -> None:
        """Begin: the handshake is done and `transport` carries the connection. It has been admitted before."""
        self._enter(Phase.OPEN)
        self._transport = transport
        now = self._opened_at = self._heard_at = self._hub.clock.time()
        self._inbox = Inbox(self.settings.limits, now)
        self._hub.opened(self)
        self._watch_silence()
        transport.start(self)

    def fail(self) -> None:
        """The handshake of an admitted connection failed: it never opens."""
        self._enter(Phase.CLOSED)
        self._hub.released(self)

    def end(self, code: int, reason: str = "") -> None:
        """Close from our side: out of the hub now, the close frame after what is queued, or after a deadline.

        A client that is ended as slow is not waited for: its outbox is freed at once.
        """
        if self._phase is not Phase.OPEN:
            return
        assert self._transport is not None
        self._enter(Phase.CLOSING)
        self._set_end(code, reason)
        self.discard_inbox()
        if code == CloseCode.SLOW or (not self._outbox and not self._is_congested):
            self._discard_outbox()
            self._transport.close(code, reason)
        if self.phase is not Phase.CLOSED:
            self._close_timer = self._hub.call_later(CLOSE_DEADLINE_S, self._transport.abort)

    def abort(self) -> None:
        """End without a close frame, unless it has never opened."""
        if self._transport is not None and self._phase is not Phase.CLOSED:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the transport has let go of the connection."""
        if self._phase in (Phase.CONNECTING, Phase.CLOSED):
            return
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._closed)

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
        while self._waiting:
            sender = self._waiting.popleft()
            sender.deadline.cancel()
            if not sender.waiter.done():
                sender.waiter.set_exception(ConnectionEnded(code, reason))

    def discard_inbox(self) -> None:
        """Throw away and count what has arrived: nobody will receive it."""
        self._hub.counters.discarded += self._inbox.clear()

    def _discard_outbox(self) -> None:
        if self._outbox is not None:
            self._hub.counters.discarded += len(self._outbox)
            self._outbox = None

    # Going out

    def deliver(self, frame: PreparedFrame, channel: str, policy: OutboxPolicy | None) -> bool:
        """Take a publication of `channel`; return whether it is to be handed over before the sender goes on."""
        if self._phase is not Phase.OPEN:
            return False
        counters = self._hub.counters
        if not self._is_congested:
            counters.deliveries += 1
            counters.bytes_sent += frame.size
            assert self._transport is not None
            self._transport.write(frame)
            return self.ends_unseen
        policy = policy or self.settings.outbox.policy
        # Where publications may be dropped they leave the same room as direct sends while one of those waits: or they
        # would take all room that comes, and a client that reads would be closed as slow.
        share = DIRECT_SHARE if self._waiting and policy != "disconnect" else 1.0
        queued, lost = self._queue().offer(frame, frame.size, channel, policy, share)
        if lost:
            counters.dropped[policy] += lost
        if queued:
            counters.deliveries += 1
            counters.bytes_sent += frame.size
            self._let_in()  # what was pushed out may have been larger
        elif policy == "disconnect":
            self.end(CloseCode.SLOW, "slow")
        return True

    async def send_frame(self, frame: PreparedFrame) -> None:
        """Send to this one connection, waiting for room in its outbox.

        Once the connection has ended this raises in its own endpoint and the tasks that the endpoint started, so that
        their loops end; to anyone else a send to one that is gone is not an error, but counted.

        Raises:
            ConnectionEnded: This is the connection's own endpoint, and the connection has ended.
        """
        if self._phase is not Phase.OPEN:
            self._undelivered(ConnectionEnded(self.close_code, self.close_reason))
            return
        if not self._waiting and self._has_room(frame):
            self._put(frame)
            if self.ends_unseen:
                await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = self._hub.call_later(
            SEND_DEADLINE_S, lambda: None if waiter.done() else self.end(CloseCode.SLOW, "slow")
        )
        sender = _Sender(frame, waiter, deadline)
        self._waiting.append(sender)
        waiter.add_done_callback(lambda waiter: self._gave_up(sender) if waiter.cancelled() else None)
        try:
            await waiter
        except ConnectionEnded as ended:
            self._undelivered(ended)

    def _gave_up(self, sender: _Sender) -> None:
        """A waiting sender was cancelled: it holds nobody up who waits behind it."""
        sender.deadline.cancel()
        if sender in self._waiting:
            self._waiting.remove(sender)
            self._let_in()

    def _let_in(self) -> None:
        """Put waiting senders in line, as far as there is room."""
        while self._waiting and (self._waiting[0].waiter.done() or self._has_room(self._waiting[0].frame)):
            sender = self._waiting.popleft()
            sender.deadline.cancel()
            if not sender.waiter.done():
                self._put(sender.frame)
                sender.waiter.set_result(None)

    def _undelivered(self, ended: ConnectionEnded) -> None:
        self._hub.counters.undelivered += 1
        if self.id in current_connections.get():
            raise ended

    def _queue(self) -> OutboxQueue[PreparedFrame]:
        if self._outbox is None:
            self._outbox = OutboxQueue(self.settings.outbox.bytes)
        return self._outbox

    def _has_room(self, frame: PreparedFrame) -> bool:
        return not self._is_congested or self._queue().has_room(frame.size, DIRECT_SHARE)

    def _put(self, frame: PreparedFrame) -> None:
        self._hub.counters.deliveries += 1
        self._hub.counters.bytes_sent += frame.size
        if self._is_congested:
            self._queue().put(frame, frame.size)
        else:
            assert self._transport is not None
            self._transport.write(frame)

    def congested(self) -> None:
        """The transport is full (see `TransportUser`)."""
        self._is_congested = True

    def writable(self) -> None:
        """The transport has room: drain the outbox, then let waiting senders in (see `TransportUser`)."""
        self._is_congested = False
        assert self._transport is not None
        while not self._is_congested and self._outbox is not None:
            frame = self._outbox.pop()
            if frame is None:
                self._outbox = None
            else:
                self._transport.write(frame)
        self._let_in()
        if self._phase is Phase.CLOSING and not self._is_congested:
            self._transport.close(self.close_code, self.close_reason)

    # Coming in

    def received(self, data: Data) -> None:
        """A message has arrived (see `TransportUser`)."""
        counters = self._hub.counters
        if self._phase is not Phase.OPEN:
            counters.discarded += 1
            return
        size = payload_size(data)
        counters.messages_received += 1
        counters.bytes_received += size
        now = self._hub.clock.time()
        self._heard_at, self._heard = now, True
        match self._inbox.put(data, size, now):
            case Arrival.TAKEN:
                self._wake_receiver()
            case Arrival.FILLED:
                self._wake_receiver()
                self._pause_reading()
            case Arrival.DISCARDED:
                counters.discarded += 1
            case Arrival.TOO_BIG:
                self._violate("message_bytes", CloseCode.MESSAGE_TOO_BIG)
            case Arrival.TOO_MANY:
                self._violate("messages_per_s")

    def _pause_reading(self) -> None:
        self._pause_timer = self._hub.clock.call_at(self._inbox.pause_ends_at(), self._end_long_pause)
        assert self._transport is not None
        self._transport.pause_reading()

    def _end_long_pause(self) -> None:
        """Read on although the inbox is full, if the endpoint has taken nothing for long."""
        due = self._inbox.pause_ends_at()
        if due > self._hub.clock.time():
            self._pause_timer = self._hub.clock.call_at(due, self._end_long_pause)
        else:
            self._inbox.discard()
            self._resume_reading()

    async def take(self) -> Data:
        """Return the next message, waiting for it.

        Raises:
            ConnectionEnded: There will be none.
            RuntimeError: Another task is waiting already.
        """
        while not self._inbox:
            if self._phase is not Phase.OPEN:
                raise ConnectionEnded(self.close_code, self.close_reason)
            if self._receiver is not None:
                raise RuntimeError("another task is receiving: let one task receive and pass it on")
            self._receiver = asyncio.get_running_loop().create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        data = self._inbox.take(self._hub.clock.time())
        if not self._inbox and self._inbox.is_paused:
            self._resume_reading()
        return data

    def _resume_reading(self) -> None:
        self._cancel_pause_timer()
        if self._phase is not Phase.OPEN:
            return
        now = self._hub.clock.time()
        self._heard_at = now  # we did not read: the client was not silent
        self._inbox.resume(now)
        assert self._transport is not None
        self._transport.resume_reading()

    def _cancel_pause_timer(self) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _watch_silence(self) -> None:
        """Arm one timer for the next moment at which the client could have been silent for too long."""
        limits = self.settings.limits
        due = []
        if limits.first_message_s is not None and not self._heard:
            due.append((self._opened_at + limits.first_message_s, "first_message_s"))
        if limits.idle_s is not None:
            since = self._hub.clock.time() if self._inbox.is_paused else self._heard_at
            due.append((since + limits.idle_s, "idle_s"))
        if not due:
            self._silence_timer = None
            return
        when, limit = min(due)
        if when <= self._hub.clock.time():
            self._violate(limit)
        else:
            self._silence_timer = self._hub.clock.call_at(when, self._watch_silence)

    # The end

    def lost(self, code: int, reason: str) -> None:
        """The transport has let go (see `TransportUser`)."""
        if self._phase is Phase.OPEN:
            self._set_end(code, reason)
        self._enter(Phase.CLOSED)
        self._discard_outbox()
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._hub.released(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
