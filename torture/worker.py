"""A worker: the application in a process of its own, which may be killed and started again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

from . import application

ROOT = Path(__file__).parents[1]
START_DEADLINE_S = 30.0
END_DEADLINE_S = 30.0


class Worker:
    """One worker on a port that it keeps.

    Args:
        redis: The address of Redis as this worker is to see it.
        history: Publications that a channel keeps.
        log: A file for what it prints.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, redis: str, history: int, log: Path) -> None:
        # While this holds the port without listening, the kernel gives it to nobody but who asks for it by number.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port: int = self._holder.getsockname()[1]
        self._environment = {application.REDIS: redis, application.HISTORY: str(history)}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and return when it listens.

        Raises:
            RuntimeError: It does not.
        """
        module = f"{application.__name__}:app"
        options = ("--port", str(self.port), "--log-level", "warning", "--no-access-log")
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hubbub.cli", "run", *options, module),
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that Ctrl-C is for this process, which ends them all
            )
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while not await self._listens():
                    if self._process.returncode is not None:
                        raise RuntimeError(f"a worker does not start:\n{self._log.read_text(errors='replace')}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise RuntimeError(f"a worker does not listen within {START_DEADLINE_S:g} s") from None

    async def terminate(self) -> None:
        """Ask it to end, and return when it has.

        Raises:
            RuntimeError: It has not in time.
        """
        assert self._process is not None
        self._process.terminate()
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                await self._process.wait()
        except TimeoutError:
            raise RuntimeError(f"a worker does not end within {END_DEADLINE_S:g} s of SIGTERM") from None

    async def kill(self) -> None:
        """End it at once, if it is there."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def aclose(self) -> None:
        """End it and give up the port."""
        await self.kill()
        self._holder.close()

    @property
    def tracebacks(self) -> list[str]:
        """The tracebacks that it has printed."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return re.findall(r"^Traceback .*\n(?:(?: .*)?\n)+.*$", text, re.MULTILINE)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.transport.abort()
        return True
