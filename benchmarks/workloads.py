"""The workloads: what the load generator does, and which figures are shown."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from .contestants import Kind
from .table import number

FULL = 0.95
"""From this share of its core on, the load generator is the limit, not the server."""


def percent(share: float) -> str:
    return f"{share:.0%}"


def generator_share(share: float) -> str:
    """Return the share that the load generator takes of its own core, and say where that is all of it."""
    return f"{share:.0%}{' full' if share >= FULL else ''}"


@dataclass(frozen=True)
class Column:
    """A figure in a table.

    Args:
        head: What the column is called, with its unit.
        figure: What the load generator calls it.
        scale: What it is multiplied with for that unit.
        has_ratio: Whether its ratios to the bases follow.
        text: How it is written.
    """

    head: str
    figure: str
    scale: float = 1.0
    has_ratio: bool = False
    text: Callable[[float], str] = number


@dataclass(frozen=True)
class Workload:
    """Something that is measured.

    Args:
        name: What the command line calls it.
        title: What it is.
        kind: Which endpoints it uses.
        arguments: Those of the load generator.
        columns: The columns of its table.
        unit: What its row in the table of all workloads is called.
        summary: The figures in that row.
        compares_endpoints: Whether ratios are to the server's own first endpoint and not to the common bases.
    """

    name: str
    title: str
    kind: Kind
    arguments: tuple[str, ...]
    columns: tuple[Column, ...]
    unit: str
    summary: tuple[Column, ...]
    compares_endpoints: bool = False


CPU = Column("CPU µs a delivery", "cpu_us_per_delivery", has_ratio=True)
RATE = Column("deliveries/s", "deliveries_per_s", has_ratio=True)
MILLIONS = Column("million deliveries/s", "deliveries_per_s", 1e-6)
P50 = Column("p50 ms", "p50_us", 1e-3)
P99 = Column("p99 ms", "p99_us", 1e-3)
SLOWEST = Column("max ms", "max_us", 1e-3)
SERVER = Column("server's core", "server_cpu", text=percent)
GENERATOR = Column("generator's core", "load_cpu", text=generator_share)
MEMORY = Column("KB a connection", "kb_per_connection", has_ratio=True)
HANDSHAKES = Column("handshakes/s", "handshakes_per_s", has_ratio=True)
OPENING = Column("generator's core", "handshake_load_cpu", text=generator_share)
BYTES = Column("bytes a delivery", "bytes_per_delivery")


def _fanout(in_flight: int) -> Workload:
    return Workload(
        f"fanout{in_flight}",
        f"fan-out to 500, {in_flight} in flight, 128 bytes",
        Kind.FANOUT,
        ("--mode", "fanout", "--connections", "500", "--window", str(in_flight), "--size", "128"),
        (CPU, RATE, P99, SERVER, GENERATOR),
        "server CPU µs a delivery" if in_flight == 1 else "million deliveries/s",
        (CPU,) if in_flight == 1 else (MILLIONS,),
    )


WORKLOADS = (
    *map(_fanout, (1, 16, 64)),
    Workload(
        "echo",
        "echo, 100 clients, 128 bytes",
        Kind.ECHO,
        ("--mode", "echo", "--connections", "100", "--size", "128"),
        (CPU, RATE, P99, SERVER, GENERATOR),
        "server CPU µs a message",
        (CPU,),
    ),
    Workload(
        "idle",
        "memory of 15,000 idle connections",
        Kind.IDLE,
        ("--mode", "connect", "--connections", "15000", "--settle", "1.5"),
        (MEMORY, HANDSHAKES, OPENING),
        "KB of RSS a connection",
        (MEMORY,),
    ),
    Workload(
        "handshakes",
        "handshakes, 3,000 connections",
        Kind.HANDSHAKE,
        ("--mode", "connect", "--connections", "3000"),
        (HANDSHAKES, OPENING),
        "handshakes/s",
        (HANDSHAKES,),
    ),
    Workload(
        "deflate",
        "fan-out to 500, 1 in flight, 1,024 bytes of JSON, with and without permessage-deflate",
        Kind.DEFLATE,
        ("--mode", "fanout", "--connections", "500", "--size", "1024", "--text"),
        (CPU, RATE, BYTES, P99, SERVER, GENERATOR),
        "server CPU µs a delivery",
        (CPU,),
        compares_endpoints=True,
    ),
    Workload(
        "paced",
        "fan-out to 1,000, 50 messages/s, 128 bytes",
        Kind.FANOUT,
        ("--mode", "fanout", "--connections", "1000", "--rate", "50", "--size", "128"),
        (replace(P50, has_ratio=True), P99, SLOWEST, replace(RATE, has_ratio=False), SERVER, GENERATOR),
        "p50 / p99 / max ms",
        (P50, P99, SLOWEST),
    ),
)
