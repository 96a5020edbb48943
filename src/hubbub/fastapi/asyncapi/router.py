"""The routes of the documentation: the document, the page, and the files that the page is made of.

The page refers to everything relative to itself, and is told where the application begins as a relative reference too.
So it works wherever the application is mounted, and whatever a proxy in front of it takes off the path.
"""

from __future__ import annotations

import html
import logging
import re
import weakref
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple

import anyio
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..families import Family
from .document import document, servers
from .schemas import JsonObject

__all__ = ("docs_router",)

logger = logging.getLogger("hubbub")

_PAGE = "index.html"
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_MEDIA_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_HOST = re.compile(r"[\w.\-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", re.ASCII)


def docs_router(families: Iterable[Family]) -> APIRouter:
    """Return a router with `/asyncapi.json` and the page `/realtime`; see `Hub.docs`.

    Args:
        families: The families of the hub's channels; they are read with the first request.
    """
    router = APIRouter(include_in_schema=False)
    documents: weakref.WeakKeyDictionary[Any, JsonObject] = weakref.WeakKeyDictionary()
    one_at_a_time = anyio.Lock()
    _files()  # which reads them, and not while a request waits

    async def document_of(app: Any) -> JsonObject:
        async with one_at_a_time:
            if app not in documents:  # as with OpenAPI: routes that are added later are not seen
                documents[app] = await run_in_threadpool(document, app, families)
        return documents[app]

    @router.get("/asyncapi.json")
    async def asyncapi(request: Request) -> Response:
        try:
            described = await document_of(request.app)
        except Exception as fault:  # something in the application that nobody has thought of
            logger.exception("the AsyncAPI document cannot be made")
            detail = f"The document cannot be made: {type(fault).__name__}: {fault}"
            return JSONResponse({"detail": detail}, 500, _HEADERS)
        return JSONResponse({**described, **_servers(request)}, headers=_HEADERS)

    @router.get("/realtime")
    async def realtime(request: Request) -> Response:
        return _page(str(getattr(request.app, "title", "Application")), _base(request))

    @router.get("/realtime/{name}")
    async def asset(name: str, request: Request) -> Response:
        return _asset(name, request.headers.get("if-none-match", ""))

    return router


def _page(title: str, base: str) -> Response:
    page = _files()[_PAGE].body.decode().replace("{{title}}", html.escape(title)).replace("{{base}}", html.escape(base))
    return Response(page, media_type="text/html", headers=_HEADERS)


def _asset(name: str, known: str) -> Response:
    if name == _PAGE or name not in _files():
        raise HTTPException(404)
    file = _files()[name]
    headers = {**_HEADERS, "etag": file.etag}
    if file.etag in known:  # the browser has it, and asks because of an upgrade that may have been
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


class _File(NamedTuple):
    body: bytes
    media_type: str
    etag: str


@cache
def _files() -> dict[str, _File]:
    """Return the files of the page by name."""
    page = files(__package__) / "page"
    return {
        file.name: _File(body := file.read_bytes(), _MEDIA_TYPES[suffix], f'"{sha256(body).hexdigest()[:16]}"')
        for file in page.iterdir()
        if (suffix := file.name.rpartition(".")[2]) in _MEDIA_TYPES
    }


def _base(request: Request) -> str:
    """Return where the application begins, seen from the page: as many steps up as its path has folders."""
    path, root_path = request.scope["path"], request.scope.get("root_path", "")
    if path.startswith(f"{root_path}/"):
        path = path.removeprefix(root_path)
    return "../" * (path.count("/") - 1) or "./"


def _servers(request: Request) -> JsonObject:
    """Return where the application is served, as the client sees it; nothing if its Host header is not a valid host."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        return {}
    scheme = "wss" if request.scope.get("scheme") == "https" else "ws"
    return {"servers": servers(f"{scheme}://{host}{request.scope.get('root_path', '')}")}
