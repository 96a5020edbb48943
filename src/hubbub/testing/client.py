"""Clients in the test's own process and event loop: no server, no sockets, as many connections as are wanted."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic_core import to_json
from starlette.websockets import WebSocketDisconnect

from ..model import CloseCode, Data
from .transport import RecordingTransport

__all__ = ("Client", "ClientConnection", "Refused")

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

_TURNS = 200
_FINISH_DEADLINE_S = 5.0
# What an application may send next (ASGI, "WebSocket" and "WebSocket Denial Response").
_ANSWERS = ("websocket.accept", "websocket.close", "websocket.http.response.start")
_AFTER_ACCEPTANCE = ("websocket.send", "websocket.close")
_BODY = ("websocket.http.response.body",)


class Refused(Exception):
    """The application refused the handshake.

    Args:
        status: The HTTP status.
        headers: The headers of the answer, names in lower case.
        body: Its body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"the handshake was refused with HTTP {status}: {body.decode(errors='replace')}")
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body)


class Client:
    """Opens connections to an ASGI application, which it runs with its lifespan.

        async with Client(app) as client, client.connect("/ws/1") as ann, client.connect("/ws/2") as bob:
            await ann.send("hello")
            await bob.assert_received("Client #1 says: hello")

    Args:
        app: The application.
        base_url: Where the application is, for the `Host` header and the scheme; `wss://…` for TLS.
        client: Host and port that the application sees; `None` for a client without an address.
        timeout_s: Seconds that a receive waits by default.
        raise_app_exceptions: Whether leaving a connection raises what its endpoint raised.
    """

    def __init__(
        self,
        app: App,
        *,
        base_url: str = "ws://testserver",
        client: tuple[str, int] | None = ("testclient", 50_000),
        timeout_s: float = 2.0,
        raise_app_exceptions: bool = True,
    ) -> None:
        self._app = app
        self._url = urlsplit(base_url)
        self._client = client
        self.timeout_s = timeout_s
        self._raise = raise_app_exceptions
        self._connections: list[ClientConnection] = []
        self._lifespan = _Lifespan(app)

    async def __aenter__(self) -> Self:
        await self._lifespan.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        faults = []
        try:
            for connection in self._connections:
                try:
                    await connection.close()
                    await connection.finish(raises=error is None and self._raise)
                except Exception as fault:  # raised below, when all have ended
                    faults.append(fault)
        finally:
            await self._lifespan.stop()
        if faults:
            raise faults[0]

    def connect(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        client: tuple[str, int] | None = None,
        transport: RecordingTransport | None = None,
    ) -> ClientConnection:
        """Return a connection to be opened with `async with`.

        Args:
            path: Path and query string.
            headers: More headers, such as `{"Origin": "https://app.example.com"}`.
            subprotocols: Subprotocols to offer.
            client: Host and port that the application sees, instead of the client's own.
            transport: A `RecordingTransport` that the hub is to use instead of the connection's own.
        """
        url = urlsplit(path)
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        if not any(name == b"host" for name, _ in raw):
            raw.insert(0, (b"host", self._url.netloc.encode()))
        if subprotocols:
            raw.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("latin-1")))
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self._url.scheme,
            "server": (self._url.hostname, self._url.port or (443 if self._url.scheme == "wss" else 80)),
            "client": client or self._client,
            "root_path": "",
            "path": unquote(url.path),
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "headers": raw,
            "subprotocols": list(subprotocols),
            "state": dict(self._lifespan.state),
            "extensions": {"websocket.http.response": {}, **({} if transport is None else {"hubbub": transport})},
        }
        connection = ClientConnection(self._app, scope, self.timeout_s, self._raise)
        self._connections.append(connection)
        return connection

    async def refused(self, path: str, **options: Any) -> Refused:
        """Connect, and return how the application refuses.

        Args:
            path: Path and query string.
            options: As for `connect`.

        Raises:
            AssertionError: The application accepts.
        """
        try:
            async with self.connect(path, **options):
                pass
        except Refused as refused:
            return refused
        raise AssertionError(f"{path}: expected a refusal, but the application accepted")

    async def assert_all_received(self, *messages: object) -> None:
        """Assert that each open connection receives these messages next; see `ClientConnection.assert_received`."""
        for connection in self._connections:
            if connection.is_open:
                await connection.assert_received(*messages)


