"""The end of an endpoint: what becomes of the handshake or the connection when it returns or raises.

FastAPI keeps two stacks of exits in a WebSocket's scope. The outer one, `fastapi_middleware_astack`, unwinds when every
dependency has closed: there the connection is ended. By then FastAPI may have turned the endpoint's exception into
something else (it answers an `HTTPException` with a response, which a server refuses once the handshake is done), so
an exit on the inner one, `fastapi_inner_astack`, notes what was raised in the first place.
"""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ..errors import Denied
from ..hub.connection import Phase
from ..hub.hub import CoreHub
from ..model import CloseCode
from .connection import Connection

__all__ = ("EndpointEnd",)

_REASON_BYTES = 123


class EndpointEnd:
    """Watches the endpoint of one connection.

    Args:
        connection: The connection, not accepted yet.
        core: Its hub.
    """

    def __init__(self, connection: Connection[Any, Any], core: CoreHub) -> None:
        self._connection = connection
        self._core = core
        self._raised: BaseException | None = None
        scope = connection.websocket.scope
        self.is_watched = "fastapi_middleware_astack" in scope and "fastapi_inner_astack" in scope
        if self.is_watched:
            scope["fastapi_inner_astack"].push(self._note)
            scope["fastapi_middleware_astack"].push_async_exit(self._finish)

    def refusal(self, denied: Denied) -> Exception:
        """Return what to raise so that a refused client gets its HTTP response.

        Without FastAPI's stacks nobody would answer a `Denied`; Starlette answers an `HTTPException`.
        """
        if self.is_watched:
            return denied
        self._core.refused(denied)
        headers = {"content-type": "application/json", **denied.headers}
        return HTTPException(denied.status, json.dumps(_body(denied)), headers)

    def _note(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raised = error

    async def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Answer, or close; return whether `error` has been dealt with."""
        raised, self._raised = self._raised or error, None
        try:
            if self._connection.phase is Phase.CONNECTING:
                return await self._refuse(raised, error)
            if isinstance(raised, Exception | None):
                return await self._close(raised)
        except asyncio.CancelledError:
            self._connection.abort()
            raise
        self._connection.abort()
        return False

    async def _refuse(self, raised: BaseException | None, error: BaseException | None) -> bool:
        websocket = self._connection.websocket
        if raised is not None and not isinstance(error, Denied):
            return False  # FastAPI has answered, or the server will
        if websocket.application_state is not WebSocketState.CONNECTING:
            return False
        denied = error if isinstance(error, Denied) else Denied("The endpoint did not accept the connection")
        self._core.refused(denied)
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(JSONResponse(_body(denied), denied.status, denied.headers))
        else:
            await websocket.close(CloseCode.POLICY_VIOLATION)
        return True

    async def _close(self, raised: Exception | None) -> bool:
        match raised:
            case None:
                code, reason = CloseCode.NORMAL, ""
            case Exception() if _is_disconnect(raised):
                code, reason = CloseCode.NORMAL, ""
            case Denied():
                code, reason = CloseCode.POLICY_VIOLATION, raised.limit or raised.reason
            case HTTPException():
                code, reason = CloseCode.POLICY_VIOLATION, str(raised.detail)
            case _:
                code, reason = CloseCode.INTERNAL_ERROR, ""
        self._connection.end(code, _shortened(reason))
        await self._connection.wait_closed()
        return code is not CloseCode.INTERNAL_ERROR


def _is_disconnect(raised: Exception) -> bool:
    """Return whether this only says that the connection has ended, also as a `TaskGroup` puts it."""
    if isinstance(raised, ExceptionGroup):
        return raised.split(WebSocketDisconnect)[1] is None
    return isinstance(raised, WebSocketDisconnect)


def _body(denied: Denied) -> dict[str, str | None]:
    return {"detail": denied.reason, "limit": denied.limit}


def _shortened(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
