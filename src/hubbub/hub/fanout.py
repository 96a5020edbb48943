"""From a message to the connections that hear it: encode once, hand over to each.

Theory of operation. A system call for each message and recipient is what a fan-out costs; so publications wait for a
turn or two of the loop, and those of one channel that have come one after the other go out as one run: joined once, and
written once to each who hears the channel. Runs go out in the order in which they were begun, so that every connection
gets everything in the order in which the hub has accepted it. Whatever else is written to a connection settles first
what waits for it; so does its end.

The hot loop asks nothing: who is congested is not in it (see `_Plan`), and gets its messages through its backlog. A
plan is made anew when somebody has joined, left, become congested or writable. A very large run goes out in slices that
give the loop back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from pydantic_core import PydanticSerializationError, to_json

from ..model import OutboxPolicy
from ..state.index import ChannelIndex
from ..state.outbox import ENTRY_BYTES
from ..wire.prepared import Encoding, PreparedFrame
from .connection import CoreConnection, Phase
from .statistics import Counters

__all__ = ("RUN_BYTES", "SLICE", "Fanout", "prepare")

SLICE = 1_000
"""Recipients of one slice: 4 to 5 ms."""
RUN_BYTES = 65_536
"""A run that holds this much gets no more; from here on producers wait, or one that never does would pile up memory."""


def prepare(message: object) -> PreparedFrame:
    """Encode a message: `str` becomes a text frame, `bytes` a binary one, anything else JSON text.

    NaN and infinity become `null`, since JSON has no name for them (RFC 8259 section 6).

    Raises:
        TypeError: Something in the message has no JSON form.
        ValueError: A text has a lone surrogate, or the message contains itself.
    """
    try:
        if isinstance(message, str):
            return PreparedFrame(message)
        if isinstance(message, PreparedFrame):
            return message
        if isinstance(message, (bytes, bytearray, memoryview)):
            return PreparedFrame(bytes(message))
        encoded = to_json(message, inf_nan_mode="null")
        return PreparedFrame(encoded.decode(), len(encoded))
    except PydanticSerializationError as error:
        is_value = "UnicodeEncodeError" in str(error) or "Circular reference" in str(error)
        fault = ValueError if is_value else TypeError
        raise fault(f"{type(message).__name__} cannot be sent as JSON: {error}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"the message has no UTF-8 form: {error}; remove lone surrogates first") from None


class _Run:
    """Publications of one channel that go out together.

    Attributes:
        frames: What those get who hear the channel when it goes out.
        special: What those get who are left out of some of it, have some of it already, or have come later.
        remaining: Who has not got it yet, once it goes out in slices.
    """

    __slots__ = ("bytes", "channel", "frames", "policy", "remaining", "special")

    def __init__(self, channel: str, policy: OutboxPolicy | None) -> None:
        self.channel = channel
        self.policy = policy
        self.bytes = 0
        self.frames: list[PreparedFrame] = []
        self.special: dict[CoreConnection, list[PreparedFrame]] = {}
        self.remaining: dict[CoreConnection, None] | None = None

    def append(self, frame: PreparedFrame, exclude: Collection[CoreConnection]) -> None:
        """Add a publication that `exclude` does not get."""
        for connection in exclude:
            if connection not in self.special:
                self.special[connection] = self.frames.copy()
        for connection, frames in self.special.items():
            if connection not in exclude:
                frames.append(frame)
        self.frames.append(frame)
        self.bytes += frame.size + ENTRY_BYTES


class _Plan:
    """Who hears a channel, sorted for the fan-out.

    Args:
        subscribers: Who hears it.

    Attributes:
        groups: For each encoding those who take at once what it makes.
        others: Those who are congested, or whose transport takes messages one by one.
        is_singly: Whether there are transports that take messages one by one: joining gains nothing there, and they are
            congested with the first one, so that the second would meet the policy of a client that is slow.
    """

    __slots__ = ("groups", "is_singly", "others")

    def __init__(self, subscribers: Iterable[CoreConnection]) -> None:
        self.groups: dict[Encoding, list[Callable[[bytes], object]]] = {}
        self.others: list[CoreConnection] = []
        self.is_singly = False
        for connection in subscribers:
            sharing = connection.transport.sharing
            if sharing is None or connection.is_congested:
                self.others.append(connection)
                self.is_singly |= sharing is None
            else:
                self.groups.setdefault(sharing.encoding, []).append(sharing.write_encoded)

    def is_behind(self) -> bool:
        """Return whether anyone is congested, or needs the loop to run before its endpoint goes on."""
        return any(connection.is_congested or connection.ends_unseen for connection in self.others)


class Fanout:
    """Hands publications over to those who hear their channels.

    Args:
        index: Who hears what.
        counters: Where deliveries are counted.
        call_soon: Calls a function in one of the loop's next turns.

    Attributes:
        runs: The runs that wait; for looking only.
    """

    def __init__(
        self,
        index: ChannelIndex[CoreConnection],
        counters: Counters,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._index = index
        self._counters = counters
        self._call_soon = call_soon
        self.runs: deque[_Run] = deque()
        self._bytes = 0
        self._is_due = False
        self._plans: dict[str, _Plan] = {}

    # From the hub

    @property
    def is_full(self) -> bool:
        """Whether `RUN_BYTES` wait: producers are to let the loop run."""
        return self._bytes > RUN_BYTES

    def publish(
        self, channel: str, frame: PreparedFrame, policy: OutboxPolicy | None, exclude: Collection[CoreConnection]
    ) -> bool:
        """Take a publication for all who hear `channel` now; return whether the loop should run before the next one.

        Args:
            channel: Its channel, which somebody hears.
            frame: The message.
            policy: The channel's own policy, or `None` for that of each connection.
            exclude: Connections that are left out.
        """
        run = self.runs[-1] if self.runs else None
        is_other = run is None or run.channel != channel or run.policy != policy
        if run is None or is_other or run.remaining is not None or run.bytes > RUN_BYTES:
            run = _Run(channel, policy)
            self.runs.append(run)
        run.append(frame, exclude)
        self._bytes += frame.size + ENTRY_BYTES
        plan = self._plan(channel)
        is_behind = plan.is_behind()
        if plan.is_singly:
            self._flush()
        elif not self._is_due:
            self._is_due = True
            self._call_soon(self._flush_slice)
        return is_behind

    def settle(self, connection: CoreConnection) -> None:
        """Hand over what has been published to one connection, ahead of the others."""
        for run in self.runs:
            if run.remaining is not None:
                if connection in run.remaining:
                    del run.remaining[connection]
                    self._hand_over(run, connection, run.special.get(connection, run.frames), {})
            elif self._index.contains(run.channel, connection):
                frames = run.special.get(connection, run.frames)
                run.special[connection] = []  # before they may be too much for it: its end settles again
                self._hand_over(run, connection, frames, {})

    def joined(self, connection: CoreConnection, channel: str) -> None:
        """A connection has joined: what was published before is not for it."""
        self._plans.pop(channel, None)
        for run in self.runs:
            if run.channel == channel and run.remaining is None:
                run.special[connection] = []

    def forget_plans(self, channels: Iterable[str]) -> None:
        """Something has changed about those who hear these channels."""
        for channel in channels:
            self._plans.pop(channel, None)

    # The hand-over

    def _plan(self, channel: str) -> _Plan:
        plan = self._plans.get(channel)
        if plan is None:
            plan = self._plans[channel] = _Plan(self._index.subscribers(channel))
        return plan

    def _flush_slice(self) -> None:
        self._is_due = False
        left = SLICE
        try:
            while self.runs and left > 0:
                left -= self._hand_out(self.runs[0], SLICE)
        finally:
            if self.runs and not self._is_due:
                self._is_due = True
                self._call_soon(self._flush_slice)

    def _flush(self) -> None:
        while self.runs:
            self._hand_out(self.runs[0], None)

    def _hand_out(self, run: _Run, most: int | None) -> int:
        """Hand a run over, to `most` recipients at a time; return to how many."""
        count = self._index.count(run.channel)
        if run.remaining is not None or (count and run.special) or (most is not None and count > most):
            return self._hand_to_some(run, most)
        self._leave(run)
        if count:
            self._hand_to_all(run)
        return count

    def _leave(self, run: _Run) -> None:
        self.runs.popleft()
        self._bytes -= run.bytes

    def _hand_to_all(self, run: _Run) -> None:
        """The hot path: one encoding for each kind of transport, one write for each connection."""
        plan = self._plan(run.channel)
        frames = tuple(run.frames)
        delivered = 0
        for encode, writes in plan.groups.items():
            encoded = encode(frames)
            for write in writes:
                write(encoded)
            delivered += len(writes)
        self._count(delivered, run.frames)
        for connection in plan.others:
            for frame in run.frames:
                connection.deliver(frame, run.channel, run.policy)

    def _hand_to_some(self, run: _Run, most: int | None) -> int:
        """Hand a run over one by one, to `most` recipients at a time; return to how many."""
        if run.remaining is None:
            run.remaining = dict.fromkeys(self._index.subscribers(run.channel))
        encoded: dict[Encoding, bytes] = {}
        batch = tuple(islice(run.remaining, most))
        for connection in batch:
            if connection in run.remaining:  # else it was settled by something that this has led to
                del run.remaining[connection]
                self._hand_over(run, connection, run.special.get(connection, run.frames), encoded)
        if not run.remaining and self.runs and self.runs[0] is run:
            self._leave(run)
        return len(batch)

    def _hand_over(
        self, run: _Run, connection: CoreConnection, frames: list[PreparedFrame], encoded: dict[Encoding, bytes]
    ) -> None:
        """Hand what one connection gets of a run, often all of it, to that connection."""
        if not frames or connection.phase is not Phase.OPEN:
            return
        sharing = connection.transport.sharing
        if sharing is None or connection.is_congested:
            for frame in frames:
                connection.deliver(frame, run.channel, run.policy)
            return
        encoding = sharing.encoding
        if frames is not run.frames:
            sharing.write_encoded(encoding(tuple(frames)))
        else:
            if encoding not in encoded:
                encoded[encoding] = encoding(tuple(frames))
            sharing.write_encoded(encoded[encoding])
        self._count(1, frames)

    def _count(self, recipients: int, frames: Collection[PreparedFrame]) -> None:
        self._counters.deliveries += recipients * len(frames)
        self._counters.bytes_sent += recipients * sum(frame.size for frame in frames)
