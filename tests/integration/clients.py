"""Real clients: a well-behaved one, the `websockets` library, and one without manners, on a raw socket."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from tests.integration.deadline import DEADLINE_S, within

TEXT, CLOSE = 0x1, 0x8


class Close(NamedTuple):
    """How a connection ended, as its client saw it."""

    code: int
    reason: str


class Client:
    """A connection of the `websockets` library, with a deadline on everything."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: str | bytes) -> None:
        await within(self.connection.send(message))

    async def send_json(self, message: object) -> None:
        await self.send(json.dumps(message))

    async def receive(self) -> str | bytes:
        return await within(self.connection.recv())

    async def receive_json(self) -> Any:
        message = await self.receive()
        assert isinstance(message, str), message
        return json.loads(message)

    async def receive_many(self, count: int) -> list[str | bytes]:
        return [await self.receive() for _ in range(count)]

    async def ask(self, message: str | bytes) -> str | bytes:
        """Send a message and return the next one that comes."""
        await self.send(message)
        return await self.receive()

    async def closed(self) -> Close:
        """Return how the server has ended the connection; nothing else may come before."""
        try:
            message = await self.receive()
        except ConnectionClosed:
            assert self.connection.close_code is not None
            return Close(self.connection.close_code, self.connection.close_reason or "")
        raise AssertionError(f"a message instead of a close: {message!r}")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await within(self.connection.close(code, reason))

    def vanish(self) -> None:
        """Reset the TCP connection, as happens when a process is killed."""
        _reset_on_close(self.connection.transport.get_extra_info("socket"))
        self.connection.transport.abort()


@asynccontextmanager
async def client(port: int, path: str, **options: Any) -> AsyncIterator[Client]:
    """Connect, and close when done."""
    async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options) as connection:
        yield Client(connection)


async def refusal(port: int, path: str, **options: Any) -> Response:
    """Try to connect and return the HTTP response that refuses it."""
    try:
        async with client(port, path, **options):
            raise AssertionError(f"{path} let the client in")
    except InvalidStatus as refused:
        return refused.response


def http_client(port: int) -> httpx.AsyncClient:
    """Return a client for ordinary requests; without certificates, which take long to load."""
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=DEADLINE_S)


class RawClient:
    """A WebSocket client that reads only when it is told to, and leaves as it likes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = bytearray()

    @classmethod
    async def dial(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """Open the TCP connection only."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)))
        return cls(sock)

    @classmethod
    async def connect(cls, port: int, path: str, *, receive_buffer: int | None = None) -> Self:
        """Open the TCP connection and do the handshake."""
        raw = await cls.dial(port, receive_buffer=receive_buffer)
        await raw.send_request(path)
        await raw.receive_response()
        return raw

    async def send_request(self, path: str) -> None:
        await self.send_bytes(request(path))

    async def receive_response(self) -> None:
        """Read the head of the response, which must be that of an accepted handshake."""
        head = await self._read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def send_frame(self, opcode: int, payload: bytes) -> None:
        await self.send_bytes(masked_frame(opcode, payload))

    async def send_bytes(self, data: bytes) -> None:
        await within(asyncio.get_running_loop().sock_sendall(self._socket, data))

    async def receive_frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        first, second = await self._read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._read(8))
        return first & 0x0F, await self._read(size)

    async def receive_close(self) -> Close:
        """Return how the server has ended the connection; 1006 if it did so without a close frame."""
        try:
            opcode, payload = await self.receive_frame()
        except (EOFError, ConnectionError):
            return Close(1006, "")
        assert opcode == CLOSE, (opcode, payload)
        return Close(struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else Close(1005, "")

    async def receive_end(self) -> None:
        """Return when the server has ended the TCP connection; throw away what comes before."""
        try:
            while True:
                self._received.clear()
                await self._receive()
        except (EOFError, ConnectionError):
            pass

    def detach(self) -> socket.socket:
        """Give away the socket, from which nothing may have been read but what was asked for."""
        assert not self._received
        return self._socket

    def hang_up(self) -> None:
        """Close the TCP connection without a close frame."""
        self._socket.close()

    def vanish(self) -> None:
        """Reset the TCP connection."""
        _reset_on_close(self._socket)
        self._socket.close()

    async def _read_until(self, delimiter: bytes) -> bytes:
        while delimiter not in self._received:
            await self._receive()
        return await self._read(self._received.index(delimiter) + len(delimiter))

    async def _read(self, count: int) -> bytes:
        while len(self._received) < count:
            await self._receive()
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def _receive(self) -> None:
        data = await within(asyncio.get_running_loop().sock_recv(self._socket, 65_536))
        if not data:
            raise EOFError
        self._received += data


def request(path: str) -> bytes:
    """Return an opening handshake (RFC 6455 section 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame (RFC 6455 section 5.2), masked with zeros, which leave the payload as it is."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def _reset_on_close(sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
