"""A Redis, workers, and a network between them that can be disturbed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fault_proxy import FaultProxy, fault_proxy
from tests.redis_server import RedisServer

from .plan import Plan
from .worker import Worker

APPEND_ONLY = ("--appendonly", "yes", "--appendfsync", "no")
"""What Redis has answered is in the file, though not on the disk: a killed process loses nothing.

With `everysec` it may answer before, while an earlier part is on its way to the disk.
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What runs.

    Args:
        redis: The Redis of all workers.
        directory: Its files.
        proxies: What each worker reaches Redis by.
        workers: The workers.
    """

    redis: RedisServer
    directory: Path
    proxies: Sequence[FaultProxy]
    workers: Sequence[Worker]

    @property
    def ports(self) -> list[int]:
        """Where the workers listen."""
        return [worker.port for worker in self.workers]

    async def command(self, *arguments: str | int) -> object:
        """Ask Redis directly."""
        return await asyncio.to_thread(self.redis.command, *arguments)

    async def kill_redis(self) -> None:
        """End Redis at once; its file stays."""
        await asyncio.to_thread(self.redis.stop)

    async def start_redis(self) -> None:
        """Start it with what its file has."""
        await asyncio.to_thread(self.redis.start)

    async def copy_data(self) -> None:
        """Copy the file of Redis as it is now; the last of its commands may be there in part."""
        await asyncio.to_thread(shutil.copytree, self._data, self._older_data)

    def restore_data(self) -> None:
        """Give a Redis that does not run the file that was copied."""
        self.delete_data()
        self._older_data.rename(self._data)

    @property
    def _data(self) -> Path:
        return self.directory / "appendonlydir"

    @property
    def _older_data(self) -> Path:
        return self.directory / "older"

    def delete_data(self) -> None:
        """Delete the file of a Redis that does not run."""
        shutil.rmtree(self._data)


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Cluster]:
    """Start everything, and end it."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="torture-")))
        redis = RedisServer(directory, options=APPEND_ONLY)
        await asyncio.to_thread(redis.start)
        stack.callback(redis.stop)
        proxies = [await stack.enter_async_context(fault_proxy(redis.port)) for _ in range(plan.workers)]
        workers = [
            Worker(redis.url_at(proxy.port), plan.history, directory / f"worker-{number}.log")
            for number, proxy in enumerate(proxies)
        ]
        for worker in workers:
            stack.push_async_callback(worker.aclose)
        await asyncio.gather(*(worker.start() for worker in workers))
        yield Cluster(redis, directory, proxies, workers)
