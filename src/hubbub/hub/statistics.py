"""The hub's counters and the frozen record that users see of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ("Counters", "Statistics")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one hub has seen in this process since it started.

    Args:
        connections: Open connections now.
        users: Users with an open connection now.
        channels: Channels that somebody has joined now.
        queued_bytes: Bytes in the outboxes now, and those of the sends that wait for room in them.
        accepted: Connections accepted.
        refused: Handshakes refused, by limit.
        closed: Connections ended, by close code.
        messages_received: Messages from clients.
        bytes_received: Their payload bytes.
        published: Calls of broadcast, publish and send(user).
        deliveries: Messages handed to transports or queued in outboxes, one for each recipient.
        bytes_sent: Their payload bytes.
        dropped: Publications dropped for slow clients, by policy.
        undelivered: Direct sends to a connection that had ended.
        discarded: Messages thrown away: queued or received when their connection ended, or received by an endpoint that
            takes none.
        invalid_messages: Messages that did not fit `Connection[In]`.
        violations: Connections ended and calls denied over a limit, by limit.
        is_broker_connected: Whether publications of other workers arrive; always so without a broker that is shared.
        gaps: How often publications of other workers may have been lost, and were looked for in history.
        unrecovered: Gaps of a channel with history that could not be closed, and were told to its clients.
        resumed: Joins with a position that got all they had missed.
        not_resumed: Joins with a position from which history reaches no more.
        history_reads: Readings of histories, for gaps, for joins with a position and for `Hub.history`.
        malformed: Payloads on the broker that could not be read.
    """

    connections: int
    users: int
    channels: int
    queued_bytes: int
    accepted: int
    refused: Mapping[str, int]
    closed: Mapping[int, int]
    messages_received: int
    bytes_received: int
    published: int
    deliveries: int
    bytes_sent: int
    dropped: Mapping[str, int]
    undelivered: int
    discarded: int
    invalid_messages: int
    violations: Mapping[str, int]
    is_broker_connected: bool
    gaps: int
    unrecovered: int
    resumed: int
    not_resumed: int
    history_reads: int
    malformed: int


@dataclass(slots=True)
class Counters:
    """The counters behind `Statistics`, while they count."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    closed: Counter[int] = field(default_factory=Counter)
    messages_received: int = 0
    bytes_received: int = 0
    published: int = 0
    deliveries: int = 0
    bytes_sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    undelivered: int = 0
    discarded: int = 0
    invalid_messages: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    unrecovered: int = 0
    resumed: int = 0
    not_resumed: int = 0
    history_reads: int = 0
    malformed: int = 0

    def snapshot(
        self, *, connections: int, users: int, channels: int, queued_bytes: int, is_broker_connected: bool = True
    ) -> Statistics:
        """Return the record of now; `connections` and the like are what only the hub can count."""
        return Statistics(
            connections=connections,
            users=users,
            channels=channels,
            queued_bytes=queued_bytes,
            accepted=self.accepted,
            refused=dict(self.refused),
            closed=dict(self.closed),
            messages_received=self.messages_received,
            bytes_received=self.bytes_received,
            published=self.published,
            deliveries=self.deliveries,
            bytes_sent=self.bytes_sent,
            dropped=dict(self.dropped),
            undelivered=self.undelivered,
            discarded=self.discarded,
            invalid_messages=self.invalid_messages,
            violations=dict(self.violations),
            is_broker_connected=is_broker_connected,
            gaps=self.gaps,
            unrecovered=self.unrecovered,
            resumed=self.resumed,
            not_resumed=self.not_resumed,
            history_reads=self.history_reads,
            malformed=self.malformed,
        )
