"""The end of an endpoint: what becomes of the handshake or the connection when it returns or raises.

FastAPI keeps two stacks of exits in a WebSocket's scope. The outer one, `fastapi_middleware_astack`, unwinds when every
dependency has closed and every exception handler has had its turn: there the handshake is answered or the connection is
closed.

Between the two stacks stand the exception handlers, and FastAPI's own for an `HTTPException` answers with a response,
which no server takes once the handshake is done. So an exit on the inner stack, `fastapi_inner_astack`, notes what was
raised in the first place, and the server's complaint about such a response is not taken for an error of the endpoint.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import TracebackType

from starlette import responses
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..errors import Denied
from ..hub.connection import CoreConnection, Phase
from ..hub.hub import CoreHub
from ..model import CloseCode
from ..server.fallback import AsgiTransport
from ..wire.frames import shortened

__all__ = ("EndpointEnd", "close_for", "denial_body")

logger = logging.getLogger("hubbub")


class EndpointEnd:
    """Watches the endpoint of one connection.

    Args:
        connection: The connection, not accepted yet.
        hub: Its hub.
        websocket: Its socket.
    """

    __slots__ = ("_connection", "_hub", "_is_watched", "_raised", "_websocket")

    def __init__(self, connection: CoreConnection, hub: CoreHub, websocket: WebSocket) -> None:
        self._connection = connection
        self._hub = hub
        self._websocket = websocket
        self._raised: BaseException | None = None
        scope = websocket.scope
        self._is_watched = "fastapi_middleware_astack" in scope and "fastapi_inner_astack" in scope
        connection.ends_unseen = not self._is_watched
        if self._is_watched:
            self._note_last(scope["fastapi_inner_astack"])
            scope["fastapi_middleware_astack"].push_async_exit(self._finish)

    def _note_last(self, stack: AsyncExitStack) -> None:
        """Put `_note` below the exits of the dependencies before this one: their errors count too."""
        if not getattr(stack, "_exit_callbacks", True):  # there are none: no second stack, which takes 800 bytes
            stack.push(self._note)
            return
        earlier = stack.pop_all()
        stack.push(self._note)
        stack.push_async_exit(earlier.__aexit__)

    def refusal(self, denied: Denied) -> Exception:
        """Return what to raise so that a refused client gets its HTTP response.

        Without FastAPI's stacks nobody would answer a `Denied`; Starlette answers an `HTTPException`.
        """
        if self._is_watched:
            return denied
        self._hub.refused(denied)
        headers = {"content-type": "application/json", **denied.headers}
        return HTTPException(denied.status, json.dumps(denial_body(denied)), headers)

    def _note(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Note what the endpoint and its dependencies have raised, before any exception handler sees it."""
        self._raised = cause = _cause(error)
        if self._is_unanswered() and isinstance(cause, Denied):
            self._hub.refused(cause)
            if cause is not error:
                raise cause

    def _is_unanswered(self) -> bool:
        is_untouched = self._websocket.application_state is WebSocketState.CONNECTING
        return is_untouched and self._connection.phase is Phase.CONNECTING

    async def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Answer the handshake, or close; return whether `error` has been dealt with."""
        raised, self._raised = self._raised, None
        try:
            if isinstance(error, Exception | None):
                if self._connection.phase is Phase.CONNECTING:
                    return await self._refuse(raised, error)
                return await self._close(raised, error)
        except asyncio.CancelledError:
            self._connection.abort()
            raise
        finally:
            if not self._connection.is_detached:
                self._connection.discard_inbox()
            if self._connection.phase is Phase.CONNECTING:
                self._connection.let_go()
        self._connection.abort()
        return False

    async def _refuse(self, raised: BaseException | None, error: Exception | None) -> bool:
        websocket = self._websocket
        if not self._is_unanswered():
            if isinstance(error, Denied) and websocket.application_state is WebSocketState.CONNECTED:
                # The application has accepted by itself, past the hub.
                await websocket.close(CloseCode.POLICY_VIOLATION, shortened(error.limit or error.reason))
                return True
            return False
        can_deny = "websocket.http.response" in (websocket.scope.get("extensions") or {})
        denied = Denied("The endpoint did not accept the connection")
        if isinstance(error, Denied):
            denied = error
        elif raised is None and error is None:
            self._hub.refused(denied)
        elif can_deny or error is None or not isinstance(raised, HTTPException):
            return False  # FastAPI has answered, or the server will; else the server could not send FastAPI's answer
        try:
            if can_deny:
                await websocket.send_denial_response(JSONResponse(denial_body(denied), denied.status, denied.headers))
            else:
                await websocket.close(CloseCode.POLICY_VIOLATION)
        except (OSError, RuntimeError) as failure:
            # The client is gone, or something else has answered already.
            logger.debug("a refusal could not be sent: %r", failure)
        return True

    async def _close(self, raised: BaseException | None, error: Exception | None) -> bool:
        if isinstance(raised, Denied | HTTPException) and _is_about_a_response(error):
            error = None
        code, reason = close_for(raised if error is None else error)
        if self._connection.is_detached and code is CloseCode.NORMAL:
            await self._outlive()
        else:
            self._connection.end(code, reason)
            await self._connection.wait_closed()
        return error is None or code is not CloseCode.INTERNAL_ERROR

    async def _outlive(self) -> None:
        """The connection stays: let go of the endpoint; on a server of others its call is what keeps the connection."""
        self._connection.application_ended(CloseCode.NORMAL)
        if isinstance(self._connection.transport, AsgiTransport):
            await self._connection.wait_closed()


def close_for(error: BaseException | None) -> tuple[CloseCode, str]:
    """Return the close code and the reason for what an endpoint or a handler has raised; 1011 for its own fault."""
    match cause := _cause(error):
        case None | WebSocketDisconnect():
            return CloseCode.NORMAL, ""
        case Denied():
            return CloseCode.POLICY_VIOLATION, shortened(cause.limit or cause.reason)
        case HTTPException():
            return CloseCode.POLICY_VIOLATION, shortened(str(cause.detail))
        case _:
            return CloseCode.INTERNAL_ERROR, ""


def _is_about_a_response(error: Exception | None) -> bool:
    """Return whether an error was raised by sending a response, which is what `Response.__call__` does."""
    return any(
        (frame.f_code.co_filename, frame.f_code.co_name) == (responses.__file__, "__call__")
        for frame, _ in traceback.walk_tb(None if error is None else error.__traceback__)
    )


def denial_body(denied: Denied) -> dict[str, str | None]:
    """Return the JSON body of a refusal."""
    return {"detail": denied.reason, "limit": denied.limit}


def _cause(error: BaseException | None) -> BaseException | None:
    """Return what an error comes down to: of a `TaskGroup`'s, the one that is not just the end of the connection."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = list(_leaves(error))
    rest = [cause for cause in causes if not isinstance(cause, WebSocketDisconnect)]
    if not rest:
        return causes[0]
    return rest[0] if len(rest) == 1 and isinstance(rest[0], Denied | HTTPException) else error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
