"""The server under load, and clients so cheap that they are not what is measured."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_DEADLINE_S = 20.0

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Server:
    """A uvicorn in a process of its own, as `/proc` shows it."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._process = Path(f"/proc/{pid}")

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds."""
        user, system = (self._process / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_bytes(self) -> int:
        """Memory that it holds."""
        return int((self._process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(
    application: str = "benchmarks.application:app", path: str = "/ws", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run an application, and end it afterwards.

    Args:
        application: Which, as `module:attribute`.
        path: A WebSocket endpoint of it.
        environment: More variables of its environment; where given, it runs on Hubbub's class.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1_024)
        port = listener.getsockname()[1]
        options = ["--fd", str(listener.fileno()), "--log-level", "warning", "--ws-ping-interval", "3600"]
        if environment is not None:
            options += ["--ws", "hubbub.server:WebSocketProtocol", "--loop", "hubbub.server.loop:new_event_loop"]
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *options, application],
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            env={**os.environ, **(environment or {})},
        )
    try:
        connect(port, path).close()  # waits until it answers
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def connect(port: int, path: str, receive_buffer: int | None = None) -> socket.socket:
    """Open a WebSocket."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(START_DEADLINE_S)
    client.connect(("127.0.0.1", port))
    client.sendall(REQUEST.format(path=path).encode())
    head = client.recv(4_096)  # nobody sends anything before the broadcasts begin
    if not (head.startswith(b"HTTP/1.1 101 ") and head.endswith(b"\r\n\r\n")):
        raise RuntimeError(f"{path} answers {head!r}")
    client.setblocking(False)
    return client


class Receivers:
    """Clients that take messages of one size and only count them.

    Args:
        message_bytes: That size, from 126 to 65,535.
    """

    def __init__(self, message_bytes: int) -> None:
        self.missing = 0
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frame_bytes = message_bytes + 4  # with its header (RFC 6455 section 5.2)
        self._receivers: list[_Receiver] = []

    async def add(self, client: socket.socket) -> asyncio.Transport:
        """Let one more client receive."""
        loop = asyncio.get_running_loop()
        transport, receiver = await loop.create_connection(lambda: _Receiver(self), sock=client)
        self._receivers.append(receiver)
        return transport

    def expect(self, count: int) -> asyncio.Future[None]:
        """Return what is done when so many more messages have come to everyone."""
        self.missing = len(self._receivers)
        self.complete = asyncio.get_running_loop().create_future()
        for receiver in self._receivers:
            receiver.missing_bytes = count * self._frame_bytes
        return self.complete


class _Receiver(asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(262_144))  # one for all: nobody looks into it

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self.missing_bytes = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.missing_bytes -= count
        if not self.missing_bytes:
            self._receivers.missing -= 1
            if not self._receivers.missing:
                self._receivers.complete.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.missing_bytes and not self._receivers.complete.done():
            self._receivers.complete.set_exception(RuntimeError(f"lost, {self.missing_bytes} bytes before the end"))
