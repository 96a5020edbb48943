"""Where Redis is: the URL, without its password wherever it is shown, and how to get an authenticated stream to it."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

__all__ = ("CONNECT_S", "SCHEMES", "Address", "AddressError")

CONNECT_S = 3.0
"""Seconds for one attempt to connect and to authenticate."""

SENTINEL_SCHEME = "redis+sentinel"
CLUSTER_SCHEME = "redis+cluster"
SCHEMES = ("redis", "rediss", "unix", SENTINEL_SCHEME, CLUSTER_SCHEME)

_PORT = 6_379
_SENTINEL_PORT = 26_379
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]+")
# uvloop raises RuntimeError when redis-py writes to a connection that the server has reset a moment ago.
_CANNOT_CONNECT = (OSError, RedisError, RuntimeError, TimeoutError, ssl.SSLError, ValueError)


class AddressError(Exception):
    """Redis cannot be reached or does not let us in; the message is fit to be shown."""


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis server, the servers that Sentinel has for a service, or a cluster.

    Args:
        shown: The address without user, password and options.
        prefix: What all names in Redis begin with.
        database: Its number.
        arguments: Those of the class of redis-py's connections.
        connection: That class.
        sentinels: Where Sentinel listens, if it is asked for the address.
        service: What it is asked for.
        seeds: Nodes of the cluster, if it is one: see `at` for the address of a node.
    """

    shown: str
    prefix: str
    database: int
    arguments: Mapping[str, Any] = field(repr=False)
    connection: type[AbstractConnection] = Connection
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    seeds: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Args:
            url: `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS, `unix://path[?db=database]`,
                `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database]` or
                `redis+cluster://[user:password@]host[:port][,host[:port]…]`. `?prefix=` is what all names in Redis
                begin with, `hubbub` without it; further options are those of redis-py.

        Raises:
            ValueError: It has another form; the message does not repeat it, since it may contain a password.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {parts.scheme!r}: give one of {', '.join(SCHEMES)}")
        options = dict(parse_qsl(parts.query))
        prefix = options.pop("prefix", "hubbub")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"prefix={prefix!r}: give letters, digits and _ . : -")
        parts = parts._replace(query=urlencode(options))
        try:
            return _READERS.get(parts.scheme, _direct)(parts, prefix)
        except (ValueError, TypeError, AttributeError):
            raise ValueError(
                f"the address of Redis ({_shown(parts)}) has not the form of a {parts.scheme} URL"
            ) from None

    def at(self, host: str, port: int) -> Address:
        """Return the address of one node of a cluster."""
        arguments = {**self.arguments, "host": host, "port": port}
        shown = f"{host}:{port} of {self.shown}"
        return replace(self, shown=shown, arguments=arguments, seeds=())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, authenticate and select the database; afterwards the streams are the caller's alone.

        redis-py does all that. It does not carry the commands later, since it connects again by itself in the middle,
        and whoever reads publications must know that some may be lost (redis-py#2417).

        Raises:
            AddressError: It has not succeeded within `CONNECT_S`.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = self.connection(**{**self.arguments, **await self._found()})
                return await _opened(connection)
        except TimeoutError:
            raise AddressError(f"no connection within {CONNECT_S:g} s") from None
        except _CANNOT_CONNECT as error:
            raise AddressError(self._without_password(str(error) or type(error).__name__)) from None

    async def _found(self) -> dict[str, Any]:
        if not self.sentinels:
            return {}
        # Without retries, of which redis-py would make ten before it asks the next one.
        bounds = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": Retry(NoBackoff(), 0)}
        sentinel = Sentinel(self.sentinels, sentinel_kwargs=bounds)  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinel.discover_master(self.service)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return {"host": host, "port": port}

    def _without_password(self, text: str) -> str:
        password = self.arguments.get("password")
        return text.replace(password, "…") if password else text


async def _opened(connection: AbstractConnection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and take the streams out of redis-py's object, which would close them when it is collected."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        reader, writer = connection._reader, connection._writer
        # What is there now would be lost with the change of hands: nothing, unless the server has hung up.
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            raise RedisConnectionError("closed by the server")
    except BaseException:
        if connection._writer is not None:
            connection._writer.transport.abort()
        raise
    finally:
        connection._reader = connection._writer = None
    return reader, writer


def _direct(parts: SplitResult, prefix: str) -> Address:
    pool = ConnectionPool.from_url(urlunsplit(parts))
    arguments = _ours(pool.connection_kwargs)
    return Address(_shown(parts), prefix, arguments["db"], arguments, pool.connection_class)


def _through_sentinel(parts: SplitResult, prefix: str) -> Address:
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError(parts.scheme)
    # Whatever else redis-py reads from a URL, it reads from this one; host and port are found later.
    direct = parts._replace(scheme="redis", netloc=f"{credentials}@nowhere", path=f"/{database or 0}")
    address = _direct(direct, prefix)
    sentinels = tuple(_host_and_port(host, _SENTINEL_PORT) for host in hosts.split(","))
    return Address(
        _shown(parts), prefix, address.database, address.arguments, address.connection, sentinels, unquote(service)
    )


def _of_cluster(parts: SplitResult, prefix: str) -> Address:
    credentials, _, hosts = parts.netloc.rpartition("@")
    if not hosts or parts.path not in ("", "/", "/0"):
        raise ValueError(parts.scheme)
    direct = parts._replace(scheme="redis", netloc=f"{credentials}@nowhere", path="/0")
    seeds = tuple(_host_and_port(host, _PORT) for host in hosts.split(","))
    return replace(_direct(direct, prefix), shown=_shown(parts), seeds=seeds)


_READERS = {SENTINEL_SCHEME: _through_sentinel, CLUSTER_SCHEME: _of_cluster}


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if parts.hostname is None:
        raise ValueError("no host")
    return parts.hostname, parts.port or port


def _shown(parts: SplitResult) -> str:
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _ours(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Switch off what redis-py does behind one's back: retries, health checks, pushed notifications, deadlines."""
    kept = {name: value for name, value in arguments.items() if not name.startswith(("maint_", "orig_", "himport_"))}
    kept.pop("max_connections", None)
    return {
        **kept,
        "db": int(arguments.get("db") or 0),
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "socket_timeout": CONNECT_S,
        "socket_connect_timeout": CONNECT_S,
        "decode_responses": False,
    }
