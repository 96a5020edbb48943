"""The connection that an endpoint gets from `Depends(hub)`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, cast

from starlette.datastructures import Address, Headers, QueryParams, State
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from typing_extensions import TypeVar

from ..errors import Denied, InvalidMessage
from ..hub.connection import ConnectionEnded, CoreConnection, Phase
from ..hub.fanout import prepare
from ..hub.hub import CoreHub, check_channel
from ..hub.message import Form
from ..interfaces import Transport
from ..model import CloseCode, Data, Joined, Position
from ..server.fallback import AsgiTransport
from ..wire.frames import CLOSE_CODES, REASON_BYTES, shortened
from ..wire.prepared import PreparedFrame
from .endpoint import close_for
from .records import Publication, UserPresence, as_json, by_user, publications
from .typed import UNTYPED, MessageTypes, validates_outgoing

if TYPE_CHECKING:
    from starlette.types import Message, Scope

__all__ = ("Connection", "Exclude", "NamedChannel", "Permission", "channel_name", "check_close", "core_of", "socket_of")

In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)

_NOTHING: Any = object()
_CONNECTING = Phase.CONNECTING


class NamedChannel(Protocol):
    """What has a channel's name: a `Channel`."""

    @property
    def name(self) -> str:
        """The name."""


def channel_name(channel: str | NamedChannel) -> str:
    """Return the name of a public channel.

    Raises:
        ValueError: The name is empty or begins with `$`.
    """
    name: Any = channel if isinstance(channel, str) else getattr(channel, "name", channel)
    check_channel(name)
    return str(name)


def check_close(code: int, reason: str) -> None:
    """Refuse a close that WebSocket cannot say (RFC 6455 sections 5.5 and 7.4).

    Raises:
        ValueError: The code is not one to send, or the reason is too long.
    """
    if code not in CLOSE_CODES:
        raise ValueError(f"close code {code!r}: use 1000, 1001, 1003, 1007 to 1014, or your own from 4000 to 4999")
    if len(reason.encode()) > REASON_BYTES:
        raise ValueError(f"close reason of {len(reason.encode())} bytes: at most {REASON_BYTES} fit")


class Permission(Protocol):
    """What the families of channels say."""

    async def may_join(self, channel: str, peer: Connection[Any, Any]) -> None:
        """Raise what the family's handler raises."""

    async def to_publish(self, channel: str, peer: Connection[Any, Any], message: object) -> object:
        """Return what is to be published, or raise what the family's handler raises."""

    async def may_read(self, channel: str, peer: Connection[Any, Any]) -> None:
        """Raise what the family's handler for history raises."""

    async def may_see(self, channel: str, peer: Connection[Any, Any]) -> None:
        """Raise what the family's handler for presence raises."""

    @property
    def needs_scope(self) -> bool:
        """Whether a handler reads the handshake."""


