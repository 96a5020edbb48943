"""Who of a hub's connections is in which channel: leases, the grace period, and who has come and gone."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import pytest

from hubbub.brokers.memory import MemoryPresenceStore
from hubbub.config import Presence
from hubbub.errors import BrokerUnavailable
from hubbub.hub.background import Background
from hubbub.hub.presence import Attendance
from hubbub.interfaces import Departure, Entered, PresenceEntry
from hubbub.testing import ManualClock
from tests.hub.shared_store import turns

SETTINGS = Presence(grace_s=5, lease_s=30)


class FailingStore(MemoryPresenceStore):
    """A store that can be away, and whose answers can be held back."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.refreshed: list[float] = []

    async def _answer(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("away")
        await self.is_open.wait()

    async def enter(self, channel: str, entry: PresenceEntry, lease_s: float) -> Entered:
        entered = None if self.is_away else await super().enter(channel, entry, lease_s)
        await self._answer()
        assert entered is not None
        return entered

    async def leave(self, channel: str, connection: str) -> Departure | None:
        departure = None if self.is_away else await super().leave(channel, connection)
        await self._answer()
        return departure

    async def refresh(self, entries: Mapping[str, Collection[PresenceEntry]], lease_s: float) -> Sequence[Departure]:
        self.refreshed.append(self._clock.time())
        departures = [] if self.is_away else await super().refresh(entries, lease_s)
        await self._answer()
        return departures


class Worker:
    """One hub's attendance, and what it has told."""

    def __init__(self, store: MemoryPresenceStore, clock: ManualClock) -> None:
        self.background = Background()
        self.told: list[str] = []
        self.attendance = Attendance(
            store,
            clock,
            self.background,
            lambda channel, user: self.told.append(f"{user} came to {channel}"),
            lambda channel, user: self.told.append(f"{user} went from {channel}"),
        )

    async def enter(
        self, connection: str, user: str | None = "ann", channel: str = "room", settings: Presence = SETTINGS
    ) -> int:
        return await self.attendance.enter(channel, PresenceEntry(connection, user, None, 0.0), settings)

    async def leave(self, connection: str, channel: str = "room", *, at_once: bool = False) -> None:
        self.attendance.leave(channel, connection, at_once=at_once)
        await turns(5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
async def store(clock: ManualClock) -> FailingStore:
    return FailingStore(clock)


@pytest.fixture
async def worker(store: FailingStore, clock: ManualClock) -> AsyncIterator[Worker]:
    worker = Worker(store, clock)
    yield worker
    await worker.background.aclose()


async def passed(clock: ManualClock, seconds: float, step_s: float = 1.0) -> None:
    """Let time pass, and what is due be done at its time."""
    while seconds > 0:
        clock.advance(min(step_s, seconds))
        seconds -= step_s
        await turns(5)


async def present(store: FailingStore, channel: str = "room") -> list[str]:
    return sorted(entry.connection for entry in await store.members(channel))


CAME, WENT = "ann came to room", "ann went from room"


async def test_a_user_comes_once_and_goes_after_the_grace_period(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    assert await worker.enter("c1") == 1
    assert worker.told == [CAME]
    await worker.leave("c1")
    await passed(clock, 4.9)
    assert (worker.told, await present(store)) == ([CAME], ["c1"])
    await passed(clock, 0.2)
    assert (worker.told, await present(store)) == ([CAME, WENT], [])


async def test_a_user_that_comes_back_within_the_grace_period_has_not_left(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1")
    await worker.leave("c1")
    await passed(clock, 4)
    await worker.enter("c2")
    await passed(clock, 100)
    assert (worker.told, await present(store)) == ([CAME], ["c2"])


async def test_three_tabs_are_one_user(worker: Worker, store: FailingStore, clock: ManualClock) -> None:
    assert [await worker.enter(f"c{number}") for number in range(3)] == [1, 2, 3]
    for number in range(3):
        assert worker.told == [CAME]
        await worker.leave(f"c{number}")
        await passed(clock, 6)
    assert (worker.told, await present(store)) == ([CAME, WENT], [])


async def test_whoever_leaves_by_itself_goes_at_once(worker: Worker, store: FailingStore) -> None:
    await worker.enter("c1")
    await worker.leave("c1", at_once=True)
    assert (worker.told, await present(store)) == ([CAME, WENT], [])


async def test_nobody_in_particular_comes_and_goes_unseen(worker: Worker, store: FailingStore) -> None:
    await worker.enter("c1", None)
    assert await store.count("room") == (1, 0)
    await worker.leave("c1")
    assert await store.count("room") == (0, 0)
    assert worker.told == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_one_that_is_not_there_can_leave(worker: Worker, at_once: bool) -> None:
    await worker.leave("c1", at_once=at_once)
    await worker.enter("c1")
    await worker.leave("c2", at_once=at_once)
    await worker.leave("c1", "other", at_once=at_once)
    assert worker.told == [CAME]


async def test_leaving_twice_is_leaving_once(worker: Worker, clock: ManualClock) -> None:
    await worker.enter("c1")
    for _ in range(3):
        await worker.leave("c1")
        await passed(clock, 1)
    await passed(clock, 10)
    assert worker.told == [CAME, WENT]


async def test_a_connection_that_joins_again_right_after_it_left_is_there(worker: Worker, store: FailingStore) -> None:
    await worker.enter("c1")
    worker.attendance.leave("room", "c1", at_once=True)
    await worker.enter("c1")
    await turns()
    assert await present(store) == ["c1"]
    assert worker.told in ([CAME], [CAME, WENT, CAME])


async def test_a_connection_that_joins_again_within_the_grace_period_stays(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1")
    await worker.leave("c1")
    await worker.enter("c1")
    await passed(clock, 100)
    assert (worker.told, await present(store)) == ([CAME], ["c1"])


# Leases


async def test_leases_are_renewed_for_as_long_as_somebody_is_there(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1")
    await passed(clock, 300)
    assert await present(store) == ["c1"]
    assert [later - sooner for sooner, later in zip(store.refreshed, store.refreshed[1:], strict=False)] == [10] * 29
    await worker.leave("c1", at_once=True)
    count = len(store.refreshed)
    await passed(clock, 300)
    assert len(store.refreshed) == count


async def test_a_short_lease_beside_a_long_one_is_renewed_in_time(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1", channel="long", settings=Presence(lease_s=300))
    await passed(clock, 10)
    await worker.enter("c2", settings=Presence(lease_s=3))
    for _ in range(30):
        await passed(clock, 0.5)
        assert await present(store) == ["c2"]
        assert await present(store, "long") == ["c1"]


async def test_renewal_brings_back_what_the_store_has_lost(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1")
    await worker.enter("c2", "bob")
    await store.aclose()
    await passed(clock, 10)
    assert await present(store) == ["c1", "c2"]


async def test_renewal_brings_nobody_back_who_has_left(worker: Worker, store: FailingStore, clock: ManualClock) -> None:
    await worker.enter("c1")
    await worker.enter("c2", "bob")
    clock.advance(10)  # the renewal begins in one of the next turns
    worker.attendance.leave("room", "c1", at_once=True)
    await turns()
    assert await present(store) == ["c2"]


async def test_a_user_of_a_worker_that_died_is_told_to_have_gone_once(store: FailingStore, clock: ManualClock) -> None:
    dead, first, second = (Worker(store, clock) for _ in range(3))
    await dead.enter("c1")
    await first.enter("c2", "bob")
    await second.enter("c3", "bob")
    await dead.background.aclose()
    dead.attendance._refresh.cancel()  # type: ignore[union-attr]
    await passed(clock, 60)
    assert await present(store) == ["c2", "c3"]
    assert (first.told + second.told).count(WENT) == 1
    for worker in (first, second):
        await worker.background.aclose()


# While it is under way


async def test_an_outage_beyond_the_lease_takes_nobody_out_who_is_there(
    store: FailingStore, clock: ManualClock
) -> None:
    dead, first, second = (Worker(store, clock) for _ in range(3))
    await dead.enter("c1")
    await first.enter("c2", "bob")
    await second.enter("c3", "cem")
    dead.attendance._refresh.cancel()  # type: ignore[union-attr]
    store.is_away = True
    await passed(clock, 60)
    store.is_away = False
    await passed(clock, 60)
    assert await present(store) == ["c2", "c3"]
    told = first.told + second.told
    assert sorted(told) == sorted([WENT, "bob came to room", "cem came to room"])
    for worker in (dead, first, second):
        await worker.background.aclose()


async def test_whoever_leaves_while_it_enters_is_not_there(worker: Worker, store: FailingStore) -> None:
    store.is_open.clear()
    entering = asyncio.ensure_future(worker.enter("c1"))
    await turns(5)
    worker.attendance.leave("room", "c1", at_once=True)
    await turns(5)
    store.is_open.set()
    await entering
    await turns(5)
    assert await present(store) == []
    assert worker.told in ([], [CAME, WENT])


async def test_whoever_leaves_before_the_store_has_its_entry_is_not_there(
    worker: Worker, store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = asyncio.Event()
    enter = store.enter

    async def late(channel: str, entry: PresenceEntry, lease_s: float) -> Entered:
        await begin.wait()
        return await enter(channel, entry, lease_s)

    monkeypatch.setattr(store, "enter", late)
    entering = asyncio.ensure_future(worker.enter("c1"))
    await turns(5)
    await worker.leave("c1", at_once=True)
    begin.set()
    await entering
    await turns(5)
    assert await present(store) == []
    assert worker.told in ([], [CAME, WENT])


# The store is away


async def test_whoever_enters_while_the_store_is_away_is_entered_later(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    store.is_away = True
    assert await worker.enter("c1") == 0
    await passed(clock, 20)
    store.is_away = False
    assert await present(store) == []
    await passed(clock, 10)
    assert await present(store) == ["c1"]


async def test_whoever_leaves_while_the_store_is_away_goes_with_the_lease(
    worker: Worker, store: FailingStore, clock: ManualClock
) -> None:
    await worker.enter("c1")
    await worker.enter("c2", "bob")
    store.is_away = True
    await worker.leave("c1", at_once=True)
    store.is_away = False
    await passed(clock, 40)
    assert await present(store) == ["c2"]
    assert worker.told == [CAME, "bob came to room", WENT]


async def test_the_end_while_the_store_is_away(worker: Worker, store: FailingStore, clock: ManualClock) -> None:
    await worker.enter("c1")
    store.is_away = True
    await worker.attendance.aclose()
    await passed(clock, 100)
    assert worker.told == [CAME]


# The end


async def test_the_users_of_a_worker_that_ends_have_the_grace_period(store: FailingStore, clock: ManualClock) -> None:
    ending, other = Worker(store, clock), Worker(store, clock)
    await ending.enter("c1")
    await ending.enter("c2", "bob")
    await ending.leave("c2")
    await other.enter("c3", "eve")
    await ending.attendance.aclose()
    await ending.leave("c1", at_once=True)
    assert await present(store) == ["c1", "c2", "c3"]
    await passed(clock, 4)
    await other.enter("c4")
    await passed(clock, 30)
    assert await present(store) == ["c3", "c4"]
    assert ending.told == [CAME, "bob came to room"]
    assert other.told == ["eve came to room", "bob went from room"]
    for worker in (ending, other):
        await worker.background.aclose()


async def test_nothing_stays_of_many_that_come_and_go(worker: Worker, store: FailingStore, clock: ManualClock) -> None:
    for number in range(1_000):
        await worker.enter(f"c{number}", f"user{number % 7}", f"room{number % 50}")
        worker.attendance.leave(f"room{number % 50}", f"c{number}", at_once=bool(number % 2))
    await passed(clock, 10)
    attendance = worker.attendance
    assert [attendance._entries, attendance._settings, attendance._leaving, attendance._refresh] == [{}, {}, {}, None]
    assert not store._rosters
    assert not worker.background._tasks
