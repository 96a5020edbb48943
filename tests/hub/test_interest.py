"""Which channels a hub hears: every order in which joins, leaves and the broker's answers can come."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.errors import BrokerUnavailable
from hubbub.hub import interest as module
from hubbub.hub.background import Background
from hubbub.hub.interest import Interest
from hubbub.interfaces import Broker

TURNS = 8
"""Turns of the loop in which everything comes to rest that waits for no answer."""


@pytest.fixture(autouse=True)
def _tries_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0)
    monkeypatch.setattr(module, "LAST_RETRY_S", 0)


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class ParkingBroker:
    """Its calls wait until the test answers them."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self.subscribed: set[str] = set()
        self.log: list[tuple[str, str]] = []

    async def subscribe(self, channel: str) -> None:
        await self._parked("subscribe", channel)
        self.subscribed.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self._parked("unsubscribe", channel)
        self.subscribed.discard(channel)

    async def _parked(self, kind: str, channel: str) -> None:
        assert channel not in self.calls, "two calls for one channel at a time"
        assert (channel in self.subscribed) == (kind == "unsubscribe"), f"{kind} without a need"
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls[channel] = kind, answer
        self.log.append((kind, channel))
        try:
            await answer
        finally:
            del self.calls[channel]

    def answer(self, channel: str, *, fails: bool = False) -> bool:
        """Answer the call for a channel, if there is one that can be answered so; return whether there is."""
        kind, answer = self.calls.get(channel, ("", None))
        if answer is None or answer.done() or (fails and kind == "unsubscribe"):
            return False
        if fails:
            answer.set_exception(BrokerUnavailable("away"))
        else:
            answer.set_result(None)
        return True


class Stage:
    """One hub's interest, and the joins that wait for it."""

    def __init__(self) -> None:
        self.broker = ParkingBroker()
        self.background = Background()
        self.interest = Interest(cast(Broker, self.broker), self.background, self.late)
        self.wanted: dict[str, list[asyncio.Task[None]]] = {}
        self.joins: list[asyncio.Task[None]] = []
        self.unready: set[str] = set()
        """Channels that somebody hears who was told that they are not subscribed."""

    def late(self, channel: str) -> None:
        assert channel in self.wanted
        assert channel in self.broker.subscribed
        self.unready.discard(channel)

    def toggle(self, channel: str) -> bool:
        """The first connection joins, or the last one leaves."""
        if channel in self.wanted:
            del self.wanted[channel]
            self.unready.discard(channel)
            self.interest.release(channel)
        else:
            self.wanted[channel] = []
            self.interest.want(channel)
            self.join(channel)
        return True

    def join(self, channel: str) -> bool:
        """One more connection waits until the channel is heard."""
        if channel not in self.wanted:
            return False
        task = asyncio.ensure_future(self._ready(channel, self.wanted[channel]))
        self.wanted[channel].append(task)
        self.joins.append(task)
        return True

    async def _ready(self, channel: str, period: list[asyncio.Task[None]]) -> None:
        try:
            await self.interest.ready(channel)
        except BrokerUnavailable:
            if self.wanted.get(channel) is period and channel not in self.broker.subscribed:
                self.unready.add(channel)
            return
        if channel in self.wanted:
            assert channel in self.broker.subscribed
            assert channel not in self.broker.calls
            assert self.interest.hears(channel)

    def cancel(self, channel: str) -> bool:
        """One that waits gives up."""
        waiting = [task for task in self.wanted.get(channel, ()) if not task.done()]
        return bool(waiting) and waiting[-1].cancel()

    def succeed(self, channel: str) -> bool:
        return self.broker.answer(channel)

    def fail(self, channel: str) -> bool:
        return self.broker.answer(channel, fails=True)

    async def rest(self) -> None:
        """Answer everything, and hold what has come of it against what is wanted."""
        for _ in range(6):
            await turns()
            for channel in tuple(self.broker.calls):
                self.broker.answer(channel)
        assert not self.broker.calls
        assert self.broker.subscribed == set(self.wanted)
        assert len(self.interest) == len(self.wanted)
        assert all(self.interest.hears(channel) for channel in self.wanted)
        assert all(task.done() for task in self.joins), "somebody waits for ever"
        for task in self.joins:
            if not task.cancelled():
                task.result()
        assert not self.unready, "nobody was told that something may be missing"
        assert not self.interest._waiting
        await self.background.aclose()


Step = tuple[str, str]


async def play(steps: Sequence[Step]) -> bool:
    """Play a schedule; return whether every step of it has done something."""
    stage = Stage()
    for name, channel in steps:
        if name in ("tick", "turns"):
            await turns(1 if name == "tick" else TURNS)
        elif not getattr(stage, name)(channel):
            await stage.rest()
            return False
    await stage.rest()
    return True


