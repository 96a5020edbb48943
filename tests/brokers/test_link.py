"""A connection to Redis that is opened again, whatever has happened to it."""

import asyncio
from typing import Any

import pytest

from hubbub.brokers.redis.address import Address, AddressError
from hubbub.brokers.redis.link import Journal, Link
from hubbub.brokers.redis.wire import Wire


class User:
    """What a link is for."""

    def opened(self, wire: Wire) -> None: ...

    def received(self, reply: Any) -> None: ...

    def writable(self) -> None: ...

    def lost(self, reason: str) -> None: ...


async def test_a_connection_that_uvloop_has_closed_meanwhile_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address.parse("redis://127.0.0.1:1/0")

    async def connect(self: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    monkeypatch.setattr(address.connection, "connect", connect)
    with pytest.raises(AddressError, match="the handler is closed"):
        await address.connect()


async def test_a_link_survives_what_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0
    again = asyncio.Event()

    async def connect(self: Address) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            again.set()
        raise KeyError("a bug")

    monkeypatch.setattr(Address, "connect", connect)
    address = Address.parse("redis://127.0.0.1:1/0")
    link = Link(address, User(), Journal(address))
    link.start()
    async with asyncio.timeout(10):
        await again.wait()
    await link.aclose()
    assert "was not expected" in caplog.text