class Connection(Generic[In, Out]):
    """One WebSocket client, as its endpoint sees it. `Depends(hub)` gives it; it is not built by hand.

    It is accepted at its first use (send, receive, join) or by `accept`; until then a dependency can still refuse the
    handshake with an HTTP status. `async for message in connection` ends when the client is gone, however it went.

    With `Connection[In, Out]` what comes in is JSON validated as `In` by Pydantic, and in development what goes out is
    held against `Out`. `Connection[str]` and `Connection[bytes]` take text or binary messages only.

    """

    __slots__ = (
        "__weakref__",
        "_acceptance",
        "_asked",
        "_checks_outgoing",
        "_client",
        "_core",
        "_hub",
        "_permission",
        "_refusal",
        "_state",
        "_types",
        "_websocket",
    )

    def __init__(
        self,
        hub: CoreHub,
        core: CoreConnection,
        websocket: WebSocket,
        types: MessageTypes,
        refusal: Callable[[Denied], Exception],
        permission: Permission,
    ) -> None:
        self._websocket: WebSocket | weakref.ref[WebSocket] | None = websocket
        self._hub = hub
        self._core = core
        self._types = types
        self._permission = permission
        self._refusal: Callable[[Denied], Exception] | None = refusal
        self._checks_outgoing = types.outgoing is not Any and validates_outgoing(websocket.scope)
        self._asked = False
        self._acceptance: asyncio.Future[None] | None = None
        self._client: tuple[str, int] | None = websocket.scope.get("client")
        self._state: State | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} {self._core.phase.value}>"

    # What is known of it

    @property
    def websocket(self) -> WebSocket:
        """Starlette's `WebSocket`. Once the hub has accepted, its sends and receives go through the hub.

        Raises:
            RuntimeError: The endpoint has returned and the connection is detached or over: it went with the endpoint.
        """
        websocket = socket_of(self)
        if websocket is None:
            raise RuntimeError(
                "the endpoint has returned, and what came with the handshake is not kept when the connection is "
                "detached or over: take what you need of it into connection.state before"
            )
        return websocket

    @property
    def id(self) -> str:
        """A random name of this connection, its key in `hub.connections`."""
        return self._core.id

    @property
    def user(self) -> str | None:
        """Who is connected, or `None` for nobody in particular. Can be set until the connection is accepted."""
        return self._core.user

    @user.setter
    def user(self, user: str | None) -> None:
        self._core.user = user

    @property
    def is_open(self) -> bool:
        """Whether it is accepted and has not ended."""
        return self._core.phase is Phase.OPEN

    @property
    def close_code(self) -> int | None:
        """The close code that it ended with, 1006 for a client that vanished; `None` while it has not ended."""
        return self._core.close_code if self._core.phase in (Phase.CLOSING, Phase.CLOSED) else None

    @property
    def close_reason(self) -> str:
        """The reason that came with the close code."""
        return self._core.close_reason

    @property
    def is_detached(self) -> bool:
        """Whether it outlives its endpoint (see `detach`)."""
        return self._core.is_detached

    @property
    def headers(self) -> Headers:
        """The headers of the handshake."""
        return self.websocket.headers

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the query string."""
        return self.websocket.query_params

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters of the path."""
        return self.websocket.path_params

    @property
    def client(self) -> Address | None:
        """The client's host and port, as the ASGI server gives them."""
        return None if self._client is None else Address(*self._client)

    @property
    def state(self) -> State:
        """A place for the application's own, as on a `Request`."""
        if self._state is None:
            websocket = socket_of(self)
            self._state = State() if websocket is None else websocket.state
        return self._state

    @property
    def round_trip_s(self) -> float | None:
        """Seconds that the last answer to the heartbeat took; `None` before the first, and on servers of others."""
        return None if self._core.phase is Phase.CONNECTING else self._core.transport.round_trip_s

    @property
    def channels(self) -> frozenset[str]:
        """The names of the channels that it has joined."""
        return self._hub.channels_of(self._core)

    # The handshake

    async def accept(
        self,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] | Mapping[str, str] | None = None,
        *,
        user: str | None = None,
    ) -> None:
        """Accept the handshake.

        Args:
            subprotocol: One of those that the client offers, in `connection.websocket["subprotocols"]`.
            headers: More headers of the answer, such as cookies.
            user: Who is connected; leaves `connection.user` as it is where not given.

        Raises:
            Denied: A limit is reached or the hub is shutting down; leave it uncaught and the client gets the response.
            RuntimeError: The handshake has been answered already.
            ValueError: The client does not offer the subprotocol, a header cannot be encoded, or the user is empty.
            WebSocketDisconnect: The client is gone.
        """
        if self._asked or self.websocket.application_state is not WebSocketState.CONNECTING:
            raise RuntimeError(
                "the handshake has been answered already: call connection.accept() once, and not websocket.accept()"
            )
        if subprotocol is not None and subprotocol not in self.websocket.scope.get("subprotocols", ()):
            raise ValueError(
                f"subprotocol {subprotocol!r}: the client offers {self.websocket.scope.get('subprotocols')}"
            )
        raw_headers = _raw_headers(headers)
        if user is not None:
            self.user = user
        try:
            self._hub.admit(self._core)
        except Denied as denied:
            raise self._refused(denied) from None
        self._asked = True
        try:
            await self._hub.arrive(self._core)
            await self.websocket.accept(subprotocol, raw_headers)
        except BaseException as error:
            if isinstance(error, Denied):  # over a limit on all workers: nothing has been answered yet
                self._asked = False
                self._core.refuse()
                raise self._refused(error) from None
            self._core.fail()
            if isinstance(error, OSError):  # how ASGI servers say that the client is gone (ASGI 2.4)
                raise ConnectionEnded(CloseCode.ABNORMAL, "") from None
            raise
        else:
            self._take_over()
        finally:
            if self._acceptance is not None:
                self._acceptance.set_result(None)
                self._acceptance = None

    def _refused(self, denied: Denied) -> Exception:
        return denied if self._refusal is None else self._refusal(denied)

    async def _accepted(self) -> None:
        if not self._asked:
            await self.accept()
        elif self._core.phase is Phase.CONNECTING:  # another task accepts
            if self._acceptance is None:
                self._acceptance = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._acceptance)

    def _take_over(self) -> None:
        """Put the connection on its transport: the server's own, or the fallback over ASGI.

        From here on the socket's `send` and `receive` go through the hub too: one order, one set of limits.
        """
        websocket = self.websocket
        extensions: Mapping[str, Any] = websocket.scope.get("extensions") or {}
        transport: Transport | None = extensions.get("hubbub")
        if transport is None:
            transport = AsgiTransport(websocket._receive, websocket._send)
        else:
            self._core.ends_unseen = False
        websocket._receive = self._asgi_receive
        websocket._send = self._asgi_send
        self._core.open(transport)
        if self._hub.is_draining:
            self._core.end(CloseCode.SERVICE_RESTART)

    # Messages

    async def receive(self) -> In:
        """Return the client's next message. At the first use it accepts, and raises what `accept` raises.

        Raises:
            InvalidMessage: It is not what `In` says, under `on_invalid="raise"`.
            RuntimeError: Another task is receiving already.
            WebSocketDisconnect: The connection has ended; it carries the close code.
        """
        try:
            return await self.__anext__()
        except StopAsyncIteration as end:
            raise cast(Exception, end.__cause__) from None

    def _decode(self, data: Data) -> tuple[Any, PreparedFrame | None]:
        """Return the message; or `_NOTHING` where it is none, and what is to be answered to that, if anything.

        Raises:
            InvalidMessage: It is not what `In` says, under `on_invalid="raise"`.
        """
        types = self._types
        if not types.takes(data):
            self._hub.counters.invalid_messages += 1
            expected = "text expected" if isinstance(data, bytes) else "binary expected"
            self._core.end(CloseCode.UNSUPPORTED_DATA, expected)
            return _NOTHING, None
        try:
            return types.decode(data), None
        except InvalidMessage as invalid:
            self._hub.counters.invalid_messages += 1
            match self._core.settings.on_invalid:
                case "raise" if not self._core.is_detached:  # nobody could catch it there
                    raise
                case "raise" | "close":
                    self._core.end(invalid.close_code, "invalid_message")
                    return _NOTHING, None
                case _:
                    return _NOTHING, prepare({"type": "error", "code": "invalid_message", "errors": invalid.errors})

    def __aiter__(self) -> AsyncIterator[In]:
        return self

    async def __anext__(self) -> In:
        core = self._core
        try:
            if core.phase is _CONNECTING:
                await self._accepted()
            while True:
                # Not `core.take()`: its frame would stay while an endpoint waits, 144 bytes for each connection.
                data = core.take_now()
                while data is None:
                    receiver = core.expect()
                    try:
                        data = await receiver
                    except asyncio.CancelledError:
                        core.give_back(receiver)
                        raise
                if self._types is UNTYPED:
                    return cast(In, data)
                message, answer = self._decode(data)
                if message is not _NOTHING:
                    return cast(In, message)
                if answer is not None:
                    await core.send_frame(answer)
        except WebSocketDisconnect as ended:
            raise StopAsyncIteration from ended

    async def send(self, message: Out) -> None:
        """Send a message to this client: `str` as text, `bytes` as binary, anything else as JSON text.

        Returns when the message is in line. Waits when the client is slow and the outbox has no room; after ten seconds
        of that the connection is closed with 3008. At the first use it accepts, and raises what `accept` raises.

        Raises:
            TypeError: The message has no JSON form, or in development is not what `Out` says.
            ValueError: The message has no UTF-8 form.
            WebSocketDisconnect: The connection has ended. Only the connection's own endpoint, and the tasks it started,
                hear of that; anyone else's send to a client that is gone is counted and is no error.
        """
        if isinstance(message, str) and message.isascii():
            frame = PreparedFrame(message, len(message))
        else:
            frame = prepare(message)
        if self._checks_outgoing:
            self._types.check(message)
        if self._core.send_now(frame):
            return
        if self._core.phase is Phase.CONNECTING:
            await self._accepted()
        await self._core.send_frame(frame)

    async def join(
        self,
        channel: str | NamedChannel,
        since: Position | None = None,
        *,
        envelope: bool = False,
        info: Any = None,
    ) -> Joined:
        """Hear what is published on a channel from now on; joining twice is joining once, unless it is with a position.

        The family's `on_join` is asked first. At the first use this accepts, and raises what `accept` raises. With a
        position the client is sent what it has missed, in order and before anything newer; where history does not reach
        back so far it is sent nothing of that, and the answer is `recovered=False`.

        Args:
            channel: Its name, or a `Channel`.
            since: The position of the last publication that the client has received.
            envelope: Deliver each publication as JSON with its position, `{"channel", "epoch", "offset", "data"}`.
                Binary data is Base64 then, with `"encoding": "base64"`. Where the channel has history the client is
                told where it is, `{"channel", "epoch", "offset", "recovered"}`: after what it has missed, and when
                something is lost later. `Envelope` is the type of all that.
            info: What `hub.presence` says of this connection; anything that has a JSON form.

        Raises:
            BrokerUnavailable: The broker is away, and a position was given.
            Denied: The family's handler refuses, the name is too long, or the connection has joined as many channels as
                it may.
            RuntimeError: Another task is joining the channel with this connection.
            TypeError: `info` has no JSON form.
            ValueError: The name is empty or begins with `$`; or a position is given for a channel without history.
            WebSocketDisconnect: The connection has ended.
        """
        name = channel_name(channel)
        if since is not None and not isinstance(since, Position):
            raise TypeError(f"since={since!r:.100}: give a Position, such as Position.parse(text)")
        info = as_json(info)
        await self._permission.may_join(name, self)
        if self._core.phase is Phase.CONNECTING:
            await self._accepted()
        if self._core.phase is not Phase.OPEN:
            raise ConnectionEnded(self._core.close_code, self._core.close_reason)
        form = Form.ENVELOPE if envelope else Form.PLAIN
        return await self._hub.join(self._core, name, since=since, form=form, info=info)

    async def publish(
        self, channel: str | NamedChannel, message: object, *, idempotency_key: str | None = None
    ) -> Position | None:
        """Publish on a channel on behalf of this client: the family's `on_publish` is asked, and may change it.

        Args:
            channel: Its name, or a `Channel`.
            message: As for `Hub.publish`; as the client has sent it for a handler that validates it.
            idempotency_key: As for `Hub.publish`.

        Returns:
            The position, where the channel has history.

        Raises:
            Denied: The handler refuses.
            InvalidMessage: The message is not what the handler takes.
            BrokerUnavailable, TypeError, ValueError: As for `Hub.publish`.
            WebSocketDisconnect: The connection has ended.
        """
        name = channel_name(channel)
        if self._core.phase is Phase.CONNECTING:
            await self._accepted()
        if self._core.phase is not Phase.OPEN:
            raise ConnectionEnded(self._core.close_code, self._core.close_reason)
        message = await self._permission.to_publish(name, self, message)
        return await self._hub.publish(name, message, idempotency_key=idempotency_key)

    async def history(
        self,
        channel: str | NamedChannel,
        since: Position | None = None,
        limit: int | None = None,
        *,
        reverse: bool = False,
    ) -> Sequence[Publication]:
        """Read a channel's history on behalf of this client: as `Hub.history`, after `on_history` is asked.

        Raises:
            Denied: The handler refuses.
            BrokerUnavailable, ValueError: As for `Hub.history`.
        """
        name = channel_name(channel)
        await self._permission.may_read(name, self)
        return publications(await self._hub.history(name, since, limit, reverse))

    async def presence(self, channel: str | NamedChannel) -> Mapping[str, UserPresence]:
        """Return who is in a channel on behalf of this client: as `Hub.presence`, after `on_presence` is asked.

        Raises:
            Denied: The handler refuses.
            BrokerUnavailable, ValueError: As for `Hub.presence`.
        """
        name = channel_name(channel)
        await self._permission.may_see(name, self)
        return by_user(await self._hub.members(name))

    async def leave(self, channel: str | NamedChannel) -> None:
        """Hear a channel no more; leaving one that was not joined does nothing.

        Raises:
            ValueError: The name is empty or begins with `$`.
        """
        self._hub.leave(self._core, channel_name(channel))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection, after what is queued for the client; before acceptance, refuse it with HTTP 403.

        Closing one that has ended does nothing.

        Args:
            code: A close code (RFC 6455 section 7.4), your own from 4000 to 4999.
            reason: At most 123 bytes.

        Raises:
            Denied: Before acceptance: that is the refusal, leave it uncaught.
            ValueError: The code is not one to send, or the reason is too long.
        """
        check_close(code, reason)
        if self._core.phase is Phase.CONNECTING:
            if not self._asked:
                raise self._refused(Denied(reason or "The server refused the connection"))
            await self._accepted()
        self._core.end(code, reason)
        await self._core.wait_closed()

    def detach(
        self,
        on_message: Callable[[Self, In], Awaitable[None] | None] | None = None,
        on_close: Callable[[Self, int, str], Awaitable[None] | None] | None = None,
    ) -> None:
        """Let the connection outlive its endpoint: return from the endpoint after this, and it stays, at a few KB.

        Of the handshake only `id`, `user`, `client` and `state` stay; `websocket`, `headers` and what else comes from
        it are gone when the endpoint has returned, unless a family of channels has a handler that reads them. All
        limits go on. Whatever the endpoint has not received goes to
        `on_message`, one message at a time; while a handler waits, what arrives waits too, and then the reading stops.
        An endpoint that raises after it has detached closes the connection all the same.

        Args:
            on_message: `(connection, message)`, a function or a coroutine function; without it messages are discarded.
                What it raises ends the connection as in an endpoint: `Denied` and `HTTPException` close it with 1008,
                `WebSocketDisconnect` with 1000, anything else is logged and closes it with 1011.
            on_close: `(connection, code, reason)`, likewise, called once, when the connection has ended.

        Raises:
            RuntimeError: The connection is not accepted yet, is detached already, is received from by a task, or the
                endpoint is a route of plain Starlette on a server class that is not Hubbub's.
        """
        if self._core.phase is Phase.CONNECTING:
            raise RuntimeError("the connection is not accepted yet: await connection.accept() before detach()")
        if self._core.ends_unseen:
            raise RuntimeError(
                "detach needs a FastAPI route with Depends(hub), or the server class of Hubbub: on another server a "
                "Starlette endpoint has to stay as long as its connection"
            )
        self._core.detach(_Detached(self, on_message, on_close))

    def _release(self) -> None:
        """The endpoint of a detached connection has returned: let go of its handshake."""
        self._refusal = None
        if not self._permission.needs_scope:
            self._keep_state()
            self._websocket = None

    def scope(self) -> Scope | None:
        """Return the scope of the handshake, while it is there."""
        websocket = socket_of(self)
        return None if websocket is None else websocket.scope

    def _ended(self) -> None:
        """The connection is over: what its endpoint does not hold any more can go."""
        websocket = socket_of(self)
        self._keep_state()
        self._websocket = None if websocket is None else weakref.ref(websocket)
        self._refusal = None

    def _keep_state(self) -> None:
        websocket = socket_of(self)
        if self._state is None and websocket is not None and websocket.scope.get("state"):
            self._state = websocket.state

    # The same for Starlette's own methods

    async def _asgi_receive(self) -> Message:
        try:
            data = await self._core.take()
        except ConnectionEnded as ended:
            return {"type": "websocket.disconnect", "code": ended.code, "reason": ended.reason}
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    async def _asgi_send(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            reason, code = message.get("reason"), message.get("code", CloseCode.NORMAL)
            if code not in CLOSE_CODES and code != CloseCode.NO_STATUS:
                raise RuntimeError(f"websocket.close: close code {code} cannot be sent")
            self._core.end(code, shortened(reason) if isinstance(reason, str) else "")
            await self._core.wait_closed()
            return
        text = message.get("text")
        await self._core.send_frame(PreparedFrame(message["bytes"] if text is None else text))


Exclude: TypeAlias = Connection[Any, Any] | Iterable[Connection[Any, Any]] | None
"""Connections that a publication leaves out: one, several, or none."""


def core_of(connection: Connection[Any, Any]) -> CoreConnection:
    """Return what a connection is built on."""
    return connection._core


class _Detached:
    """The `Handlers` of a connection without an endpoint."""

    __slots__ = ("_connection", "_on_close", "_on_message")

    def __init__(
        self,
        connection: Connection[Any, Any],
        on_message: Callable[[Any, Any], Awaitable[None] | None] | None,
        on_close: Callable[[Any, int, str], Awaitable[None] | None] | None,
    ) -> None:
        self._connection: Connection[Any, Any] | None = connection
        self._on_message = on_message
        self._on_close = on_close

    def message(self, data: Data) -> Awaitable[None] | None:
        connection = self._connection
        assert connection is not None
        if self._on_message is None:
            connection._hub.counters.discarded += 1
            return None
        if connection._types is UNTYPED:
            return self._on_message(connection, data)
        message, answer = connection._decode(data)
        if message is not _NOTHING:
            return self._on_message(connection, message)
        return None if answer is None else connection._core.send_frame(answer)

    def closed(self, code: int, reason: str) -> Awaitable[None] | None:
        connection, self._connection = self._connection, None
        return None if self._on_close is None else self._on_close(connection, code, reason)

    def closing(self, error: Exception) -> tuple[CloseCode, str]:
        return close_for(error)

    def released(self) -> None:
        if self._connection is not None:
            self._connection._release()


def socket_of(connection: Connection[Any, Any]) -> WebSocket | None:
    """Return the socket of a connection, if it still has one: see `Connection.websocket`."""
    websocket = connection._websocket
    return websocket() if isinstance(websocket, weakref.ref) else websocket


def _raw_headers(headers: Iterable[tuple[bytes, bytes]] | Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return list(headers)
