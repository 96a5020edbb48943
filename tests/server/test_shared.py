"""The one timer of all deadlines, and the drain in batches, on a time that the test moves."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from hubbub.config import Drain, Heartbeat
from hubbub.interfaces import TransportSettings
from hubbub.server.shared import TICK_S, Shared, shared_by
from tests.server.standins import Loop, no_application, shared_on


class Item:
    """What can be due, and what it does then."""

    def __init__(self, when_due: Callable[[], object] = lambda: None) -> None:
        self.due_at: list[float] = []
        self.slot = 0
        self.when_due = when_due

    def due(self, now: float) -> None:
        self.due_at.append(now)
        self.when_due()


class Connection:
    """An open connection that notes when its turn has come."""

    def __init__(self, loop: Loop, drain: Drain) -> None:
        self.settings = TransportSettings(drain=drain)
        self.drained_at: list[float] = []
        self._loop = loop

    def drain(self) -> None:
        self.drained_at.append(self._loop.now)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def shared(loop: Loop) -> Shared:
    return shared_on(loop, ServerState())


# Deadlines


def test_an_item_is_due_once_and_not_much_later_than_asked_for(loop: Loop, shared: Shared) -> None:
    item = Item()
    shared.call_due(item, shared.now() + 1.1)
    loop.advance(1.0)
    assert item.due_at == []
    loop.advance(100)
    (when,) = item.due_at
    assert 1001.1 <= when <= 1001.1 + TICK_S


def test_a_thousand_deadlines_need_one_timer(loop: Loop, shared: Shared) -> None:
    items = [Item() for _ in range(1_000)]
    for number, item in enumerate(items):
        shared.call_due(item, shared.now() + 20 + number / 100)
    assert len(loop.due) == 1
    loop.advance(31)
    assert all(item.due_at for item in items)


def test_the_timer_moves_to_an_earlier_deadline(loop: Loop, shared: Shared) -> None:
    late, early = Item(), Item()
    shared.call_due(late, shared.now() + 20)
    shared.call_due(early, shared.now() + 5)
    loop.advance(6)
    assert (early.due_at, late.due_at) == ([1005.0], [])
    loop.advance(20)
    assert late.due_at == [1020.0]


def test_what_was_forgotten_is_not_due_and_leaves_no_timer(loop: Loop, shared: Shared) -> None:
    item = Item()
    shared.forget(item, shared.call_due(item, shared.now() + 1))
    loop.advance(2)
    assert (item.due_at, loop.due) == ([], [])


def test_an_item_can_wait_anew_when_it_is_due(loop: Loop, shared: Shared) -> None:
    item = Item(lambda: shared.call_due(item, shared.now() + 10))
    shared.call_due(item, shared.now() + 10)
    loop.advance(45)
    assert item.due_at == [1010.0, 1020.0, 1030.0, 1040.0]
    assert len(loop.due) == 1


def test_one_that_is_due_can_call_off_another_that_is_due_at_the_same_time(loop: Loop, shared: Shared) -> None:
    def call_off(other: Item) -> None:
        shared.forget(other, other.slot)

    first, second = Item(), Item()
    first.when_due, second.when_due = lambda: call_off(second), lambda: call_off(first)
    for item in (first, second):
        item.slot = shared.call_due(item, shared.now() + 1)
    loop.advance(2)
    assert len(first.due_at) + len(second.due_at) == 1


def test_one_that_is_due_can_give_another_one_a_later_time(loop: Loop, shared: Shared) -> None:
    def postpone(other: Item) -> None:
        if not other.due_at:
            shared.forget(other, other.slot)
            other.slot = shared.call_due(other, shared.now() + 5)

    first, second = Item(), Item()
    first.when_due, second.when_due = lambda: postpone(second), lambda: postpone(first)
    for item in (first, second):
        item.slot = shared.call_due(item, shared.now() + 1)
    loop.advance(10)
    assert sorted(first.due_at + second.due_at) == [1001.0, 1006.0]


def test_a_fault_in_one_item_does_not_forget_the_others(loop: Loop, shared: Shared) -> None:
    def fail() -> None:
        raise RuntimeError("a fault")

    items = [Item(fail) for _ in range(3)]
    for item in items:
        shared.call_due(item, shared.now() + 1)
    for _ in items:
        with pytest.raises(RuntimeError, match="a fault"):
            loop.advance(2)
    assert all(len(item.due_at) == 1 for item in items)
    assert loop.due == []


def test_a_deadline_that_has_passed_is_due_at_once_with_all_that_are(loop: Loop, shared: Shared) -> None:
    items = [Item(), Item(), Item()]
    for item in items:
        shared.call_due(item, shared.now() - 5)
    loop.advance(TICK_S)
    assert [len(item.due_at) for item in items] == [1, 1, 1]


def test_a_timer_that_comes_too_early_looks_again_at_the_right_time(loop: Loop, shared: Shared) -> None:
    first, second = Item(), Item()
    shared.call_due(first, shared.now() + 1)
    shared._expire()
    shared.call_due(second, shared.now() + 2)
    loop.advance(3)
    assert (first.due_at, second.due_at) == ([1001.0], [1002.0])


# The drain


def open_connections(loop: Loop, shared: Shared, count: int, **drain: Any) -> list[Connection]:
    connections = [Connection(loop, Drain(**drain)) for _ in range(count)]
    shared.open.update(dict.fromkeys(connections))
    return connections


def test_a_drain_of_nobody_only_says_that_the_server_stops(loop: Loop, shared: Shared) -> None:
    shared.begin_drain()
    assert (shared.is_draining, loop.due) == (True, [])


@pytest.mark.parametrize(
    ("count", "batch", "window_s", "times"),
    [
        (1, 500, 5, [0]),
        (4, 4, 5, [0]),
        (5, 4, 5, [0, 2.5]),
        (10, 2, 5, [0, 1, 2, 3, 4]),
        (9, 3, 6, [0, 2, 4]),
    ],
)
def test_batches_are_spread_over_the_window_the_first_at_once(
    loop: Loop, shared: Shared, count: int, batch: int, window_s: float, times: list[float]
) -> None:
    connections = open_connections(loop, shared, count, batch=batch, window_s=window_s)
    shared.begin_drain()
    loop.advance(60)
    expected = [1000 + times[number // batch] for number in range(count)]
    assert [connection.drained_at for connection in connections] == [[pytest.approx(when)] for when in expected]


def test_connections_with_other_settings_are_drained_by_theirs(loop: Loop, shared: Shared) -> None:
    quick = open_connections(loop, shared, 3, batch=500, window_s=5)
    slow = open_connections(loop, shared, 2, batch=1, window_s=10)
    shared.begin_drain()
    loop.advance(20)
    assert [connection.drained_at for connection in quick] == [[1000.0]] * 3
    assert [connection.drained_at for connection in slow] == [[1000.0], [1005.0]]


def test_a_drain_begins_once_however_often_uvicorn_asks_for_it(loop: Loop, shared: Shared) -> None:
    connections = open_connections(loop, shared, 4, batch=2, window_s=2)
    for _ in connections:
        shared.begin_drain()
    loop.advance(0.5)
    assert [len(connection.drained_at) for connection in connections] == [1, 1, 0, 0]
    loop.advance(60)
    assert [len(connection.drained_at) for connection in connections] == [1, 1, 1, 1]


@pytest.mark.parametrize(("grace_s", "last_s"), [(10, 3.75), (3, 1.5), (1, 0), (0, 0)])
def test_the_window_ends_a_second_before_uvicorn_cancels_what_still_runs(
    loop: Loop, grace_s: int, last_s: float
) -> None:
    shared = shared_on(loop, ServerState(), timeout_graceful_shutdown=grace_s)
    connections = open_connections(loop, shared, 8, batch=2, window_s=5)
    shared.begin_drain()
    loop.advance(60)
    assert connections[-1].drained_at == [pytest.approx(1000 + last_s)]


# What holds where there is no hub


@pytest.mark.parametrize(
    ("options", "heartbeat"),
    [
        ({}, Heartbeat(interval_s=20, timeout_s=20)),
        ({"ws_ping_interval": 7.0, "ws_ping_timeout": 3.0}, Heartbeat(interval_s=7, timeout_s=3)),
        ({"ws_ping_interval": None}, Heartbeat(interval_s=None, timeout_s=20)),
        ({"ws_ping_interval": 0}, Heartbeat(interval_s=None, timeout_s=20)),
    ],
)
def test_the_heartbeat_is_that_of_uvicorns_options(loop: Loop, options: dict[str, Any], heartbeat: Heartbeat) -> None:
    assert shared_on(loop, ServerState(), **options).settings.heartbeat == heartbeat


def test_without_a_timeout_pings_are_sent_but_nobody_is_ended(loop: Loop) -> None:
    heartbeat = shared_on(loop, ServerState(), ws_ping_interval=5, ws_ping_timeout=None).settings.heartbeat
    assert heartbeat.interval_s == 5
    assert heartbeat.timeout_s > 365 * 86_400


def test_the_size_of_a_message_is_bounded_by_uvicorns_option_and_so_are_its_fragments(loop: Loop) -> None:
    small = shared_on(loop, ServerState(), ws_max_size=1_000).settings
    assert (small.message_bytes, small.message_fragments) == (1_000, 4_096)
    large = shared_on(loop, ServerState(), ws_max_size=64_000_000).settings
    assert (large.message_bytes, large.message_fragments) == (64_000_000, 1_000_000)


def test_each_server_has_its_own_and_keeps_it_as_long_as_it_lives() -> None:
    loop = cast(asyncio.AbstractEventLoop, Loop())
    config = uvicorn.Config(no_application, log_config=None)
    first, second = ServerState(), ServerState()
    shared = shared_by(first, config, loop)
    assert shared_by(first, config, loop) is shared
    assert shared_by(second, config, loop) is not shared
    assert shared.connections is first.connections
    gone = weakref.ref(shared)
    del first, shared
    gc.collect()
    assert gone() is None
