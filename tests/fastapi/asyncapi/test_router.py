"""The routes of the documentation: the document where it is served, the page, its files, and what guards them."""

import asyncio
import re
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from hubbub import Connection, Hub
from hubbub.fastapi.asyncapi import router
from hubbub.fastapi.asyncapi.document import document


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    app = FastAPI(title="Tea & <cake>")
    app.include_router(hub.docs())

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    return app


def client(app: Any, base_url: str = "http://example.org", **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, **options)
    return httpx.AsyncClient(transport=transport, base_url=base_url)


async def get(app: Any, path: str, **options: Any) -> httpx.Response:
    async with client(app, **options) as http:
        return await http.get(path)


async def test_the_document_says_where_it_is_served(app: FastAPI) -> None:
    document = (await get(app, "/asyncapi.json")).json()
    assert document["servers"] == {"current": {"host": "example.org", "protocol": "ws"}}
    assert document["channels"]["talk"]["address"] == "/talk"
    secure = (await get(app, "/asyncapi.json", base_url="https://example.org:8443", root_path="/api")).json()
    assert secure["servers"] == {"current": {"host": "example.org:8443", "protocol": "wss", "pathname": "/api"}}


@pytest.mark.parametrize("host", ['evil"><script>', "[", "a b", "", "host:port", "user@host"])
async def test_a_host_that_cannot_be_one_is_not_repeated(app: FastAPI, host: str) -> None:
    async with client(app, base_url="http://example.org:8000") as http:
        response = await http.get("/asyncapi.json", headers={"host": host})
    assert "servers" not in response.json()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "[::1]", "tea_room.example.org"])
async def test_a_host_is_repeated(app: FastAPI, host: str) -> None:
    async with client(app) as http:
        response = await http.get("/asyncapi.json", headers={"host": host})
    assert response.json()["servers"]["current"]["host"] == host


async def test_the_document_is_made_once(app: FastAPI, hub: Hub) -> None:
    assert [*(await get(app, "/asyncapi.json")).json()["channels"]] == ["talk"]
    hub.channels("late:{name}")
    assert [*(await get(app, "/asyncapi.json")).json()["channels"]] == ["talk"]


