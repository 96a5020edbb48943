"""Which node of a cluster has which slot, by the word of one of its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.crc import key_slot

from .address import Address, AddressError
from .wire import packed

__all__ = ("Node", "SlotMap", "ask", "slot_of")

SLOTS = 16_384
ANSWER_S = 1.0
"""Seconds for one node to answer; there are others."""

Node = tuple[str, int]


def slot_of(name: bytes) -> int:
    """Return the slot of a key or a channel: that of its hash tag."""
    return key_slot(name)


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which master has which slot.

    Args:
        owners: The host and the port of the master for each slot; `None` where there is none.
        nodes: Masters and replicas.
    """

    owners: tuple[Node | None, ...] = (None,) * SLOTS
    nodes: frozenset[Node] = frozenset()

    def owner(self, name: bytes) -> Node | None:
        """Return the master that has a key or a channel."""
        return self.owners[slot_of(name)]

    def is_at(self, node: Node, name: bytes) -> bool:
        """Whether a master has a key or a channel."""
        return self.owner(name) == node

    @property
    def masters(self) -> frozenset[Node]:
        """The masters that have a slot."""
        return frozenset(owner for owner in self.owners if owner is not None)


async def ask(cluster: Address, nodes: Iterable[Node]) -> SlotMap:
    """Ask one node after the other, until one answers that knows.

    A node that has lost sight of the others says that the state is not `ok`, and its map may be of yesterday. If all
    that answer say so, the cluster is down, and the map of any of them will do.

    Raises:
        AddressError: None has answered.
    """
    doubtful, reason = None, "no node is known"
    for node in nodes:
        try:
            async with asyncio.timeout(ANSWER_S):
                info, ranges = await _answers(cluster.at(*node), (b"CLUSTER", b"INFO"), (b"CLUSTER", b"SLOTS"))
        except AddressError as error:
            reason = str(error)
        except (TimeoutError, OSError, RuntimeError) as error:  # RuntimeError: see `Address.connect`
            reason = str(error) or f"no answer within {ANSWER_S:g} s"
        else:
            found = _read(ranges, node[0])
            if b"cluster_state:ok" in info:
                return found
            doubtful = doubtful or found
    if doubtful is None:
        raise AddressError(reason)
    return doubtful


async def _answers(address: Address, *commands: tuple[bytes, ...]) -> list[Any]:
    stream, writer = await address.connect()
    try:
        writer.write(b"".join(map(packed, commands)))
        reader = hiredis.Reader()
        replies: list[Any] = []
        while len(replies) < len(commands):
            received = await stream.read(65_536)
            if not received:
                raise AddressError("closed by the server")
            reader.feed(received)
            while (reply := reader.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    raise AddressError(str(reply))
                replies.append(reply)
    except hiredis.ProtocolError as error:
        raise AddressError(f"not the protocol of Redis: {error}") from None
    finally:
        writer.transport.abort()
    return replies


def _read(ranges: list[Any], asked: str) -> SlotMap:
    """Read the reply to `CLUSTER SLOTS`, in which a node without a host is the one that was asked."""
    owners: list[Node | None] = [None] * SLOTS
    nodes = set()
    for first, last, *listed in ranges:
        found = [((host or b"").decode() or asked, port) for host, port, *_ in listed]
        owners[first : last + 1] = [found[0]] * (last + 1 - first)
        nodes.update(found)
    return SlotMap(tuple(owners), frozenset(nodes))
