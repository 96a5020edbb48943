"""Fifty clients, one of which stops reading: what the other forty-nine notice of it."""

import asyncio
import time
from statistics import median

import httpx

from .load import Receivers, Server, connect, serving
from .table import table

READERS = 49
COUNT = 2_000
MESSAGE_BYTES = 4_096
INTERVAL_S = 0.002
KEPT_BYTES = 4_096
"""The receive buffer of the one that does not read."""


async def one_round(server: Server, is_stalled: bool) -> tuple[float, float, float]:
    """Return the seconds until all readers have everything, the server's CPU seconds, and its growth in MiB.

    Raises:
        RuntimeError: Others than the one that does not read were ended as slow, or it was not.
    """
    receivers = Receivers(MESSAGE_BYTES)
    readers = [await receivers.add(connect(server.port, "/ws")) for _ in range(READERS)]
    stalled = connect(server.port, "/ws", KEPT_BYTES) if is_stalled else None
    cpu_s, rss_bytes = server.cpu_s, server.rss_bytes
    complete = receivers.expect(COUNT)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=None) as http:
        slow = (await http.get("/slow")).json()
        start = time.perf_counter()
        pace = {"count": COUNT, "size": MESSAGE_BYTES, "interval_s": INTERVAL_S}
        await asyncio.gather(http.post("/broadcast", params=pace), complete)
        result = time.perf_counter() - start, server.cpu_s - cpu_s, (server.rss_bytes - rss_bytes) / 2**20
        slow = (await http.get("/slow")).json() - slow
    if slow != is_stalled:
        raise RuntimeError(f"{slow} connections were ended as slow")
    for reader in readers:
        reader.close()
    if stalled is not None:
        stalled.close()
    return result


async def run(rounds: int) -> str:
    """Take the rounds in turn and return a table of their medians."""
    results: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    with serving() as server:
        await one_round(server, False)  # to warm up
        for _ in range(rounds):
            for is_stalled, into in results.items():
                into.append(await one_round(server, is_stalled))
    rows = [[median(column) for column in zip(*into, strict=True)] for into in results.values()]
    return table(
        f"stalled: {READERS} readers, {COUNT:,} broadcasts of {MESSAGE_BYTES:,} bytes, "
        f"one every {INTERVAL_S * 1e3:g} ms; medians of {rounds} rounds",
        ("", "seconds", "ratio", "server CPU s", "growth MiB"),
        [
            (name, seconds, seconds / rows[0][0], cpu_s, growth)
            for name, (seconds, cpu_s, growth) in zip(("all read", "one more does not"), rows, strict=True)
        ],
    )