async def test_many_first_requests_make_one_document(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counted(app: Any, families: Any) -> Any:
        made.append(app)
        return document(app, families)

    monkeypatch.setattr(router, "document", counted)
    async with client(app) as http:
        responses = await asyncio.gather(*(http.get("/asyncapi.json") for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    assert len(made) == 1


async def test_a_document_that_cannot_be_made_is_said_so(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("what nobody has thought of")

    monkeypatch.setattr(router, "document", fails)
    response = await get(app, "/asyncapi.json")
    assert response.status_code == 500
    fault = "The document cannot be made: ZeroDivisionError: what nobody has thought of"
    assert response.json() == {"detail": fault}
    assert (await get(app, "/realtime")).status_code == 200


async def test_one_router_serves_several_applications(hub: Hub) -> None:
    docs = hub.docs()
    one, two = FastAPI(title="One"), FastAPI(title="Two")
    for app in (one, two):
        app.include_router(docs)
    titles = [(await get(app, "/asyncapi.json")).json()["info"]["title"] for app in (one, two)]
    assert titles == ["One", "Two"]


async def test_families_that_are_declared_after_the_router_are_there(app: FastAPI, hub: Hub) -> None:
    hub.channels("room:{name}")
    assert [*(await get(app, "/asyncapi.json")).json()["channels"]] == ["talk", "room"]


async def test_the_page_is_strict_about_what_it_runs(app: FastAPI) -> None:
    response = await get(app, "/realtime")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(one.strip().split(" ", 1) for one in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?://", response.text)


async def test_what_the_application_says_of_itself_is_text(app: FastAPI) -> None:
    text = (await get(app, "/realtime")).text
    assert "Tea &amp; &lt;cake&gt;" in text
    assert "<cake>" not in text


async def test_all_that_the_page_refers_to_is_there(app: FastAPI) -> None:
    text = (await get(app, "/realtime")).text
    files = re.findall(r'(?:href|src)="(realtime/[^"]+)"', text)
    for file in files:  # which grows by what its files import
        response = await get(app, f"/{file}")
        assert (file, response.status_code) == (file, 200)
        assert response.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
        imported = re.findall(r'^import .* from "\./(\w+\.js)";$', response.text, re.MULTILINE)
        files += [f"realtime/{name}" for name in imported if f"realtime/{name}" not in files]
    assert len(files) > 3


async def test_a_file_that_the_browser_has_is_not_sent_again(app: FastAPI) -> None:
    async with client(app) as http:
        first = await http.get("/realtime/app.js")
        again = await http.get("/realtime/app.js", headers={"if-none-match": f'W/"other", {first.headers["etag"]}'})
        other = await http.get("/realtime/app.js", headers={"if-none-match": '"other"'})
    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("name", ["nothing.js", "..%2frouter.py", "%2e%2e/router.py", "index.html", "__init__.py"])
async def test_nothing_else_is(app: FastAPI, name: str) -> None:
    assert (await get(app, f"/realtime/{name}")).status_code == 404


def base_of(response: httpx.Response) -> str:
    """Return where the page thinks that the application begins, as a browser would make it out."""
    (base,) = re.findall(r'data-base="([^"]*)"', response.text)
    return str(response.url.join(base))


async def test_the_page_finds_the_application(app: FastAPI, hub: Hub) -> None:
    assert base_of(await get(app, "/realtime")) == "http://example.org/"


async def test_the_page_finds_the_application_under_a_prefix(hub: Hub) -> None:
    app = FastAPI()
    app.include_router(hub.docs(), prefix="/internal/docs")
    assert base_of(await get(app, "/internal/docs/realtime")) == "http://example.org/"
    assert (await get(app, "/internal/docs/asyncapi.json")).status_code == 200


async def test_the_page_finds_an_application_that_is_mounted(app: FastAPI) -> None:
    outer = FastAPI()
    outer.mount("/inner", app)
    assert base_of(await get(outer, "/inner/realtime")) == "http://example.org/inner/"
    document = (await get(outer, "/inner/asyncapi.json")).json()
    assert document["servers"]["current"]["pathname"] == "/inner"
    assert document["channels"]["talk"]["address"] == "/talk"


class _Proxy:
    """Takes a prefix off the path, as a proxy does that says so by the root path or by nothing."""

    def __init__(self, app: Any, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix("/proxied")
        await self._app({**scope, "path": path, "root_path": self._root_path}, receive, send)


@pytest.mark.parametrize("root_path", ["", "/proxied"])
async def test_the_page_finds_the_application_behind_a_proxy(app: FastAPI, root_path: str) -> None:
    assert base_of(await get(_Proxy(app, root_path), "/proxied/realtime")) == "http://example.org/proxied/"


async def test_the_routes_can_be_guarded(hub: Hub) -> None:
    def guard(key: Annotated[str, Header()] = "") -> None:
        if key != "secret":
            raise HTTPException(401)

    app = FastAPI()
    app.include_router(hub.docs(), dependencies=[Depends(guard)])
    for path in ("/asyncapi.json", "/realtime", "/realtime/app.js"):
        assert (await get(app, path)).status_code == 401
    async with client(app) as http:
        assert (await http.get("/realtime", headers={"key": "secret"})).status_code == 200


async def test_an_empty_application_has_a_page_and_a_document() -> None:
    app = FastAPI()
    app.include_router(Hub().docs())
    assert (await get(app, "/realtime")).status_code == 200
    assert (await get(app, "/asyncapi.json")).json()["channels"] == {}


async def test_the_routes_are_no_part_of_openapi(app: FastAPI) -> None:
    assert (await get(app, "/openapi.json")).json()["paths"] == {}
