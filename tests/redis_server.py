"""A Redis server of the tests' own, which they may stop, freeze and start again without its data."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis

DEADLINE_S = 20.0


class RedisServer:
    """One redis-server on a free port of the loopback interface and on a Unix socket.

    Args:
        directory: A directory for its files.
        password: What it asks for, if it does.
        options: More of its command line, such as `"--maxmemory", "2mb"`.
    """

    def __init__(self, directory: Path, password: str | None = None, options: tuple[str, ...] = ()) -> None:
        self.port = _free_port()
        self.path = directory / "redis.sock"
        self._directory = directory
        self._password = password
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Where it is when it is reached by another port, such as a `FaultProxy`'s."""
        credentials = f":{self._password}@" if self._password is not None else ""
        return f"redis://{credentials}127.0.0.1:{port}/0"

    def start(self) -> None:
        """Start it with the data that `stop(keep=True)` has left, if it has, and return when it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is missing: install Debian's package redis-server, or run make redis")
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)]
        files = ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        secret = ["--requirepass", self._password] if self._password is not None else []
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *fixed, *files, *secret, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"redis-server did not start:\n{(self._directory / 'redis.log').read_text()}")
            time.sleep(0.01)

    def stop(self, *, keep: bool = False) -> None:
        """End it, if it is there; its data are lost unless they are to be kept for the next `start`."""
        if self._process is None or self._process.poll() is not None:
            return
        if keep:
            self.command("SAVE")
        self._process.kill()
        self._process.wait(DEADLINE_S)
        if not keep:
            (self._directory / "dump.rdb").unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash does: the next `start` finds what was saved last."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)

    def restart(self, *, keep: bool = False) -> None:
        """Stop it and start it again, without its data unless they are to be kept."""
        self.stop(keep=keep)
        self.start()

    def freeze(self) -> None:
        """Let it answer nothing, with all connections open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, *arguments: str | bytes | int) -> Any:
        """Send one command by a connection of its own and return the reply; raise what is an error.

        It blocks the loop for some tenths of a millisecond.
        """
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S) as connection:
            reader = hiredis.Reader()
            if self._password is not None:
                _ask(connection, reader, ("AUTH", self._password))
            return _ask(connection, reader, arguments)

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING") == b"PONG")
        except (OSError, hiredis.ReplyError):
            return False


def _ask(connection: socket.socket, reader: hiredis.Reader, arguments: tuple[str | bytes | int, ...]) -> Any:
    connection.sendall(hiredis.pack_command(arguments))  # type: ignore[arg-type]
    while (reply := reader.gets()) is False:
        received = connection.recv(65_536)
        if not received:
            raise ConnectionError("redis-server has hung up")
        reader.feed(received)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply


@contextmanager
def redis_server(password: str | None = None, *options: str) -> Iterator[RedisServer]:
    """Run a Redis server; see `RedisServer`."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisServer(Path(directory), password, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
