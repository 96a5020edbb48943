"""Two workers over Redis beside one process: what a delivery costs, how long it takes, and how many resume at once."""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx

from tests.redis_server import RedisServer

from .load import REQUEST, Receivers, Server, connect, serving
from .running import raise_open_files
from .table import table

APPLICATION = "benchmarks.remembering:app"
MESSAGE_BYTES = 128
HEADER_BYTES = 4
"""Of a frame with so much in it (RFC 6455 section 5.2)."""
PER_WORKER = 500
PER_S = 1_000
RESUMING = 5_000
MISSED = 50
DEADLINE_S = 120.0


@contextmanager
def workers(count: int) -> Iterator[list[Server]]:
    """Run so many workers: one with a broker in memory, or more on a Redis of their own."""
    with ExitStack() as stack:
        environment = {}
        if count > 1:
            redis = RedisServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            redis.start()
            stack.callback(redis.stop)
            environment["HUBBUB_BROKER"] = redis.url
        yield [stack.enter_context(serving(APPLICATION, "/hear/warm", environment)) for _ in range(count)]


class _Probe(asyncio.Protocol):
    """A client that looks when each message was published."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._rest + data
        size = HEADER_BYTES + MESSAGE_BYTES
        whole = len(data) // size * size
        for start in range(HEADER_BYTES, whole, size):
            self.delays_s.append(now - float(data[start : start + 20]))
        self._rest = data[whole:]


async def one_round(servers: Sequence[Server], subscribers: int, channel: str, seconds: float) -> tuple[float, ...]:
    """Return CPU µs a delivery, deliveries/s, and p50 and p99 from publishing to receipt in ms."""
    loop = asyncio.get_running_loop()
    receivers = Receivers(MESSAGE_BYTES)
    path = f"/hear/{channel}"
    probes: list[_Probe] = []
    transports: list[asyncio.BaseTransport] = []
    for server in servers:
        transports += [await receivers.add(connect(server.port, path)) for _ in range(subscribers - 1)]
        transport, probe = await loop.create_connection(_Probe, sock=connect(server.port, path))
        transports.append(transport)
        probes.append(probe)
    count = round(seconds * PER_S)
    cpu_s, start = sum(server.cpu_s for server in servers), time.perf_counter()
    complete = receivers.expect(count)
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        pace = {"count": count, "size": MESSAGE_BYTES, "interval_s": 1 / PER_S}
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(
                http.post(f"http://127.0.0.1:{servers[0].port}/publish/{channel}", params=pace), complete
            )
    took_s, used_s = time.perf_counter() - start, sum(server.cpu_s for server in servers) - cpu_s
    for transport in transports:
        transport.close()
    if lost := sum(count - len(probe.delays_s) for probe in probes):
        raise RuntimeError(f"{lost} messages were lost")
    deliveries = count * subscribers * len(servers)
    percentiles = quantiles([delay for probe in probes for delay in probe.delays_s], n=100)
    return used_s / deliveries * 1e6, deliveries / took_s, percentiles[49] * 1e3, percentiles[98] * 1e3


async def run(rounds: int, seconds: float) -> str:
    """Take the rounds in turn and return a table of their medians."""
    kinds = {
        f"one process, {PER_WORKER} subscribers": (1, PER_WORKER, "plain"),
        f"one process, {2 * PER_WORKER} subscribers": (1, 2 * PER_WORKER, "plain"),
        f"two workers, {PER_WORKER} on each": (2, PER_WORKER, "plain"),
        "two workers, with history": (2, PER_WORKER, "history:load"),
    }
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (count, subscribers, channel) in kinds.items():
            with workers(count) as servers:
                results[name].append(await one_round(servers, subscribers, channel, seconds))
    rows = [(name, *map(median, zip(*into, strict=True))) for name, into in results.items()]
    return table(
        f"workers: {PER_S:,} publications/s of {MESSAGE_BYTES} bytes, nothing lost; medians of {rounds} rounds",
        ("", "CPU µs a delivery", "ratio", "deliveries/s", "p50 ms", "p99 ms"),
        [(name, cpu, cpu / rows[0][1], rate, p50, p99) for name, cpu, rate, p50, p99 in rows],
    )


class _Resuming(asyncio.Protocol):
    """A client that comes back with its position and has all when so many bytes have come."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request = request
        self._done = done
        self._head = b""
        self._missing = MISSED * (HEADER_BYTES + MESSAGE_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._done.set_exception(RuntimeError(f"answered with {head!r}"))
            self._head = None
        self._missing -= len(data)
        if self._missing <= 0 and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"lost, {self._missing} bytes before the end"))


async def resume_once(servers: Sequence[Server]) -> tuple[float, ...]:
    """Return the seconds until all have what they missed, how many have resumed, and the readings of history."""
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        url = f"http://127.0.0.1:{servers[0].port}"
        position = (await http.post(f"{url}/start/history:resume")).json()
        pace = {"count": MISSED, "size": MESSAGE_BYTES, "interval_s": 0.0}
        await http.post(f"{url}/publish/history:resume", params=pace)
        request = REQUEST.format(path=f"/hear/history:resume?since={position}").encode()
        start = time.perf_counter()
        clients = []
        complete = []
        for index in range(RESUMING):
            done: asyncio.Future[None] = loop.create_future()
            complete.append(done)
            port = servers[index % len(servers)].port
            clients.append(
                asyncio.ensure_future(
                    loop.create_connection(lambda done=done: _Resuming(request, done), "127.0.0.1", port)
                )
            )
        async with asyncio.timeout(DEADLINE_S):
            connections = await asyncio.gather(*clients)
            await asyncio.gather(*complete)
        took_s = time.perf_counter() - start
        seen = [(await http.get(f"http://127.0.0.1:{server.port}/statistics")).json() for server in servers]
    for transport, _ in connections:
        transport.close()
    return took_s, *(sum(each[name] for each in seen) for name in ("resumed", "history_reads"))


async def run_resume(rounds: int) -> str:
    """Take the rounds in turn and return a table of their medians."""
    raise_open_files()
    rows = []
    for name, count in (("one process", 1), ("two workers", 2)):
        results = []
        for _ in range(rounds):
            with workers(count) as servers:
                results.append(await resume_once(servers))
        rows.append((name, *map(median, zip(*results, strict=True))))
    return table(
        f"resume: {RESUMING:,} clients come back at once and have missed {MISSED} each; medians of {rounds} rounds",
        ("", "seconds", "resumed", "history reads"),
        rows,
    )
