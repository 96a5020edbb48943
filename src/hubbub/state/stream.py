"""The history of one channel: its newest publications, numbered, and the keys that tell a repetition.

The life of a history has a name, its epoch, and the publications in it have the offsets 1, 2, 3, … without a hole. What
is kept is always the newest part in one piece, so that one comparison says whether somebody has missed what is gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import NamedTuple

from ..config import History
from ..model import Position

__all__ = ("Slice", "Stream")


class Slice(NamedTuple):
    """What a reading has found: the last position, publications with their offsets, and whether nothing is missing."""

    position: Position
    publications: list[tuple[int, bytes]]
    is_complete: bool


class _Use(NamedTuple):
    """The use of an idempotency key: the offset of its publication, and until when that is remembered."""

    offset: int
    until: float


class Stream:
    """The history of one channel. Times are seconds from any start; what ends at a time has ended when it comes.

    Args:
        epoch: The name of its life, from 1 to 64 of `A–Z a–z 0–9 _ -`.

    Attributes:
        expires_at: When the publications that are kept expire, if there are any.
    """

    __slots__ = ("_epoch", "_keys", "_payloads", "_top", "expires_at")

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._top = 0
        self._payloads: deque[bytes] = deque()
        self._keys: OrderedDict[str, _Use] = OrderedDict()
        self.expires_at = 0.0

    def __len__(self) -> int:
        """How many publications it holds, those included that `expire` would take out."""
        return len(self._payloads)

    @property
    def position(self) -> Position:
        """The position of the last publication, which stays when that expires."""
        return Position(self._epoch, self._top)

    def find(self, key: str, now: float) -> Position | None:
        """Return the position of the publication that an idempotency key was used for, if that is remembered."""
        use = self._keys.get(key)
        return Position(self._epoch, use.offset) if use is not None and now < use.until else None

    def append(self, payload: bytes, history: History, now: float, key: str | None = None) -> Position:
        """Number and keep a publication, and remember its idempotency key. The caller has asked `find`.

        Args:
            payload: The publication.
            history: How many publications and keys are kept, and for how long from now on.
            now: The time in seconds.
            key: The idempotency key, if it has one.

        Returns:
            Its position.
        """
        self.expire(now)
        self._top += 1
        self._payloads.append(payload)
        while len(self._payloads) > history.size:
            self._payloads.popleft()
        self.expires_at = now + history.ttl_s
        if key is not None:
            self._remember(key, history, now)
        return self.position

    def _remember(self, key: str, history: History, now: float) -> None:
        self._keys[key] = _Use(self._top, now + history.idempotency_ttl_s)
        self._keys.move_to_end(key)
        while len(self._keys) > history.idempotency_keys:
            self._keys.popitem(last=False)

    def read(self, since: Position | None, limit: int | None, reverse: bool, now: float) -> Slice:
        """Return publications, or none at all when what comes after `since` is not all there any more.

        Args:
            since: Read what comes after it, or with `reverse` what came before it. Without it, all.
            limit: The most publications to return, or `None` for all; what it cuts off is not missing.
            reverse: From the newest to the oldest. Complete if `since` is of this epoch and not from the future.
            now: The time in seconds.
        """
        self.expire(now)
        if since is not None and not self._covers(since, reverse):
            return Slice(self.position, [], False)
        first = self._top - len(self._payloads) + 1
        if reverse:
            newest = self._top if since is None else since.offset - 1
            offsets = range(newest, first - 1, -1)[:limit]
            skipped, payloads = self._top - newest, reversed(self._payloads)
        else:
            oldest = first if since is None else since.offset + 1
            offsets = range(oldest, self._top + 1)[:limit]
            skipped, payloads = oldest - first, iter(self._payloads)
        found = islice(payloads, skipped, skipped + len(offsets))
        return Slice(self.position, list(zip(offsets, found, strict=True)), True)

    def _covers(self, since: Position, reverse: bool) -> bool:
        oldest = 0 if reverse else self._top - len(self._payloads)
        return since.epoch == self._epoch and oldest <= since.offset <= self._top

    def expire(self, now: float) -> None:
        """Take out what has ended: all publications when the last one has, and the keys in order of their use."""
        if self.expires_at <= now:
            self._payloads.clear()
        while self._keys and next(iter(self._keys.values())).until <= now:
            self._keys.popitem(last=False)
