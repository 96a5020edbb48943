"""uvicorn with the WebSocket class under test, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .applications import MESSAGE_BYTES

ROOT = Path(__file__).parents[1]
DEADLINE_S = 30


@contextmanager
def serving(application: str, ws: str, compression: bool, log: Path) -> Iterator[str]:
    """Run the server and give its URL.

    Args:
        application: The name of an application in `applications`.
        ws: What uvicorn's `--ws` takes: `module:Class`, or a name that it knows.
        compression: Whether permessage-deflate is on.
        log: A file for what the server prints.

    Raises:
        RuntimeError: The server does not start.
    """
    with _held_port() as port, log.open("wb") as output:
        process = subprocess.Popen(_command(application, ws, compression, port), cwd=ROOT, stdout=output, stderr=output)
        try:
            _wait_until_it_listens(process, port, log)
            yield f"ws://127.0.0.1:{port}/"
        finally:
            _stop(process)


def _command(application: str, ws: str, compression: bool, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
        *("--ws", ws, "--ws-max-size", str(MESSAGE_BYTES), "--ws-per-message-deflate", str(compression)),
        f"{__package__}.applications:{application}",
    ]


@contextmanager
def _held_port() -> Iterator[int]:
    """Keep a free port from everyone but the server: as long as only one listens, two may share an address."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
            raise RuntimeError(f"the server did not start: {last or 'it says nothing'} ({log})")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
