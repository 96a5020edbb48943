"""A connection joins a channel: what it has missed first, in order, then what is live.

Theory of operation. What was missed is read in full before anything of it is sent, so that nothing goes out in part. It
ends at the position of this hub's line; what is passed on from then on is in the line's tail. So the connection gets
the tail until it has what the line has, and in that very step it is put among those who hear the channel, and told
where it is if its form can say that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BrokerUnavailable
from ..interfaces import Timer
from ..model import CloseCode, Joined, Position
from .connection import ConnectionEnded, CoreConnection, Phase
from .exchange import Exchange
from .line import Line, Publications
from .message import UNREADABLE, Form
from .statistics import Counters

__all__ = ("Join", "Resume", "Withdrawn")


class Withdrawn(Exception):
    """The connection has left the channel while it was joining."""


@dataclass(slots=True, eq=False)
class Join:
    """A join that is under way.

    Args:
        connection: Who joins.
        channel: What it is about to hear.
        form: In which form.
        hear: Does the last step, which is told what the join has come to.
        is_withdrawn: Whether the connection has left the channel meanwhile.
        was_heard: Whether it has heard the channel before, so that its end is a leave.
    """

    connection: CoreConnection
    channel: str
    form: Form
    hear: Callable[[CoreConnection, str, Form, Joined], None]
    is_withdrawn: bool = False
    was_heard: bool = False

    def check(self) -> None:
        """Raise `ConnectionEnded` or `Withdrawn` where the join is to go on no more."""
        if self.connection.phase is not Phase.OPEN:
            raise ConnectionEnded(self.connection.close_code, self.connection.close_reason)
        if self.is_withdrawn:
            raise Withdrawn

    def finish(self, joined: Joined) -> Joined:
        """Let the connection hear the channel, and return what the join has come to; raises as `check`."""
        self.check()
        self.was_heard = False  # from here on its end is reported as a leave by itself, which would be the second one
        self.hear(self.connection, self.channel, self.form, joined)
        self.check()
        return joined


class Resume:
    """The joins of one hub.

    Args:
        exchange: The way to the history.
        counters: Where joins with a position are counted.
        call_later: Calls a function in so many seconds.
    """

    def __init__(
        self,
        exchange: Exchange,
        counters: Counters,
        call_later: Callable[[float, Callable[[], object]], Timer],
    ) -> None:
        self._exchange = exchange
        self._call_later = call_later
        self._counters = counters

    async def join(self, join: Join, since: Position | None) -> Joined:
        """Let a connection hear a channel, after what it has missed.

        Raises:
            BrokerUnavailable: The broker is away, and a position was given.
            ConnectionEnded: The connection has ended meanwhile.
            Withdrawn: It has left the channel meanwhile.
        """
        try:
            line = await self._exchange.ready(join.channel)
            if line is not None and since is not None:
                with line.kept(self._call_later):
                    return await self._catch_up(join, line, since)
        except BrokerUnavailable:
            join.check()
            if since is not None:
                raise
            return self._join_unready(join)
        return join.finish(Joined(True, 0, None if line is None else line.position))

    def _join_unready(self, join: Join) -> Joined:
        """Join while the broker is away: what is published meanwhile is missing, and will be told as a loss."""
        line = self._exchange.line(join.channel)
        if line is None or line.position is not None:  # which has come just now
            return join.finish(Joined(True, 0, None if line is None else line.position))
        joined = join.finish(Joined(False, 0, None))
        line.is_incomplete = True
        return joined

    async def _catch_up(self, join: Join, line: Line, since: Position) -> Joined:
        sent = 0
        have = since
        publications = await self._exchange.missed(join.channel, line, since)
        while publications is not None:
            sent += await self._send(join, have.epoch, publications)
            if publications:
                have = Position(have.epoch, publications[-1][0])
            if line.position == have:
                joined = join.finish(Joined(True, sent, have))
                self._counters.resumed += 1
                return joined
            publications = await self._exchange.missed(join.channel, line, have)
        join.check()
        if sent:  # the history has gone on faster than this client reads
            join.connection.end(CloseCode.SLOW, "slow")
            join.check()
        joined = join.finish(Joined(False, 0, line.position))
        self._counters.not_resumed += 1
        return joined

    async def _send(self, join: Join, epoch: str, publications: Publications) -> int:
        """Send publications, and return how many could be read."""
        join.check()
        frames = [
            message.form(join.form, join.channel, Position(epoch, offset))
            for offset, message in publications
            if message is not UNREADABLE
        ]
        await join.connection.send_frames(frames)
        join.check()
        return len(frames)
