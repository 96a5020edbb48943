"""A uvicorn in a process of its own, which can be restarted at the same address."""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0


class Server:
    """One application on a free port of the loopback interface."""

    def __init__(self, application: str, log: Path) -> None:
        self.application = application
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False)
        self.restarts = 0
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return when it answers."""
        with self._log.open("ab") as output:
            self._process = process = self._spawn(output)
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.application} did not start:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the server to end, as a deploy does, and wait until it has."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        """End the server without a farewell, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def begin_restart(self) -> None:
        """Say that from now on the browser may complain about lost connections."""
        self.restarts += 1

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", self.application, *options, "--timeout-graceful-shutdown", "2"]
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def _answers(self) -> bool:
        try:
            return not self.http.get("/").is_server_error
        except httpx.TransportError:
            return False


@contextmanager
def serving(application: str, log: Path) -> Iterator[Server]:
    """Run a server; whatever it logged at its end, a traceback must not be part of it."""
    server = Server(application, log)
    with server.http:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    assert "Traceback" not in server.log, server.log


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections: none of them takes it during a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
