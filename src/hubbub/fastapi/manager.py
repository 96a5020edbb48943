"""The drop-in for the class that the FastAPI tutorial leaves everyone to copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import overload

from starlette.websockets import WebSocket, WebSocketState

from ..config import Limits, Outbox
from ..hub.admission import Admission
from ..hub.connection import CoreConnection
from ..hub.hub import EVERYONE
from .connection import Connection, core_of, socket_of
from .dependency import ConnectionDependency, known_connection
from .hub import Hub
from .runtime import Runtime

__all__ = ("ConnectionManager",)


class ConnectionManager:
    """The tutorial's `ConnectionManager`, with the same methods, for many clients that come, stall and vanish.

    Replace the class definition by `from hubbub import ConnectionManager`; nothing else changes. A dead or stalled
    client neither raises in `broadcast` nor delays the others, and one whose endpoint forgets `disconnect` is not kept.

    Args:
        broker: Where it publishes, as for `Hub`.
        max_connections: Open connections at most; the next handshake is refused. `None` means as many as files can be
            open.
        max_connections_status: HTTP status of that refusal.
        max_connections_detail: Its text.
        allowed_origins: Origins whose pages may connect beside the application's own, as for `Hub`.
        limits: How much it takes from its clients, as for `Hub`.
        outbox: What it keeps for a client that reads slowly, as for `Hub`.

    Raises:
        TypeError: `allowed_origins` is a single string.
        ValueError: A value is not one of those above.
    """

    def __init__(
        self,
        broker: str = "memory://",
        *,
        max_connections: int | None = None,
        max_connections_status: int = 503,
        max_connections_detail: str = "Too many connections",
        allowed_origins: Sequence[str] = (),
        limits: Limits = Limits(),
        outbox: Outbox = Outbox(),
    ) -> None:
        if not 400 <= max_connections_status <= 599:
            raise ValueError(f"max_connections_status={max_connections_status!r}: give an HTTP status from 400 to 599")
        self._hub = Hub(broker, limits=limits, outbox=outbox, allowed_origins=allowed_origins)
        counted = replace(limits, connections=max_connections, connections_per_user=None, connections_per_address=None)
        self._runtime = runtime = self._hub._runtime
        self._endpoint = ConnectionDependency(
            runtime,
            limits=limits,
            outbox=outbox,
            on_invalid="reply",
            admission=lambda: Admission(counted, status=max_connections_status, detail=max_connections_detail),
        )

    @property
    def hub(self) -> Hub:
        """The hub behind it: its statistics, its lifespan, and all that the tutorial's class does not have."""
        return self._hub

    @property
    def active_connections(self) -> Sequence[WebSocket]:
        """The sockets that hear a broadcast, live, in the order in which they came."""
        return _ActiveConnections(self._runtime)

    @active_connections.setter
    def active_connections(self, value: object) -> None:
        raise AttributeError("active_connections is kept by the manager: give what you keep yourself another name")

    async def connect(self, websocket: WebSocket, *, user: str | None = None) -> None:
        """Accept the handshake and let the socket hear broadcasts.

        Args:
            websocket: The endpoint's socket, not accepted yet.
            user: Who is connected, for `manager.hub.send(user, …)` and `manager.hub.disconnect(user)`.

        Raises:
            Denied: A limit is reached or the origin is foreign; leave it uncaught and the client gets the response.
            RuntimeError: The handshake has been answered already.
        """
        if websocket.application_state is not WebSocketState.CONNECTING:
            raise RuntimeError(
                "the socket has been accepted already: connect it once, to one manager, and not websocket.accept()"
            )
        await self._endpoint.connect(websocket).accept(user=user)

    def disconnect(self, websocket: WebSocket) -> None:
        """Let the socket hear no more broadcasts; does not close it. One that is gone already is no error."""
        connection = known_connection(self._runtime, websocket)
        if connection is not None and self._runtime.core is not None:
            self._runtime.core.leave(core_of(connection), EVERYONE)

    async def send_personal_message(self, message: object, websocket: WebSocket) -> None:
        """Send a message to one socket: `str` as text, `bytes` as binary, anything else as JSON text.

        Raises:
            RuntimeError: The socket was never connected to this manager.
            TypeError, ValueError: The message has no JSON or UTF-8 form, or `websocket` is none.
            WebSocketDisconnect: It is the endpoint's own socket, and it has ended.
        """
        if not isinstance(websocket, WebSocket):
            raise TypeError(f"send_personal_message(message, websocket): {websocket!r} is not a WebSocket")
        connection = known_connection(self._runtime, websocket)
        if connection is None:
            raise RuntimeError("the manager does not know this socket: await manager.connect(websocket) first")
        await connection.send(message)

    async def broadcast(self, message: object, *, exclude: WebSocket | Iterable[WebSocket] | None = None) -> None:
        """Send a message to every active connection, encoded once.

        Args:
            message: As for `send_personal_message`.
            exclude: A socket, or several, that are left out.

        Raises:
            TypeError: The message has no JSON form, or `exclude` names something else than sockets.
            ValueError: The message has no UTF-8 form, or contains itself.
        """
        sockets = [] if exclude is None else [exclude] if isinstance(exclude, WebSocket) else list(exclude)
        for websocket in sockets:
            if not isinstance(websocket, WebSocket):
                raise TypeError(f"exclude: {websocket!r} is not a WebSocket")
        connections = (known_connection(self._runtime, websocket) for websocket in sockets)
        await self._hub.broadcast(message, exclude=[known for known in connections if known is not None])


class _ActiveConnections(Sequence[WebSocket]):
    """A live view; iterating is safe while connections come and go."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _present(self) -> tuple[CoreConnection, ...]:
        return self._runtime.core.subscribers(EVERYONE) if self._runtime.core is not None else ()

    def _sockets(self) -> list[WebSocket]:
        facades = (connection.facade for connection in self._present())
        sockets = (socket_of(facade) for facade in facades if isinstance(facade, Connection))
        return [socket for socket in sockets if socket is not None]

    def __len__(self) -> int:
        return len(self._sockets())

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(self._sockets())

    def __contains__(self, websocket: object) -> bool:
        connection = known_connection(self._runtime, websocket) if isinstance(websocket, WebSocket) else None
        core = self._runtime.core
        return connection is not None and core is not None and core.hears(core_of(connection), EVERYONE)

    @overload
    def __getitem__(self, index: int) -> WebSocket: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[WebSocket]: ...
    def __getitem__(self, index: int | slice) -> WebSocket | Sequence[WebSocket]:
        return self._sockets()[index]

    def __repr__(self) -> str:
        return repr(self._sockets())
