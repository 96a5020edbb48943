"""One client abuses `hubbub run`: what another one notices of it, and how it ends."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event

from . import attacks
from .attacks import Attack, Endings
from .load import ROOT, START_DEADLINE_S, Server, connect
from .running import cores, raise_open_files
from .table import table

INTERVAL_S = 0.003
MEMORY_INTERVAL_S = 0.05
MESSAGE = attacks.frame(0x81, b"x" * 32)
ANSWER = b"\x81\x20" + b"x" * 32
WARM_UP_S = 0.5
SHORTEST_S = 6.0
"""A server waits 5 seconds for the answer to its close, and cuts the connection off then."""
LONGER_S = 15.0
"""For more than one round of that, and of the 10 seconds that the head of a request may take."""
LIMITS = ("/limited", "/unlimited")


@dataclass(frozen=True, slots=True)
class Case:
    """An attack on an endpoint.

    Args:
        name: What the table calls it.
        attack: It.
        paths: The endpoints that it is tried on, one after the other.
        seconds: How long at least.
        options: More options of the server.
    """

    name: str
    attack: Attack
    paths: tuple[str, ...] = LIMITS
    seconds: float = SHORTEST_S
    options: tuple[str, ...] = ()


CASES = (
    Case("nothing", attacks.nothing, ("/unlimited",)),
    Case("nothing, but a busy core", attacks.busy, ("/unlimited",)),
    Case("2 million fragments of a byte", attacks.fragments(b"x")),
    Case("2 million empty fragments", attacks.fragments(b"")),
    Case("messages byte by byte", attacks.byte_by_byte),
    Case("bombs of 16 MiB", attacks.bombs(16_777_216), options=("--deflate",)),
    Case("bombs of 64 KiB", attacks.bombs(65_536), options=("--deflate",)),
    Case("pings", attacks.flooding(0x89, b"x")),
    Case("pongs", attacks.flooding(0x8A, b"x")),
    Case("messages of a byte", attacks.flooding(0x81, b"x")),
    Case("10,000 heads, a byte a second", attacks.slowloris, ("/limited",), LONGER_S),
    Case("900 closes never answered", attacks.silent_after_close, ("/closes",), LONGER_S),
    Case("a flood instead of an answer", attacks.flooding(0x81, b"x"), ("/closes",), LONGER_S),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one case has cost the others.

    Args:
        name: What the table calls it.
        round_trips_s: The round trips of the client that is measured, in seconds, the shortest first.
        busy: The share of the time in which the server's core was busy.
        growth_bytes: By how much the server's memory has grown at most.
        kept_bytes: By how much it was larger at the end, while the attack still went on.
        endings: How the server has ended the connections of the attack.
    """

    name: str
    round_trips_s: list[float]
    busy: float
    growth_bytes: int
    kept_bytes: int
    endings: Endings

    def quantile_ms(self, share: float) -> float:
        """Return the milliseconds within which that share of the round trips was done."""
        return self.round_trips_s[min(len(self.round_trips_s) - 1, int(share * len(self.round_trips_s)))] * 1e3


def run(seconds: float) -> str:
    """Try all attacks, each on a server of its own, and return a table."""
    raise_open_files()
    results = [measure(case, path, max(seconds, case.seconds)) for case in CASES for path in case.paths]
    base = results[0].quantile_ms(0.99)
    return table(
        f"abuse: round trips of one client on hubbub run, one each {INTERVAL_S * 1e3:g} ms, while another abuses it",
        ("", "p50 ms", "p99 ms", "max ms", "p99 × nothing", "server CPU %", "growth MiB", "at the end", "ended"),
        [_row(result, base) for result in results],
    )


def _row(result: Result, base: float) -> tuple[str | float, ...]:
    p50, p99, longest = (result.quantile_ms(share) for share in (0.5, 0.99, 1.0))
    growth, kept = result.growth_bytes / 2**20, result.kept_bytes / 2**20
    endings = "; ".join(f"{how} × {count:,}" for how, count in result.endings.most_common(3)) or "not at all"
    return result.name, p50, p99, longest, p99 / base, result.busy * 100, growth, kept, endings


def measure(case: Case, path: str, seconds: float) -> Result:
    """Start a server, let the attack begin, and measure for so many seconds."""
    name = f"{case.name}, {path[1:]}" if len(case.paths) > 1 else case.name
    print(name, file=sys.stderr, flush=True)
    with _serving(case.options) as server, connect(server.port, "/echo") as client:
        client.settimeout(START_DEADLINE_S)
        list(_round_trips(client, WARM_UP_S))
        cpu_s, rss_bytes, start = server.cpu_s, server.rss_bytes, time.monotonic()
        with _attacking(case.attack, server.port, path) as endings, _largest(server) as largest:
            round_trips_s = sorted(_round_trips(client, seconds))
            spent_s, kept_bytes = server.cpu_s - cpu_s, server.rss_bytes
            elapsed_s = time.monotonic() - start
    growth = max(largest) - rss_bytes
    return Result(name, round_trips_s, spent_s / elapsed_s, growth, kept_bytes - rss_bytes, endings)


def _round_trips(client: socket.socket, seconds: float) -> Iterator[float]:
    """Send a message at each interval, or as soon as the last one is back if that takes longer."""
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        client.sendall(MESSAGE)
        answer = client.recv(len(ANSWER), socket.MSG_WAITALL)
        if answer != ANSWER:
            raise RuntimeError(f"{answer!r} instead of what was sent")
        took = time.monotonic() - start
        yield took
        time.sleep(max(0.0, INTERVAL_S - took))


@contextmanager
def _attacking(attack: Attack, port: int, path: str) -> Iterator[Endings]:
    """Let the attack go on in a process of its own; afterwards the counter has how it was ended."""
    endings: Endings = Counter()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    end = context.Event()
    process = context.Process(target=_attack, args=(attack, port, path, end, sender.send))
    process.start()
    sender.close()
    try:
        yield endings
    finally:
        end.set()
        with suppress(EOFError):
            endings.update(receiver.recv())
        process.join()


def _attack(attack: Attack, port: int, path: str, end: Event, tell: Callable[[Endings], None]) -> None:
    """Attack from the core of the client that is measured, but only while that one sleeps."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    endings: Endings = Counter()
    try:
        attack(port, path, end, endings)
    finally:
        tell(endings)


@contextmanager
def _largest(server: Server) -> Iterator[list[int]]:
    """Look at the server's memory now and then; afterwards the list has what it was."""
    seen = [server.rss_bytes]
    end = threading.Event()

    def look() -> None:
        while not end.wait(MEMORY_INTERVAL_S):
            seen.append(server.rss_bytes)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


@contextmanager
def _serving(options: Sequence[str]) -> Iterator[Server]:
    """Run the application on the server's core, this process being on the other, and end it afterwards."""
    core, own = cores()
    os.sched_setaffinity(0, {own})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["hubbub.cli", "run", "--port", str(port), "--log-level", "error", *options, "benchmarks.abused:app"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, preexec_fn=partial(os.sched_setaffinity, 0, {core})
    )
    try:
        _wait_until_it_listens(process, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            connect(port, "/limited").close()
            return
        time.sleep(0.05)
    raise RuntimeError("hubbub run does not start")