async def explore(steps: Sequence[Step], length: int) -> int:
    """Play all schedules up to a length in which every step does something; return how many there are."""
    schedules: list[tuple[Step, ...]] = [(("toggle", "a"),)]
    played = 0
    while schedules:
        schedule = schedules.pop()
        if await play(schedule):
            played += 1
            if len(schedule) < length:
                schedules += [(*schedule, step) for step in steps]
    return played


async def test_the_race_of_last_leave_and_first_join_in_every_interleaving() -> None:
    """No subscriber is ever deaf, and no broker subscription is left behind."""
    assert await explore([(name, "a") for name in ("toggle", "succeed", "fail", "tick", "turns")], 8) > 5_000


async def test_more_joins_and_some_that_give_up_in_every_interleaving() -> None:
    names = ("toggle", "succeed", "fail", "turns", "join", "cancel")
    assert await explore([(name, "a") for name in names], 6) > 1_000


async def test_two_channels_in_every_interleaving() -> None:
    steps = [(name, channel) for name in ("toggle", "succeed", "fail") for channel in "ab"]
    assert await explore([*steps, ("turns", "")], 6) > 1_000


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["toggle", "succeed", "fail", "tick", "tick", "turns", "join", "cancel"]),
            st.sampled_from("ab"),
        ),
        max_size=60,
    )
)
def test_long_schedules(steps: list[Step]) -> None:
    async def run() -> None:
        stage = Stage()
        for name, channel in steps:
            if name in ("tick", "turns"):
                await turns(1 if name == "tick" else TURNS)
            else:
                getattr(stage, name)(channel)
        await stage.rest()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIRST_RETRY_S", 0)
        patch.setattr(module, "LAST_RETRY_S", 0)
        asyncio.run(run())


async def test_what_is_wanted_again_during_the_last_leave_is_subscribed_after_it() -> None:
    stage = Stage()
    stage.toggle("a")
    await turns()
    stage.succeed("a")
    await turns()
    stage.toggle("a")
    await turns()
    stage.toggle("a")
    await turns()
    assert not stage.interest.hears("a")
    assert not stage.joins[-1].done()
    stage.succeed("a")
    await turns()
    stage.succeed("a")
    await turns()
    assert stage.joins[-1].done()
    assert stage.broker.log == [("subscribe", "a"), ("unsubscribe", "a"), ("subscribe", "a")]
    await stage.rest()


async def test_what_is_released_before_its_subscription_has_begun_is_never_subscribed() -> None:
    stage = Stage()
    stage.toggle("a")
    stage.toggle("a")
    await stage.rest()
    assert stage.broker.log == []


async def test_a_failure_is_told_to_those_who_wait_and_it_is_tried_again() -> None:
    stage = Stage()
    stage.toggle("a")
    for _ in range(5):
        await turns()
        ready = asyncio.ensure_future(stage.interest.ready("a"))
        await turns()
        assert stage.fail("a")
        with pytest.raises(BrokerUnavailable, match="away"):
            await ready
    await stage.rest()
    assert stage.broker.log == [("subscribe", "a")] * 6


async def test_the_end_of_the_hub_lets_nobody_wait_for_ever() -> None:
    stage = Stage()
    stage.toggle("a")
    await turns()
    ready = asyncio.ensure_future(stage.interest.ready("a"))
    await turns()
    await stage.background.aclose()
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(ready, 5)
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(stage.interest.ready("a"), 5)


async def test_a_fault_of_the_broker_lets_nobody_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.toggle("a")
    await turns()
    ready = asyncio.ensure_future(stage.interest.ready("a"))
    await turns()
    stage.broker.calls["a"][1].set_exception(KeyError("a bug"))
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(ready, 5)
    assert [record.message for record in caplog.records] == ["a task of the hub has failed"]


async def test_ready_of_what_nobody_wants_returns_at_once() -> None:
    stage = Stage()
    await asyncio.wait_for(stage.interest.ready("a"), 5)
    assert len(stage.interest) == 0


async def test_many_channels_leave_nothing_behind() -> None:
    stage = Stage()
    for number in range(1_000):
        stage.toggle(f"c{number}")
    await turns()
    for number in range(1_000):
        stage.succeed(f"c{number}")
    await turns()
    assert len(stage.interest) == 1_000
    for number in range(1_000):
        stage.toggle(f"c{number}")
    await stage.rest()
    state: dict[str, Any] = vars(stage.interest)
    assert [name for name, value in state.items() if isinstance(value, (set, dict)) and value] == []
