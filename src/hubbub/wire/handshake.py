"""The opening handshake, from the server's side (RFC 6455 section 4.2): the request's head in, an answer's head out.

A fault in the request is a `Rejected` with an HTTP status and a reason that names the header. Whatever the bytes are,
nothing else is raised.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

__all__ = (
    "ExtensionOffer",
    "Headers",
    "Opening",
    "Rejected",
    "Request",
    "accept_key",
    "is_field",
    "open_handshake",
    "parse_head",
)

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in their order, names in lower case."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PARAMETER = re.compile(rb"(%b)(?:[\t ]*=[\t ]*(?:(%b)|\"(%b)\"))?" % ((_TOKEN.pattern,) * 3))
_TARGET = re.compile(rb"[\x21-\x7e]+")
_MOST_EXTENSIONS = 16
_SAME = {
    name: name
    for name in (
        b"accept-encoding accept-language authorization cache-control connection cookie host origin pragma "
        b"sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version upgrade user-agent "
        b"x-forwarded-for x-forwarded-proto x-real-ip"
    ).split()
}
"""The names that nearly all requests have, one object of each for all connections."""


class Rejected(Exception):
    """The request is no WebSocket handshake that can be accepted.

    Args:
        status: HTTP status of the answer.
        reason: What is wrong, as its body.
        headers: More header fields of the answer.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: Headers = ()) -> None:
        super().__init__(f"{status.value}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers


class Request(NamedTuple):
    """The head of an HTTP/1.1 request."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of a header field, in order."""
        return [value for key, value in self.headers if key == name]


class ExtensionOffer(NamedTuple):
    """An extension that the client offers, with its parameters (section 9.1)."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]


class Opening(NamedTuple):
    """What a valid handshake asks for."""

    accept: bytes
    subprotocols: tuple[str, ...]
    extensions: tuple[ExtensionOffer, ...]


def parse_head(head: bytes) -> Request:
    """Read the head of a request.

    Args:
        head: From the request line to the empty line, both included.

    Raises:
        Rejected: It is not one (RFC 9112 sections 3 and 5).
    """
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise _bad("the request line is malformed")
    return Request(parts[0], parts[1], parts[2], tuple(map(_field, lines[1:])))


def open_handshake(request: Request) -> Opening:
    """Check a request and return what it asks for.

    Raises:
        Rejected: It is no handshake, or asks for another version of the protocol (426).
    """
    if request.method != b"GET":
        raise _bad("a WebSocket handshake is a GET request")
    if request.version != b"HTTP/1.1":
        raise _bad("a WebSocket handshake needs HTTP/1.1")
    if len(request.all(b"host")) != 1:
        raise _bad("there must be one Host header")
    if b"websocket" not in _lowered(request.all(b"upgrade")):
        raise _bad("the Upgrade header does not ask for websocket")
    if b"upgrade" not in _lowered(request.all(b"connection")):
        raise _bad("the Connection header does not ask for an upgrade")
    if request.all(b"sec-websocket-version") != [b"13"]:
        reason = "the Sec-WebSocket-Version header must be 13"
        raise Rejected(HTTPStatus.UPGRADE_REQUIRED, reason, ((b"sec-websocket-version", b"13"),))
    return Opening(
        accept_key(_key(request.all(b"sec-websocket-key"))),
        _subprotocols(request.all(b"sec-websocket-protocol")),
        tuple(_extensions(request.all(b"sec-websocket-extensions"))),
    )


def is_field(name: bytes, value: bytes) -> bool:
    """Return whether a header field can stand in a head (RFC 9110 sections 5.1 and 5.5)."""
    return _TOKEN.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def accept_key(key: bytes) -> bytes:
    """Return what `Sec-WebSocket-Accept` answers to `Sec-WebSocket-Key` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _bad(reason: str) -> Rejected:
    return Rejected(HTTPStatus.BAD_REQUEST, reason)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not is_field(name, value):
        raise _bad("a header is malformed")
    name = name.lower()
    return _SAME.get(name, name), value


def _items(values: Iterable[bytes]) -> Iterable[bytes]:
    """Split comma-separated values, leaving out empty elements (RFC 9110 section 5.6.1)."""
    return (item for value in values for part in value.split(b",") if (item := part.strip(b" \t")))


def _lowered(values: Iterable[bytes]) -> set[bytes]:
    return {item.lower() for item in _items(values)}


def _key(values: list[bytes]) -> bytes:
    if len(values) != 1:
        raise _bad("there must be one Sec-WebSocket-Key header")
    try:
        nonce = base64.b64decode(values[0], validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise _bad("the Sec-WebSocket-Key header must be 16 bytes in base64")
    return values[0]


def _subprotocols(values: list[bytes]) -> tuple[str, ...]:
    names = tuple(_items(values))
    if len(set(names)) != len(names) or not all(map(_TOKEN.fullmatch, names)):
        raise _bad("the Sec-WebSocket-Protocol header must list different tokens")
    return tuple(name.decode("ascii") for name in names)


def _extensions(values: list[bytes]) -> Iterable[ExtensionOffer]:
    # A quoted value could hold a comma; no registered extension has such a parameter, and a cut one is no token.
    for count, item in enumerate(_items(values), 1):
        name, *rest = (part.strip(b" \t") for part in item.split(b";"))
        if not _TOKEN.fullmatch(name) or count > _MOST_EXTENSIONS:
            raise _bad("the Sec-WebSocket-Extensions header is malformed")
        yield ExtensionOffer(name.decode("ascii").lower(), tuple(map(_parameter, rest)))


def _parameter(text: bytes) -> tuple[str, str | None]:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise _bad("the Sec-WebSocket-Extensions header is malformed")
    name, plain, quoted = match.groups()
    value = plain or quoted
    return name.decode("ascii").lower(), value.decode("ascii") if value else None