class ClientConnection:
    """One client's end of a WebSocket. `Client.connect` gives it.

    Attributes:
        subprotocol: What the application chose.
        accept_headers: The headers of the acceptance.
    """

    def __init__(self, app: App, scope: dict[str, Any], timeout_s: float, raises: bool) -> None:
        self.subprotocol: str | None = None
        self.accept_headers: list[tuple[bytes, bytes]] = []
        self._app = app
        self._scope = scope
        self._timeout_s = timeout_s
        self._raises = raises
        self._transport: RecordingTransport | None = scope["extensions"].get("hubbub")
        self._task: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[Event] = asyncio.Queue()
        self._from_app: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._accepted = False
        self._allowed: tuple[str, ...] = _ANSWERS
        self._left = False
        self._closed_by_app = False
        self._ended: WebSocketDisconnect | None = None

    async def __aenter__(self) -> Self:
        await self._to_app.put({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run())
        event = await self._next(self._timeout_s)
        if event["type"] == "websocket.accept":
            self.subprotocol = event.get("subprotocol")
            self.accept_headers = list(event.get("headers", ()))
            return self
        self._left = True
        refused = Refused(403, {}, b"") if event["type"] == "websocket.close" else await self._refusal(event)
        await self.finish(raises=self._raises)  # an endpoint that failed is not taken for one that refuses
        raise refused

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
        await self.finish(raises=error is None and self._raises)

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed, as far as this client has received."""
        return self._accepted and not self._left and self._ended is None

    # What a client does

    async def send(self, message: object) -> None:
        """Send a message: `str` as text, `bytes` as binary, anything else as JSON text."""
        if isinstance(message, bytes):
            event: Event = {"type": "websocket.receive", "bytes": message}
        else:
            text = message if isinstance(message, str) else to_json(message).decode()
            event = {"type": "websocket.receive", "text": text}
        await self._to_app.put(event)

    async def receive(self, timeout_s: float | None = None) -> Data:
        """Return the next message.

        Args:
            timeout_s: Seconds to wait at most, instead of the client's own.

        Raises:
            TimeoutError: None came in time.
            WebSocketDisconnect: The application closed the connection; it carries code and reason.
        """
        if self._ended is not None:
            raise self._ended
        event = await self._next(self._timeout_s if timeout_s is None else timeout_s)
        if event["type"] == "websocket.close":
            self._ended = WebSocketDisconnect(event.get("code") or CloseCode.NORMAL, event.get("reason"))
            raise self._ended from await self._fault()
        text = event.get("text")
        data: Data = event["bytes"] if text is None else text
        return data

    async def receive_json(self, timeout_s: float | None = None) -> Any:
        """Return the next message as JSON; see `receive`."""
        return json.loads(await self.receive(timeout_s))

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the connection from the client's side; does nothing when it is closed."""
        if self._left:
            return
        self._left = True
        self._flowing.set()
        if not self._closed_by_app:
            await self._to_app.put({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self._transport is not None and self._accepted:
            self._transport.lose(code, reason)

    async def abort(self) -> None:
        """Vanish without a close, as when a cable is pulled."""
        await self.close(CloseCode.ABNORMAL)

    def stall(self) -> None:
        """Read nothing more: what the application sends waits, until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()

    # What a test asserts

    async def assert_received(self, *messages: object) -> None:
        """Assert that these messages come next, in this order.

        Args:
            messages: `str` and `bytes` are compared as they are, anything else as JSON.

        Raises:
            AssertionError: Something else came, or nothing in time.
        """
        for expected in messages:
            try:
                data = await self.receive()
            except TimeoutError:
                raise AssertionError(f"expected {expected!r}, but nothing came") from None
            except WebSocketDisconnect as ended:
                raise AssertionError(
                    f"expected {expected!r}, but the connection was closed with {ended.code}"
                ) from ended
            wanted = expected if isinstance(expected, (str, bytes)) else json.loads(to_json(expected))
            try:
                received = data if isinstance(expected, (str, bytes)) else json.loads(data)
            except ValueError:
                raise AssertionError(f"expected {wanted!r}, but {data!r} came, which is not JSON") from None
            assert received == wanted, f"expected {wanted!r}, but {received!r} came"

    async def assert_closed(self, code: int, reason: str | None = None) -> None:
        """Assert that the application closes with this code next, and this reason if one is given.

        Raises:
            AssertionError: A message came, another code, or nothing in time.
        """
        try:
            data = await self.receive()
        except TimeoutError:
            raise AssertionError(f"expected a close with {code}, but nothing came") from None
        except WebSocketDisconnect as ended:
            if ended.code != code or reason not in (None, ended.reason):
                wanted = f"{code}" if reason is None else f"{code} ({reason})"
                raise AssertionError(
                    f"expected a close with {wanted}, but it was {ended.code} ({ended.reason})"
                ) from ended
        else:
            raise AssertionError(f"expected a close with {code}, but {data!r} came")

    async def assert_nothing(self) -> None:
        """Assert that nothing has been delivered, once the event loop has done what there was to do.

        Raises:
            AssertionError: A message or a close has come.
        """
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        assert not self._from_app, f"expected nothing, but {self._from_app[0]!r} came"

    # The application's side

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._send)
        finally:
            # What a server does with what the application leaves open.
            if self._left or self._closed_by_app:
                pass
            elif self._accepted:
                self._push({"type": "websocket.close", "code": CloseCode.ABNORMAL, "reason": "the application ended"})
            elif self._allowed is _ANSWERS:
                self._push({"type": "websocket.http.response.start", "status": 500, "headers": []})
                self._push({"type": "websocket.http.response.body", "body": b""})

    async def _send(self, event: Event) -> None:
        await self._flowing.wait()
        if self._left or self._closed_by_app:
            raise OSError("the client is gone")
        kind = event["type"]
        if kind not in self._allowed:
            why = "the handshake has not been answered" if self._allowed is _ANSWERS else "the handshake is over"
            raise RuntimeError(f"{kind} cannot be sent: {why}")
        self._accepted = self._accepted or kind == "websocket.accept"
        self._allowed = _BODY if kind.startswith("websocket.http.response") else _AFTER_ACCEPTANCE
        if kind == "websocket.close" or (kind == "websocket.http.response.body" and not event.get("more_body")):
            self._closed_by_app = True
            code = event.get("code", CloseCode.NORMAL) if kind == "websocket.close" else CloseCode.ABNORMAL
            await self._to_app.put({"type": "websocket.disconnect", "code": code})
        self._push(event)

    def _push(self, event: Event) -> None:
        self._from_app.append(event)
        self._arrived.set()

    async def _fault(self) -> BaseException | None:
        """What the endpoint raised, if that is why it closed: the test should see it."""
        for _ in range(_TURNS):
            if self._task is None or self._task.done():
                break
            await asyncio.sleep(0)
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def _next(self, timeout_s: float) -> Event:
        async with asyncio.timeout(timeout_s):
            while not self._from_app:
                self._arrived.clear()
                await self._arrived.wait()
        return self._from_app.popleft()

    async def _refusal(self, start: Event) -> Refused:
        body = b""
        more = True
        while more:
            event = await self._next(self._timeout_s)
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start.get("headers", ())}
        return Refused(start["status"], headers, body)

    async def finish(self, *, raises: bool) -> None:
        """Wait until the endpoint has returned; cancel it if it does not.

        Args:
            raises: Whether to raise what the endpoint raised.

        Raises:
            AssertionError: The endpoint did not return.
        """
        task, self._task = self._task, None
        if task is None:
            return
        done, _ = await asyncio.wait([task], timeout=_FINISH_DEADLINE_S)
        if not done:
            task.cancel()
            await asyncio.wait([task])
            raise AssertionError(
                f"{self._scope['path']}: the endpoint went on for {_FINISH_DEADLINE_S} s after the end"
            )
        if not task.cancelled() and task.exception() is not None and raises:
            task.result()


class _Lifespan:
    """Runs the application's lifespan in a task of its own."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._answers: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.create_task(self._app(scope, self._events.get, self._answers.put))  # type: ignore[arg-type]
        await self._pass("startup", self._task)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await self._pass("shutdown", task)
            await task

    async def _pass(self, phase: str, task: asyncio.Task[None]) -> None:
        await self._events.put({"type": f"lifespan.{phase}"})
        answer = asyncio.create_task(self._answers.get())
        await asyncio.wait([answer, task], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            # An application without a lifespan returns, or raises at start-up (ASGI lifespan, "Scope").
            answer.cancel()
            self._task = None
            if phase == "shutdown":
                task.result()
            elif not task.cancelled():
                task.exception()
        elif answer.result()["type"] == f"lifespan.{phase}.failed":
            await task
            raise RuntimeError(f"the application's {phase} failed: {answer.result().get('message')}")
