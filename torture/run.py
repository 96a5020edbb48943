"""One run: publish, hear and fail, wait until all have everything, and say what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cluster import Cluster, running
from .faults import inflict, mend
from .peers import Client, Publisher
from .plan import LOSSES, Fault, Kind, Plan
from .verifier import Follower, Tally

RECOVERY_DEADLINE_S = 60.0
START_DEADLINE_S = 30.0
LOOK_S = 0.01

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of a fault: seconds until all clients had what was published after it, or `None`."""

    fault: Fault
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Args:
        published: Publications that were acknowledged.
        seconds: How long it has taken.
        tally: What the clients have seen.
        recoveries: The faults.
        connections: Connections of the clients.
        answers: What the publishers were answered beside acknowledgements.
        tracebacks: What the workers have printed.
    """

    published: int
    seconds: float
    tally: Tally
    recoveries: Sequence[Recovery]
    connections: int
    answers: Counter[str]
    tracebacks: Sequence[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost without a word, and everybody has recovered."""
        has_recovered = all(recovery.seconds is not None for recovery in self.recoveries)
        return self.tally.is_clean and has_recovered and not self.tracebacks


class Run:
    """One run of a plan on a cluster that runs.

    Args:
        plan: What to do.
        cluster: What it is done to.
        say: Told how it goes.
    """

    def __init__(self, plan: Plan, cluster: Cluster, say: Say) -> None:
        self._plan = plan
        self._cluster = cluster
        self._say = say
        self._tally = Tally()
        self._said = 0
        self._may_lose = False
        self._recoveries: list[Recovery] = []
        chance = random.Random(plan.seed)
        rooms = [str(number) for number in range(plan.channels)]
        self._clients = [self._client(number, rooms, chance) for number in range(plan.clients)]
        self._publishers = {room: self._publisher(room, chance) for room in rooms}
        self._hanging_up = random.Random(chance.random())

    def _client(self, number: int, rooms: Sequence[str], chance: random.Random) -> Client:
        heard = [rooms[number % len(rooms)]]  # so that each has somebody
        others = [room for room in rooms if room not in heard]
        if others and chance.random() < 0.5:
            heard.append(chance.choice(others))
        followers = {room: Follower(f"client {number} on room:{room}", self._tally) for room in heard}
        return Client(self._cluster.ports, followers, random.Random(chance.random()), lambda: self._may_lose)

    def _publisher(self, room: str, chance: random.Random) -> Publisher:
        interval_s = self._plan.channels / self._plan.rate
        return Publisher(self._cluster.ports, room, interval_s, random.Random(chance.random()))

    async def run(self) -> Outcome:
        """Do all of it."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client.run()) for client in self._clients]
            await self._until(START_DEADLINE_S, self._have_all_joined)
            publishers = [group.create_task(publisher.run()) for publisher in self._publishers.values()]
            await self._faults(since)
            await self._until(None, lambda: self._published >= self._plan.publications)
            for publisher in self._publishers.values():
                publisher.stop()
            await asyncio.wait(publishers)
            with contextlib.suppress(TimeoutError):  # what does not come is lost
                await self._until(RECOVERY_DEADLINE_S, self._have_all_everything)
            await asyncio.sleep(1)  # for what may come too often
            for task in clients:
                task.cancel()
        for client in self._clients:
            for room, follower in client.followers.items():
                follower.ends(self._publishers[room].acknowledged)
        return Outcome(
            published=self._published,
            seconds=loop.time() - since,
            tally=self._tally,
            recoveries=self._recoveries,
            connections=sum(client.connections for client in self._clients),
            answers=sum((publisher.answers for publisher in self._publishers.values()), Counter()),
            tracebacks=[text for worker in self._cluster.workers for text in worker.tracebacks],
        )

    async def _faults(self, since: float) -> None:
        loop = asyncio.get_running_loop()
        schedule = self._plan.schedule()
        for number, fault in enumerate(schedule, 1):
            await asyncio.sleep(fault.pause_s)
            begun = loop.time() - since
            seconds = await self._fault(fault)
            self._recoveries.append(Recovery(fault, seconds))
            came_to = f"recovered in {seconds:.2f} s" if seconds is not None else "NOT RECOVERED"
            self._say(
                f"{begun:6.1f} s  {number:3}/{len(schedule)}  {fault!s:62} {came_to:20} {self._published:9,} published"
            )
            self._say_what_is_wrong()

    def _say_what_is_wrong(self) -> None:
        for text in self._tally.complaints[self._said :]:
            self._say(f"  {text}")
        self._said = len(self._tally.complaints)

    async def _fault(self, fault: Fault) -> float | None:
        """Return the seconds from the end of a fault until all have what was published after it."""
        self._may_lose = fault.kind in LOSSES
        if fault.kind is Kind.HANG_UP or fault.kind in LOSSES:  # those who are away hear of a loss when they resume
            for client in self._hanging_up.sample(self._clients, max(1, len(self._clients) // 3)):
                client.hang_up()
        await inflict(fault, self._cluster)
        loop = asyncio.get_running_loop()
        end = loop.time()
        targets = {room: publisher.started + 1 for room, publisher in self._publishers.items()}
        mending = asyncio.create_task(mend(fault, self._cluster))
        try:
            await self._until(RECOVERY_DEADLINE_S, lambda: self._have_all(targets))
        except TimeoutError:
            return None
        finally:
            seconds = loop.time() - end
            await mending
            self._may_lose = False
        return seconds

    @property
    def _published(self) -> int:
        return sum(publisher.acknowledged for publisher in self._publishers.values())

    def _have_all(self, targets: dict[str, int]) -> bool:
        return all(publisher.acknowledged >= targets[room] for room, publisher in self._publishers.items()) and all(
            follower.number >= targets[room] for client in self._clients for room, follower in client.followers.items()
        )

    def _have_all_everything(self) -> bool:
        return self._have_all({room: publisher.acknowledged for room, publisher in self._publishers.items()})

    def _have_all_joined(self) -> bool:
        return all(follower.position for client in self._clients for follower in client.followers.values())

    async def _until(self, deadline_s: float | None, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(deadline_s):
            while not predicate():  # noqa: ASYNC110 - what is looked at are many objects, and time is measured
                await asyncio.sleep(LOOK_S)


async def torture(plan: Plan, say: Say) -> Outcome:
    """Run a plan."""
    async with running(plan) as cluster:
        return await Run(plan, cluster, say).run()
