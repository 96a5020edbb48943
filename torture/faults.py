"""How each fault is made and mended. Each of these returns when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tests.fault_proxy import FaultProxy, Way

from .cluster import Cluster
from .plan import Fault, Kind

AGE_S = 0.5
"""How old the data are that an older file has."""


async def inflict(fault: Fault, cluster: Cluster) -> None:
    """Let it happen; a worker that it has ended is started again by `mend`."""
    await _HOW[fault.kind](fault, cluster)


async def mend(fault: Fault, cluster: Cluster) -> None:
    """Start again what the fault has ended, while the rest of the world goes on."""
    if fault.kind in (Kind.KILL, Kind.DRAIN):
        for number in fault.workers:
            await cluster.workers[number].start()


async def _kill(fault: Fault, cluster: Cluster) -> None:
    for number in fault.workers:
        await cluster.workers[number].kill()


async def _drain(fault: Fault, cluster: Cluster) -> None:
    for number in fault.workers:
        await cluster.workers[number].terminate()


async def _restart(fault: Fault, cluster: Cluster) -> None:
    await cluster.kill_redis()
    if fault.kind is Kind.WIPE:
        cluster.delete_data()
    await asyncio.sleep(fault.seconds)
    await cluster.start_redis()


async def _roll_back(fault: Fault, cluster: Cluster) -> None:
    await cluster.copy_data()
    await asyncio.sleep(AGE_S)
    await cluster.kill_redis()
    cluster.restore_data()
    await asyncio.sleep(fault.seconds)
    await cluster.start_redis()


async def _freeze(fault: Fault, cluster: Cluster) -> None:
    cluster.redis.freeze()
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        cluster.redis.thaw()


async def _pause(fault: Fault, cluster: Cluster) -> None:
    await cluster.command("CLIENT", "PAUSE", int(fault.seconds * 1000), "ALL")
    await asyncio.sleep(fault.seconds)


async def _kill_subscriptions(fault: Fault, cluster: Cluster) -> None:
    await cluster.command("CLIENT", "KILL", "TYPE", "pubsub")


async def _kill_commands(fault: Fault, cluster: Cluster) -> None:
    await cluster.command("CLIENT", "KILL", "TYPE", "normal")


async def _delay(fault: Fault, cluster: Cluster) -> None:
    proxies = list(_between(fault, cluster))
    for proxy in proxies:
        proxy.delay_s = fault.delay_s
    await asyncio.sleep(fault.seconds)
    for proxy in proxies:
        proxy.delay_s = 0.0


async def _cut(fault: Fault, cluster: Cluster) -> None:
    for proxy in _between(fault, cluster):
        proxy.cut()


async def _refuse(fault: Fault, cluster: Cluster) -> None:
    proxies = list(_between(fault, cluster))
    for proxy in proxies:
        proxy.is_refusing = True
        proxy.cut()
    await asyncio.sleep(fault.seconds)
    for proxy in proxies:
        proxy.is_refusing = False


async def _swallow(fault: Fault, cluster: Cluster) -> None:
    ways = {Kind.DEAF: (Way.TO_CLIENT,), Kind.MUTE: (Way.TO_SERVER,)}.get(fault.kind, ())
    proxies = list(_between(fault, cluster))
    for proxy in proxies:
        proxy.swallow(*ways)
    await asyncio.sleep(fault.seconds)
    for proxy in proxies:
        proxy.heal()


async def _half_close(fault: Fault, cluster: Cluster) -> None:
    way = Way.TO_CLIENT if fault.kind is Kind.HALF_CLOSE else Way.TO_SERVER
    for proxy in _between(fault, cluster):
        proxy.half_close(way)


async def _nothing(fault: Fault, cluster: Cluster) -> None:
    """Clients that hang up do so themselves."""


def _between(fault: Fault, cluster: Cluster) -> Iterable[FaultProxy]:
    return (cluster.proxies[number] for number in fault.workers)


_HOW: dict[Kind, Callable[[Fault, Cluster], Awaitable[None]]] = {
    Kind.KILL: _kill,
    Kind.DRAIN: _drain,
    Kind.RESTART: _restart,
    Kind.WIPE: _restart,
    Kind.ROLL_BACK: _roll_back,
    Kind.FREEZE: _freeze,
    Kind.PAUSE: _pause,
    Kind.KILL_SUBSCRIPTIONS: _kill_subscriptions,
    Kind.KILL_COMMANDS: _kill_commands,
    Kind.DELAY: _delay,
    Kind.CUT: _cut,
    Kind.REFUSE: _refuse,
    Kind.BLACK_HOLE: _swallow,
    Kind.DEAF: _swallow,
    Kind.MUTE: _swallow,
    Kind.HALF_CLOSE: _half_close,
    Kind.HALF_CLOSE_WORKER: _half_close,
    Kind.HANG_UP: _nothing,
}
