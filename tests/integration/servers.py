"""Real servers: each ASGI server in a process of its own, and uvicorn in the test's own event loop."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.integration.deadline import DEADLINE_S, eventually

ROOT = Path(__file__).parents[2]
APPLICATIONS = "tests.integration.applications"

NATIVE = "hubbub.server:WebSocketProtocol"
OLDEST = Path(sys.prefix) / "oldest"
"""Where `scripts/environment.sh` puts the oldest uvicorn that is supported."""
ws_class = "auto"
"""The WebSocket class of `serving` where a test does not name one: see the fixture `each_class`."""

UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")
COMMANDS = {
    "hubbub-run": ("hubbub.cli", "run", "--port", "{port}", "--log-level", "warning", "{application}"),
    "uvicorn-hubbub": (*UVICORN, "--ws", NATIVE, "{application}"),
    "oldest-uvicorn-hubbub": (*UVICORN, "--ws", NATIVE, "{application}"),
    "uvicorn-sansio": (*UVICORN, "--ws", "websockets-sansio", "{application}"),
    "uvicorn-websockets": (*UVICORN, "--ws", "websockets", "{application}"),
    "uvicorn-wsproto": (*UVICORN, "--ws", "wsproto", "{application}"),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "1", "{application}"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", "--log-level", "warning", "{application}"),
}
"""What to run after `python -m`: the server class of Hubbub, and every server that the fallback promises to work on."""


class Server:
    """One application on one server, on a free port of the loopback interface.

    Args:
        kind: A key of `COMMANDS`.
        application: The module of the application `app`, in `applications/`.
        log: A file for what the server prints.
    """

    def __init__(self, kind: str, application: str, log: Path) -> None:
        self.kind = kind
        self.port = 0
        self._application = f"{APPLICATIONS}.{application}:app"
        self._log = log
        self._port_holder: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def exceptions(self) -> set[str]:
        """The last lines of the tracebacks that the server has printed."""
        return set(re.findall(r"^Traceback .*\n(?:(?: .*)?\n)+(.*)$", self.log, re.MULTILINE))

    @property
    def rss_bytes(self) -> int:
        """Memory that the server's process holds now."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._port_holder = _hold_a_port()
        self.port = self._port_holder.getsockname()[1]
        arguments = [part.format(port=self.port, application=self._application) for part in COMMANDS[self.kind]]
        oldest = str(OLDEST) if self.kind.startswith("oldest") else None
        path = os.pathsep.join(filter(None, (oldest, str(ROOT), os.environ.get("PYTHONPATH"))))
        with self._log.open("ab") as output:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{' '.join(arguments)} did not start:\n{self.log}")
            time.sleep(0.02)

    def terminate(self) -> None:
        """Ask the server to end, as a deploy does."""
        assert self._process is not None
        self._process.terminate()

    def interrupt(self) -> None:
        """Press Ctrl-C: the server hears of it, and the workers that it may have."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, seconds: float = DEADLINE_S) -> int:
        """Return the exit status of a server that is ending."""
        assert self._process is not None
        assert self._port_holder is not None
        self._process.wait(seconds)
        self._port_holder.close()
        return self._process.returncode

    def kill(self) -> None:
        """End the server, with the workers that it may have, if it is still there."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Ask the server to end, and see to it that it does."""
        self.terminate()
        try:
            self.wait()
        finally:
            self.kill()

    def wait_for_answer(self, path: str, answer: object) -> None:
        """Ask by HTTP, again and again, until the application gives this answer in JSON."""
        deadline = time.monotonic() + DEADLINE_S
        while (given := json.loads(self._get(path))) != answer:
            assert time.monotonic() < deadline, f"{path} still answers {given}, not {answer}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self._get("/alive") == b"null"
        except OSError:
            return False

    def _get(self, path: str) -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()


def _hold_a_port() -> socket.socket:
    """Return a socket that keeps a free port from everyone but the server that is told its number.

    Two sockets that both allow sharing may have one address as long as only one of them listens, and the kernel gives
    the port to no one else meanwhile.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


@asynccontextmanager
async def serving(app: ASGIApp, *, send_buffer: int | None = None, **options: Any) -> AsyncIterator[int]:
    """Run uvicorn in this event loop and give its port, so that a test can count the tasks and look into the hub.

    Args:
        app: The application.
        send_buffer: Bytes of the kernel's send buffer of each connection.
        options: More of `uvicorn.Config`.
    """
    with socket.socket() as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, **{"ws": ws_class, **options}))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started or task.done())
            assert server.started, "uvicorn did not start"
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task
