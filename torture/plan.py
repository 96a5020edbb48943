"""What a run does: how much is published, by whom it is heard, and which faults come in which order."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """What may go wrong."""

    KILL = "kill -9 of a worker"
    DRAIN = "SIGTERM to a worker"
    RESTART = "Redis killed and started again with its data"
    WIPE = "Redis killed and started again without its data"
    ROLL_BACK = "Redis killed and started again with older data"
    FREEZE = "Redis frozen"
    PAUSE = "CLIENT PAUSE"
    KILL_SUBSCRIPTIONS = "CLIENT KILL TYPE pubsub"
    KILL_COMMANDS = "CLIENT KILL TYPE normal"
    DELAY = "network delay"
    CUT = "connections reset"
    REFUSE = "connections reset and refused"
    BLACK_HOLE = "black hole"
    DEAF = "black hole from Redis to the worker"
    MUTE = "black hole from the worker to Redis"
    HALF_CLOSE = "half-closed by Redis"
    HALF_CLOSE_WORKER = "half-closed by the worker"
    HANG_UP = "a third of the clients hang up"


SECONDS: dict[Kind, tuple[float, float]] = {
    Kind.RESTART: (0.2, 4),
    Kind.WIPE: (0.2, 4),
    Kind.ROLL_BACK: (0.2, 4),
    Kind.FREEZE: (1, 8),
    Kind.PAUSE: (1, 7),
    Kind.DELAY: (3, 6),
    Kind.REFUSE: (0.5, 4),
    Kind.BLACK_HOLE: (5.5, 8),
    Kind.DEAF: (5.5, 8),
    Kind.MUTE: (5.5, 8),
}
"""How long a fault lasts, at least and at most; one that is not here is over at once. A beacon's deadline is 5 s."""

LOSSES = frozenset({Kind.RESTART, Kind.WIPE, Kind.ROLL_BACK})
"""After which clients are told of a loss: a Redis that starts does not know what it lacks, so each start is one."""
ONE_WORKER = frozenset({Kind.KILL, Kind.DRAIN})
"""What happens to one worker at a time."""
NETWORK = frozenset(
    {
        Kind.DELAY,
        Kind.CUT,
        Kind.REFUSE,
        Kind.BLACK_HOLE,
        Kind.DEAF,
        Kind.MUTE,
        Kind.HALF_CLOSE,
        Kind.HALF_CLOSE_WORKER,
    }
)
"""What happens between Redis and one worker, or all of them."""

DELAYS_S = (0.05, 0.3)
"""How long each piece of a stream is held back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        kind: What goes wrong.
        workers: The numbers of the workers that it concerns.
        seconds: How long it lasts.
        delay_s: How long each piece is held back, if that is the fault.
        pause_s: Seconds before it.
    """

    kind: Kind
    workers: tuple[int, ...]
    seconds: float
    delay_s: float
    pause_s: float

    def __str__(self) -> str:
        text = self.kind.value
        if self.kind is Kind.DELAY:
            text += f" of {self.delay_s:.2f} s"
        if self.seconds:
            text += f" for {self.seconds:.1f} s"
        if self.workers:
            text += f" (worker {', '.join(map(str, self.workers))})"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run.

    Args:
        seed: What the faults and the ways of the clients come from.
        publications: How many there are at least in all; it goes on as long as there are faults to come.
        faults: How many faults.
        kinds: Which.
        workers: Processes that serve.
        clients: WebSocket connections; each hears one channel or two.
        channels: Channels; each has one publisher.
        rate: Publications a second in all, where nothing is in the way.
        pause: Seconds at most from a recovery to the next fault; a quarter of it at least.
        history: Publications that a channel keeps.
    """

    seed: int = 1
    publications: int = 200_000
    faults: int = 36
    kinds: Sequence[Kind] = field(default=tuple(Kind))
    workers: int = 2
    clients: int = 60
    channels: int = 8
    rate: float = 480
    pause: float = 10.0
    history: int = 5_000

    def __post_init__(self) -> None:
        if self.workers < 1 or self.clients < 1 or self.channels < 1 or self.rate <= 0:
            raise ValueError("there is at least one worker, one client and one channel, and a rate above 0")

    def schedule(self) -> list[Fault]:
        """Return the faults, the same for the same plan: every kind once before one of them comes again."""
        chance = random.Random(self.seed)
        kinds = _dealt(self.kinds, chance)
        return [self._fault(next(kinds), chance) for _ in range(self.faults)]

    def _fault(self, kind: Kind, chance: random.Random) -> Fault:
        one, everyone = (chance.randrange(self.workers),), tuple(range(self.workers))
        workers: tuple[int, ...] = ()
        if kind in ONE_WORKER:
            workers = one
        elif kind in NETWORK:
            workers = chance.choice([one, everyone])
        seconds = round(chance.uniform(*SECONDS.get(kind, (0, 0))), 1)
        delay_s = round(chance.uniform(*DELAYS_S), 2)
        pause_s = round(chance.uniform(self.pause / 4, self.pause), 1)
        return Fault(kind, workers, seconds, delay_s, pause_s)


def _dealt(kinds: Sequence[Kind], chance: random.Random) -> Iterator[Kind]:
    while True:
        yield from chance.sample(kinds, len(kinds))
