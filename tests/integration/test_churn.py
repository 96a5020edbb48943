"""Promise 7: after a connection ends, however it ends, nothing of it remains.

Clients come and go in every way, many at a time. Afterwards the hub is empty, the process has the tasks and the open
files that it had before, and nobody holds a connection any more.
"""

import asyncio
import gc
import itertools
import logging
import os
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest

from tests.integration.clients import CLOSE, TEXT, Close, RawClient, masked_frame, refusal, request
from tests.integration.deadline import eventually, within
from tests.integration.modules import load
from tests.integration.servers import NATIVE, serving

AT_ONCE = 50
SMALL_BUFFER = 8_192

# uvicorn says so of this class, and `websockets` of what it is built on.
DEPRECATED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `websockets` implementation is")

NUMBERS = itertools.count()
DELAYS = itertools.cycle((0, 0.01, 0.02))

Way = Callable[[ModuleType, int], Awaitable[None]]


async def member(port: int, path: str) -> RawClient:
    """Connect and wait until the endpoint has begun."""
    client = await RawClient.connect(port, path, receive_buffer=SMALL_BUFFER)
    assert await client.receive_frame() == (TEXT, b"ready")
    return client


# The client ends it


async def closes_properly(application: ModuleType, port: int) -> None:
    client = await member(port, "/receives")
    await client.send_frame(CLOSE, struct.pack("!H", 4001))
    assert await client.receive_close() == Close(4001, "")
    client.hang_up()


async def hangs_up(application: ModuleType, port: int) -> None:
    (await member(port, "/receives")).hang_up()


async def vanishes(application: ModuleType, port: int) -> None:
    (await member(port, "/receives")).vanish()


async def vanishes_although_nobody_receives(application: ModuleType, port: int) -> None:
    (await member(port, "/never-receives")).vanish()


async def vanishes_from_a_manager_that_is_not_told(application: ModuleType, port: int) -> None:
    (await member(port, "/forgets")).vanish()


async def vanishes_amid_a_stream(application: ModuleType, port: int) -> None:
    (await member(port, "/pushes")).vanish()


async def vanishes_after_more_than_anybody_reads(application: ModuleType, port: int) -> None:
    client = await member(port, "/pushes")
    await client.send_bytes(masked_frame(TEXT, b"nobody reads this") * 100)
    for _ in range(10):  # until the hub has read as much as it takes
        await client.receive_frame()
    client.vanish()


async def vanishes_amid_the_request(application: ModuleType, port: int) -> None:
    client = await RawClient.dial(port)
    await client.send_bytes(request("/receives")[:50])
    client.vanish()


async def vanishes_after_the_request(application: ModuleType, port: int) -> None:
    client = await RawClient.dial(port)
    await client.send_request("/receives")
    client.vanish()


async def vanishes_before_the_endpoint_accepts(application: ModuleType, port: int) -> None:
    name = str(next(NUMBERS))
    client = await RawClient.dial(port)
    await client.send_request(f"/hesitates/{name}")
    await within(application.hesitating[name].wait())
    client.vanish()
    # For some the endpoint accepts before the server has noticed, for some after.
    asyncio.get_running_loop().call_later(next(DELAYS), application.decided[name].set)


# The server ends it


def ends(path: str, close: Close) -> Way:
    async def is_ended(application: ModuleType, port: int) -> None:
        client = await member(port, path)
        assert await client.receive_close() == close
        client.hang_up()

    return is_ended


async def is_refused(application: ModuleType, port: int) -> None:
    client = await RawClient.dial(port)
    await client.send_request("/denies")
    await client.receive_end()
    client.hang_up()


async def is_closed_while_it_vanishes(application: ModuleType, port: int) -> None:
    (await member(port, "/closes")).vanish()


async def is_too_slow(application: ModuleType, port: int) -> None:
    client = await RawClient.connect(port, "/streams", receive_buffer=SMALL_BUFFER)
    slow = application.hub.statistics().closed.get(3008, 0)
    await eventually(lambda: application.hub.statistics().closed.get(3008, 0) > slow)
    client.vanish()


WAYS: tuple[Way, ...] = (
    closes_properly,
    hangs_up,
    vanishes,
    vanishes_although_nobody_receives,
    vanishes_from_a_manager_that_is_not_told,
    vanishes_amid_a_stream,
    vanishes_after_more_than_anybody_reads,
    vanishes_amid_the_request,
    vanishes_after_the_request,
    vanishes_before_the_endpoint_accepts,
    ends("/returns", Close(1000, "")),
    ends("/raises", Close(1011, "")),
    ends("/cancelled", Close(1006, "")),
    ends("/closes", Close(4000, "enough")),
    is_refused,
    is_closed_while_it_vanishes,
    is_too_slow,
)


@pytest.mark.parametrize(
    ("ws", "count"),
    [
        (NATIVE, 1_000),
        ("websockets-sansio", 1_000),
        pytest.param("websockets", 200, marks=DEPRECATED),
        ("wsproto", 200),
    ],
)
async def test_nothing_is_left_behind(ws: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the endpoints raise on purpose would be kept, for the report, with the frames that raised it.
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", True)
    application = load("churn")
    async with serving(application.app, ws=ws, send_buffer=SMALL_BUFFER) as port:
        tasks, files = asyncio.all_tasks(), open_files()
        ways = itertools.islice(itertools.cycle(WAYS), count)
        while batch := list(itertools.islice(ways, AT_ONCE)):
            await asyncio.gather(*(way(application, port) for way in batch))

        await nothing_is_left(application, tasks, files)
        await every_place_can_be_taken(application, port)
        await nothing_is_left(application, tasks, files)
        await drop_cancelled_timers()
        gc.collect()
        assert list(application.seen) == []


async def nothing_is_left(application: ModuleType, tasks: set[asyncio.Task[Any]], files: set[str]) -> None:
    await eventually(lambda: asyncio.all_tasks() <= tasks, lambda: asyncio.all_tasks() - tasks)
    await eventually(lambda: open_files() == files, lambda: open_files() ^ files)
    for hub in (application.hub, application.manager.hub):
        statistics = hub.statistics()
        assert (statistics.connections, statistics.users, statistics.channels, statistics.queued_bytes) == (0, 0, 0, 0)
        assert sum(statistics.closed.values()) == statistics.accepted > 0


def open_files() -> set[str]:
    """Return the descriptors that this process has open, with what each is."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}")
    return found


async def every_place_can_be_taken(application: ModuleType, port: int) -> None:
    """Connect as many as may be connected at a time, and one more: a place that was not given back would be missed."""
    for path in ("/receives", "/forgets"):
        clients = [await member(port, path) for _ in range(application.PLACES)]
        assert (await refusal(port, path)).status_code == 503
        for client in clients:
            client.vanish()


async def drop_cancelled_timers() -> None:
    """Cancel so many timers that asyncio clears them all away.

    Until they are the most, it keeps cancelled ones, such as uvicorn's for the next ping, and with each its context.
    """
    loop = asyncio.get_running_loop()
    for _ in range(1_000):
        loop.call_later(3_600, gc.collect).cancel()
    await asyncio.sleep(0)
