"""The server under test, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .applications import MESSAGE_BYTES

ROOT = Path(__file__).parents[1]
DEADLINE_S = 30


@contextmanager
def serving(command: Sequence[str], log: Path) -> Iterator[int]:
    """Run a server and give its port.

    Args:
        command: What to run after `python -m`, with `{port}` for the port.
        log: A file for what the server prints.

    Raises:
        RuntimeError: The server does not start.
    """
    with _held_port() as port, log.open("wb") as output:
        arguments = [part.format(port=port) for part in command]
        process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=output, stderr=output)
        try:
            _wait_until_it_listens(process, port, log)
            yield port
        finally:
            _stop(process)


def uvicorn(application: str, ws: str, compression: bool) -> list[str]:
    """Return the command for uvicorn.

    Args:
        application: The name of an application in `applications`.
        ws: What uvicorn's `--ws` takes: `module:Class`, or a name that it knows.
        compression: Whether permessage-deflate is on.
    """
    return [
        *("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"),
        *("--ws", ws, "--ws-max-size", str(MESSAGE_BYTES), "--ws-per-message-deflate", str(compression)),
        f"{__package__}.applications:{application}",
    ]


def hubbub_run(application: str, certificate: Path | None, deflate: bool) -> list[str]:
    """Return the command for `hubbub run`.

    Args:
        application: The application, as `module:attribute`.
        certificate: A file with a certificate and its key, for TLS.
        deflate: Whether compression is on.
    """
    tls = [] if certificate is None else ["--ssl-certfile", str(certificate)]
    options = ["--port", "{port}", "--log-level", "warning", *tls, *(["--deflate"] if deflate else [])]
    return ["hubbub.cli", "run", *options, application]


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
