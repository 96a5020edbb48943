"""From one client to all: what a delivery costs the server, beside the class that FastAPI's tutorial shows."""

import time
from statistics import median

from .load import Receivers, Server, connect, serving
from .table import table

SUBSCRIBERS = 100
MESSAGE_BYTES = 128
COUNT = 480
PEERS = {"the tutorial's class": "/tutorial", "ConnectionManager": "/manager", "Hub": "/hub"}
IN_FLIGHT = (1, 16)

FRAME = b"\x81\xfe\x00\x80" + bytes(4) + b"." * MESSAGE_BYTES
"""A client's message, masked with zeros."""


async def one_round(server: Server, path: str, in_flight: int) -> tuple[float, float]:
    """Return the server's CPU in microseconds a delivery, and deliveries a second."""
    receivers = Receivers(MESSAGE_BYTES)
    subscribers = [await receivers.add(connect(server.port, path)) for _ in range(SUBSCRIBERS)]
    cpu_s, start = server.cpu_s, time.perf_counter()
    for _ in range(COUNT // in_flight):
        complete = receivers.expect(in_flight)
        subscribers[0].write(FRAME * in_flight)
        await complete
    seconds, cpu_s = time.perf_counter() - start, server.cpu_s - cpu_s
    for subscriber in subscribers:
        subscriber.close()
    deliveries = COUNT * SUBSCRIBERS
    return cpu_s / deliveries * 1e6, deliveries / seconds


async def run(rounds: int) -> str:
    """Take the rounds in turn and return a table of their medians for each number of messages in flight."""
    return "\n\n".join([await in_flight(count, rounds) for count in IN_FLIGHT])


async def in_flight(count: int, rounds: int) -> str:
    """Measure all peers with so many messages under way at a time."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in PEERS}
    with serving() as server:
        for _ in range(rounds + 1):
            for name, path in PEERS.items():
                results[name].append(await one_round(server, path, count))
    rows = {name: [median(column[1:]) for column in zip(*into, strict=True)] for name, into in results.items()}
    base = rows["the tutorial's class"]
    return table(
        f"fanout: {SUBSCRIBERS} subscribers, {MESSAGE_BYTES} bytes, {count} in flight; medians of {rounds} rounds",
        ("", "CPU µs a delivery", "ratio", "deliveries/s", "ratio"),
        [(name, cpu, cpu / base[0], rate, rate / base[1]) for name, (cpu, rate) in rows.items()],
    )
