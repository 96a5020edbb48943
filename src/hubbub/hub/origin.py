"""Whether a browser's page may open a connection here.

Browsers let any page open a WebSocket to any host and send the user's cookies with it; the `Origin` header is all that
tells the pages apart (RFC 6455 section 10.2). The rule compares it with the `Host` header, as text, and never with a
URL that was put together from headers.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import idna

from ..errors import Denied

__all__ = ("OriginPolicy",)

logger = logging.getLogger("hubbub")

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\x00-\x20\x7f/\\?#@:\[\]]+)(:(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9_.-]+", re.IGNORECASE)
_LAST_PORT = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_LOGGED = 200
Headers = Iterable[tuple[bytes, bytes]]


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None


class OriginPolicy:
    """Refuses handshakes from pages of foreign origins.

    Args:
        allowed: Origins that may connect beside the application's own, such as `https://app.example.com`. `*` lets
            everyone in, `null` lets in pages without an origin (sandboxed frames, files).

    Raises:
        TypeError: `allowed` is a single string.
        ValueError: An entry is not an origin.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        if isinstance(allowed, str):
            raise TypeError(f"allowed_origins={allowed!r}: give a tuple of origins, such as ({allowed!r},)")
        self._everyone = "*" in allowed
        self._null = "null" in allowed
        self._allowed = {_configured(entry) for entry in allowed if entry not in ("*", "null")}

    def check(self, scheme: str, headers: Headers) -> None:
        """Let a handshake pass.

        Args:
            scheme: `ws` or `wss`, as the ASGI scope has it.
            headers: The request's headers, names in lower case.

        Raises:
            Denied: The page is of a foreign origin.
        """
        if self._everyone:
            return
        origins = [value for name, value in headers if name == b"origin"]
        if not origins:
            return  # not a browser
        hosts = [value for name, value in headers if name == b"host"]
        if len(origins) == 1 and len(hosts) <= 1 and self._admits(origins[0], hosts[0] if hosts else b"", scheme):
            return
        logger.warning(
            "refused a WebSocket from origin %r to host %r: list the origin in allowed_origins, or let the proxy in "
            "front pass the Host header on",
            _text(b", ".join(origins))[:_LONGEST_LOGGED],
            _text(b", ".join(hosts))[:_LONGEST_LOGGED],
        )
        raise Denied("This origin may not connect", limit="allowed_origins")

    def _admits(self, header: bytes, host: bytes, scheme: str) -> bool:
        text = _text(header)
        if text == "null":
            return self._null
        origin = _parse(text)
        return origin is not None and (origin in self._allowed or _is_own(origin, _text(host), scheme))


def _configured(entry: str) -> _Origin:
    match = _ORIGIN.fullmatch(entry)
    host = _domain(match["host"]) if match is not None else None
    origin = _origin(match, host) if match is not None and host is not None else None
    if origin is None or origin.scheme in ("ws", "wss"):  # a page's origin is where it came from
        raise ValueError(
            f"allowed_origins: {entry!r} is not an origin; write scheme://host or scheme://host:port without a path or "
            "a wildcard, '*' alone for everyone"
        )
    return origin


def _domain(host: str) -> str | None:
    """Return a host as browsers write it in a header, or `None` if it is none."""
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            return None
    return host if _HOST.fullmatch(host) else None


def _text(header: bytes) -> str:
    return header.decode("utf-8", "backslashreplace").strip(" \t")


def _parse(text: str) -> _Origin | None:
    """Return the origin that `text` names, or `None` if it names none (RFC 6454 section 7).

    A browser writes a host in ASCII, so another one is compared as it is.
    """
    match = _ORIGIN.fullmatch(text)
    return None if match is None else _origin(match, match["host"])


def _origin(match: re.Match[str], host: str) -> _Origin | None:
    scheme = match["scheme"].lower()
    port = _DEFAULT_PORTS.get(scheme) if match["port"] is None else int(match["port"])
    return None if port is not None and port > _LAST_PORT else _Origin(scheme, host.lower(), port)


def _is_own(origin: _Origin, host_header: str, scheme: str) -> bool:
    if origin.scheme not in ("http", "https") or (origin.scheme == "http" and scheme == "wss"):
        return False
    host = _parse(f"{origin.scheme}://{host_header}")
    if host is None or host.port != origin.port:
        return False
    return host.host == origin.host or (_is_loopback(host.host) and _is_loopback(origin.host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return address == ipaddress.IPv6Address("::1") or address in ipaddress.ip_network("127.0.0.0/8")
