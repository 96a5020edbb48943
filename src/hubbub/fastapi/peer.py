"""Who asks to join or to publish, however it is connected: a WebSocket's connection, or a request for events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.datastructures import Address, Headers, QueryParams, State
from starlette.requests import Request
from starlette.types import Scope

__all__ = ("Peer", "RequestPeer")


class Peer(Protocol):
    """Who a channel's handlers deal with: what a `Connection` and a request for Server-Sent Events have in common."""

    @property
    def user(self) -> str | None:
        """Who it is, or `None` for nobody in particular."""

    @property
    def headers(self) -> Headers:
        """The headers of the handshake or the request."""

    @property
    def query_params(self) -> QueryParams:
        """The parameters of its query string."""

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters of its path."""

    @property
    def client(self) -> Address | None:
        """The client's host and port, as the ASGI server gives them."""

    @property
    def state(self) -> State:
        """A place for the application's own."""


class RequestPeer:
    """The peer behind an HTTP request, such as one for Server-Sent Events.

    Args:
        request: The request.
        user: Who it is, or `None` for nobody in particular.
    """

    __slots__ = ("_request", "_user")

    def __init__(self, request: Request, user: str | None = None) -> None:
        self._request = request
        self._user = user

    def __repr__(self) -> str:
        return f"<RequestPeer {self._request.url.path} user={self.user!r}>"

    @property
    def user(self) -> str | None:
        """Who it is, or `None` for nobody in particular."""
        return self._user

    def scope(self) -> Scope:
        """Return the scope of the request."""
        return self._request.scope

    def _ended(self) -> None:
        """Its connection is over: nothing of this holds it."""

    @property
    def headers(self) -> Headers:
        """The headers of the request."""
        return self._request.headers

    @property
    def query_params(self) -> QueryParams:
        """The parameters of its query string."""
        return self._request.query_params

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters of its path."""
        return self._request.path_params

    @property
    def client(self) -> Address | None:
        """The client's host and port, as the ASGI server gives them."""
        return self._request.client

    @property
    def state(self) -> State:
        """A place for the application's own, the request's."""
        return self._request.state
