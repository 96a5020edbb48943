"""The dependency behind `Depends(hub)`: from a WebSocket to its connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from ..config import Limits, Outbox
from ..errors import Denied
from ..hub.admission import Admission
from ..hub.connection import CoreConnection, Settings, current_connections
from ..hub.hub import CoreHub
from ..interfaces import TransportSettings
from ..model import OnInvalid
from .connection import Connection, core_of
from .endpoint import EndpointEnd
from .families import Family
from .runtime import Runtime
from .typed import MessageTypes, declared_types

__all__ = ("ConnectionDependency", "known_connection")

_SCOPE_KEY = "hubbub"


class ConnectionDependency:
    """A dependency that gives the connection: the hub's own, or one endpoint's with settings of its own.

    Args:
        runtime: The hub of the connections.
        limits: Limits of its connections.
        outbox: Outbox of its connections.
        on_invalid: What to do with an invalid message.
        admission: Makes the counts that hold beside the hub's, if the endpoint has its own.
        is_default: Whether it leaves a connection as another endpoint has set it.

    Attributes:
        limits, outbox, on_invalid, is_default: As given.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        limits: Limits,
        outbox: Outbox,
        on_invalid: OnInvalid,
        admission: Callable[[], Admission] | None = None,
        is_default: bool = False,
    ) -> None:
        if on_invalid not in get_args(OnInvalid):
            raise ValueError(f"on_invalid={on_invalid!r}: use one of {', '.join(get_args(OnInvalid))}")
        self._runtime = runtime
        self.limits = limits
        self.outbox = outbox
        self.on_invalid = on_invalid
        self._admission = admission
        self.is_default = is_default
        self._settings: tuple[CoreHub, Settings] | None = None

    async def __call__(self, connection: HTTPConnection) -> Connection[Any, Any]:
        """Give the connection of the WebSocket that is being handled. Called by FastAPI, through `Depends`."""
        if not isinstance(connection, WebSocket):
            raise RuntimeError(
                "Depends(hub) is for WebSocket routes: in an HTTP route use the hub itself, hub.publish(…)"
            )
        return self.connect(connection)

    def connect(self, websocket: WebSocket) -> Connection[Any, Any]:
        """Return the connection of `websocket`, a new one at the first call.

        Raises:
            Denied: The page that connects is of a foreign origin.
            RuntimeError: The connection is accepted, and this is an endpoint with settings of its own.
        """
        core = self._runtime.start()
        connection = known_connection(self._runtime, websocket)
        if connection is None:
            return self._new_connection(core, websocket)
        if not self.is_default:
            if core_of(connection).is_admitted:
                raise RuntimeError("the connection is accepted already: nothing may use it before hub.connection(…)")
            core_of(connection).settings = self.settings_of(core)
        return connection

    def _new_connection(self, core: CoreHub, websocket: WebSocket) -> Connection[Any, Any]:
        types = self._runtime.types_of(websocket.scope, Connection)
        address = websocket.client.host if websocket.client is not None else None
        core_connection = CoreConnection(core, self.settings_of(core), address)
        end = EndpointEnd(core_connection, core, websocket)
        connection: Connection[Any, Any] = Connection(
            core, core_connection, websocket, types, end.refusal, self._runtime.families
        )
        core_connection.facade = connection
        self._runtime.families.app = websocket.scope.get("app")
        known = websocket.scope.get(_SCOPE_KEY, ())
        websocket.scope[_SCOPE_KEY] = (*known, (self._runtime, connection))
        current_connections.set((*current_connections.get(), core_connection.id))
        try:
            self._runtime.origins.check(websocket.scope.get("scheme", "ws"), websocket.scope["headers"])
        except Denied as denied:
            raise end.refusal(denied) from None
        return connection

    def types_of(self, dependant: Dependant) -> MessageTypes:
        """Return the `Connection[In, Out]` that an endpoint with this dependency declares.

        Raises:
            TypeError: Two places declare different types.
        """
        return declared_types(dependant, self._runtime, Connection)

    @property
    def families(self) -> Iterable[Family]:
        """The families of channels of the hub."""
        return self._runtime.families

    @property
    def hub_limits(self) -> Limits:
        """The limits of the hub, of which those that count connections hold beside its own."""
        return self._runtime.limits

    def settings_of(self, core: CoreHub) -> Settings:
        """Return what holds for its connections in a core."""
        if self._settings is None or self._settings[0] is not core:
            own = () if self._admission is None else (self._admission(),)
            self._settings = (
                core,
                Settings(
                    self.limits,
                    self.outbox,
                    self.on_invalid,
                    (core.admission, *own),
                    TransportSettings(
                        message_bytes=self.limits.message_bytes,
                        message_fragments=self.limits.message_fragments,
                        heartbeat=self._runtime.heartbeat,
                        drain=self._runtime.drain,
                    ),
                ),
            )
        return self._settings[1]


def known_connection(runtime: Runtime, websocket: WebSocket) -> Connection[Any, Any] | None:
    """Return the connection that a hub has for a socket, if it has one."""
    known: tuple[tuple[Runtime, Connection[Any, Any]], ...] = websocket.scope.get(_SCOPE_KEY, ())
    return next((connection for of, connection in known if of is runtime), None)
