"""The conversation with the `websockets` library; `conversation.js` has it for the others."""

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .outcome import Results

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_048_576)
CLOSES = ((1000, ""), (1001, "going"), (1011, "broken"), (3000, "bye"), (4999, "é" * 61))
SEVERAL = 5
DEADLINE_S = 15.0


class Failed(Exception):
    """Something else has come than what was expected."""


class Counting(ClientConnection):
    """A connection that counts what it reads."""

    bytes_read = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.bytes_read += len(data)
        super().data_received(data)


class Talk:
    """One step of the conversation: the connections that it opens are closed at its end.

    Args:
        stack: Closes them.
        base: The server's URL, without a path.
        trust: The context for TLS, if there is TLS.
        deflate: Whether compression should be negotiated.
    """

    def __init__(self, stack: AsyncExitStack, base: str, trust: ssl.SSLContext | None, deflate: bool) -> None:
        self.deflate = deflate
        self._stack = stack
        self._base = base
        self._trust = trust

    async def open(self, path: str, subprotocols: Iterable[Any] = ()) -> Counting:
        """Open a connection."""
        connection = await self._stack.enter_async_context(
            connect(
                self._base + path,
                ssl=self._trust,
                subprotocols=list(subprotocols) or None,
                create_connection=Counting,
                max_size=None,
                proxy=None,
            )
        )
        assert isinstance(connection, Counting)
        return connection


def same(found: object, wanted: object, what: str) -> None:
    """Complain if two values are not the same.

    Raises:
        Failed: They are not.
    """
    if found != wanted:
        raise Failed(f"{what}: {found!r:.80}, not {wanted!r:.80}")


async def ask(connection: ClientConnection, message: str | bytes) -> str | bytes:
    """Send a message and return the next one that comes."""
    await connection.send(message)
    return await connection.recv()


async def end_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Return how a connection was closed; nothing may come before."""
    try:
        message = await connection.recv()
    except ConnectionClosed:
        return connection.close_code, connection.close_reason
    raise Failed(f"{message!r:.80} instead of a close")


async def compression(talk: Talk) -> None:
    """Permessage-deflate is negotiated where the server has it."""
    response = (await talk.open("/echo")).response
    assert response is not None
    answer = response.headers.get("Sec-WebSocket-Extensions", "")
    same(answer.startswith("permessage-deflate"), talk.deflate, "negotiated")


async def text(talk: Talk) -> None:
    """Texts of all sizes come back."""
    connection = await talk.open("/echo")
    for size in SIZES:
        message = "é" * (size // 2) + "x" * (size % 2)
        same(await ask(connection, message), message, f"{size} bytes")


async def binary(talk: Talk) -> None:
    """Bytes of all sizes come back."""
    connection = await talk.open("/echo")
    for size in SIZES:
        message = random.randbytes(size)
        same(await ask(connection, message), message, f"{size} bytes")


async def subprotocol(talk: Talk) -> None:
    """The application chooses one of the subprotocols that are offered."""
    same((await talk.open("/echo", ["chat.v1", "chat.v2"])).subprotocol, "chat.v2", "chosen")
    same((await talk.open("/echo")).subprotocol, None, "none offered")


async def heartbeat(talk: Talk) -> None:
    """The server's ping is answered, and it notices."""
    same(await (await talk.open("/heartbeat")).recv(), "answered", "heartbeat")


async def server_closes(talk: Talk) -> None:
    """The server's code and reason arrive."""
    for code, reason in CLOSES:
        connection = await talk.open(f"/closes?code={code}&reason={quote(reason)}")
        same(await end_of(connection), (code, reason), "seen by the client")


async def client_closes(talk: Talk) -> None:
    """The client's code and reason arrive, and are answered."""
    witness = await talk.open("/witness/python")
    same(await witness.recv(), "", "witness")
    for code, reason in CLOSES:
        connection = await talk.open("/watched/python")
        await connection.close(code, reason)
        same(connection.close_code, code, "answered")
        same(json.loads(await witness.recv()), [code, reason], "seen by the server")


async def broadcast(talk: Talk) -> None:
    """What one sends comes to all."""
    several = [await talk.open("/everyone/python") for _ in range(SEVERAL)]
    for connection in several:
        same(await connection.recv(), "", "joined")
    for message in ("to all", "é" * 1_000, random.randbytes(70_000)):
        await several[0].send(message)
        for connection in several:
            same(await connection.recv(), message, "heard")


async def detached(talk: Talk) -> None:
    """A handler answers, and hears of the end."""
    witness = await talk.open("/witness/python-detached")
    same(await witness.recv(), "", "witness")
    connection = await talk.open("/detached/python-detached")
    messages: list[str | bytes] = [*map(random.randbytes, SIZES), "", "x", "é" * 100_000]
    for message in messages:
        same(await ask(connection, message), message, f"{len(message)} long")
    await connection.close(4000, "done")
    same(json.loads(await witness.recv()), [4000, "done"], "seen by the server")


async def ping(talk: Talk) -> None:
    """Pings of the client are answered with what is in them."""
    connection = await talk.open("/echo")
    for payload in (b"", b"x", b"y" * 125):
        await (await connection.ping(payload))


async def fragments(talk: Talk) -> None:
    """Messages that are sent in parts come back."""
    connection = await talk.open("/echo")
    texts = (["a", "", "b"], ["é" * 40_000, "x"], ["", "", ""], ["é"] * 1_000)
    binaries = ([random.randbytes(1_000), b"", random.randbytes(70_000)],)
    for parts in texts:
        await connection.send(parts)
        same(await connection.recv(), "".join(parts), "joined")
    for pieces in binaries:
        await connection.send(pieces)
        same(await connection.recv(), b"".join(pieces), "joined")


async def bytes_on_the_wire(talk: Talk) -> None:
    """Compression makes them fewer."""
    connection = await talk.open("/echo")
    await ask(connection, "x" * 100_000)
    same(connection.bytes_read < 20_000, talk.deflate, "fewer")


STEPS: tuple[Callable[[Talk], Awaitable[None]], ...] = (
    compression,
    text,
    binary,
    subprotocol,
    heartbeat,
    server_closes,
    client_closes,
    broadcast,
    detached,
    ping,
    fragments,
    bytes_on_the_wire,
)


def name() -> str:
    """Return what this client is, with its version."""
    return f"websockets {version('websockets')}"


def run(base: str, deflate: bool, authority: Path) -> Results:
    """Have the conversation and return what each step has ended with (see `outcome`)."""
    trust = ssl.create_default_context(cafile=authority) if base.startswith("wss:") else None
    return asyncio.run(_all(base, trust, deflate))


async def _all(base: str, trust: ssl.SSLContext | None, deflate: bool) -> Results:
    results: Results = {}
    for step in STEPS:
        results[step.__name__.replace("_", " ")] = await _one(step, base, trust, deflate)
    return results


async def _one(
    step: Callable[[Talk], Awaitable[None]], base: str, trust: ssl.SSLContext | None, deflate: bool
) -> str | None:
    try:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
            await step(Talk(stack, base, trust, deflate))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
