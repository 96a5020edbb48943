"""How a hub starts and ends, and where in an application it can stand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from hubbub import Connection, ConnectionManager, Hub
from tests.integration.clients import Close, RawClient, client, http_client, refusal
from tests.integration.deadline import eventually, within
from tests.integration.servers import NATIVE, serving

pytestmark = pytest.mark.usefixtures("each_class")

SMALL_BUFFER = 8_192


class Say(BaseModel):
    text: str


def chat(hub: Hub) -> APIRouter:
    """Return what the applications below have in common."""
    router = APIRouter()

    @router.websocket("/chat/{user}")
    async def chat(connection: Annotated[Connection, Depends(hub)], user: str) -> None:
        await connection.accept(user=user)
        await connection.join("lobby")
        await connection.send("ready")
        async for text in connection:
            await hub.broadcast(f"{user}: {text}")

    @router.websocket("/typed")
    async def typed(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        async for message in connection:
            await connection.send(message.text)

    @router.post("/broadcast/{text}")
    async def broadcast(text: str) -> None:
        await hub.broadcast(text)

    return router


def application(hub: Hub, **options: object) -> FastAPI:
    app = FastAPI(**options)
    app.include_router(chat(hub))
    return app


# On a server


async def test_the_hubs_own_lifespan() -> None:
    hub = Hub()
    async with serving(application(hub, lifespan=hub.lifespan)) as port, client(port, "/chat/ann") as someone:
        assert await someone.receive() == "ready"
        assert await someone.ask("hello") == "ann: hello"


def test_a_hub_whose_loop_has_ended_starts_afresh_in_the_next() -> None:
    hub = Hub()
    app = application(hub, lifespan=hub.lifespan)
    for _ in range(2):
        asyncio.run(converse(app))
    assert hub.statistics().accepted == 1


def test_so_does_one_without_a_lifespan() -> None:
    app = application(Hub())
    for _ in range(2):
        asyncio.run(converse(app))


async def converse(app: FastAPI) -> None:
    async with serving(app) as port, client(port, "/chat/ann") as someone:
        assert await someone.receive() == "ready"
        assert await someone.ask("hello") == "ann: hello"


async def test_a_lifespan_of_ones_own() -> None:
    """What the application opens around the hub outlives it; what it starts within can publish at once."""
    hub, events = Hub(), list[str]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        events.append("database open")
        async with hub:
            await hub.broadcast("nobody hears this")
            yield
            events.append(f"connections: {len(hub.connections)}")
        events.append("database closed")

    async with serving(application(hub, lifespan=lifespan)) as port, client(port, "/chat/ann") as someone:
        assert await someone.receive() == "ready"
        await hub.broadcast("hello")
        assert await someone.receive() == "hello"
    assert events == ["database open", "connections: 0", "database closed"]


async def test_a_hub_that_ends_closes_what_is_open_and_refuses_what_comes() -> None:
    hub = Hub()
    async with serving(application(hub), send_buffer=SMALL_BUFFER) as port, client(port, "/chat/ann") as ann:
        assert await ann.receive() == "ready"
        async with AsyncExitStack() as running:
            await running.enter_async_context(hub)
            stalled = await RawClient.connect(port, "/chat/bob", receive_buffer=SMALL_BUFFER)
            while not hub.statistics().queued_bytes:
                await hub.send("bob", "." * 10_000)
            ending = asyncio.create_task(running.aclose())
            refused = await refusal(port, "/chat/eve")
            assert (refused.status_code, json.loads(refused.body)["limit"]) == (503, "draining")
            assert await ann.closed() == Close(1012, "")
            stalled.vanish()
            await within(ending)
        assert not hub.connections


async def test_a_hub_without_a_lifespan_starts_at_its_first_use() -> None:
    hub = Hub()
    assert (len(hub.connections), hub.statistics().connections) == (0, 0)
    async with serving(application(hub)) as port, http_client(port) as http:
        assert (await http.post("/broadcast/nobody")).is_success
        async with client(port, "/chat/ann") as someone:
            assert await someone.receive() == "ready"
            assert (await http.post("/broadcast/hello")).is_success
            assert await someone.receive() == "hello"


async def test_a_mounted_application() -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    app.mount("/v1", application(hub))
    async with serving(app) as port, client(port, "/v1/chat/ann") as ann, client(port, "/v1/typed") as typed:
        assert await ann.receive() == "ready"
        assert await ann.ask("hello") == await typed.receive() == "ann: hello"
        assert await typed.ask('{"text": "validated"}') == "validated"
        await typed.send("{}")
        assert (await typed.receive_json())["code"] == "invalid_message"
        assert (await refusal(port, "/v1/chat/ann", origin="https://evil.example")).status_code == 403


async def test_a_router_with_a_prefix() -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    outer = APIRouter(prefix="/rooms/{room}")
    outer.include_router(chat(hub), prefix="/v1")
    app.include_router(outer, prefix="/api")
    async with serving(app) as port, client(port, "/api/rooms/1/v1/typed") as someone:
        assert await someone.ask('{"text": "validated"}') == "validated"
        await someone.send("{}")
        assert (await someone.receive_json())["code"] == "invalid_message"


async def test_another_hub_in_its_place() -> None:
    """What a test does that gives the application a hub of its own."""
    hub, substitute = Hub(), Hub(allowed_origins=("*",))
    app = application(hub, lifespan=hub.lifespan)
    app.dependency_overrides[hub] = substitute
    async with serving(app) as port, client(port, "/typed", origin="https://other.example") as someone:
        assert await someone.ask('{"text": "validated"}') == "validated"
        assert (len(hub.connections), len(substitute.connections)) == (0, 1)


async def test_statistics_as_the_answer_of_a_route() -> None:
    hub = Hub()
    app = application(hub, lifespan=hub.lifespan)
    app.get("/statistics")(hub.statistics)
    async with serving(app) as port, client(port, "/chat/ann") as someone:
        assert await someone.receive() == "ready"
        async with http_client(port) as http:
            answer = await http.get("/statistics")
    assert answer.status_code == 200
    assert answer.json()["connections"] == 1


# From threads


def with_sync_routes(hub: Hub, **options: object) -> FastAPI:
    app = application(hub, **options)

    @app.post("/from-a-thread/{how}/{text}")
    def from_a_thread(how: str, text: str) -> None:
        match how:
            case "broadcast":
                hub.from_thread.broadcast(text)
            case "publish":
                hub.from_thread.publish("lobby", text)
            case "send":
                hub.from_thread.send("ann", text)
            case "disconnect":
                hub.from_thread.disconnect("ann", 4000, text)

    return app


@pytest.mark.parametrize("has_lifespan", [True, False])
async def test_sync_routes(has_lifespan: bool) -> None:
    hub = Hub()
    app = with_sync_routes(hub, lifespan=hub.lifespan if has_lifespan else None)
    async with serving(app) as port, http_client(port) as http:
        assert (await http.post("/from-a-thread/broadcast/nobody")).is_success
        async with client(port, "/chat/ann") as someone:
            assert await someone.receive() == "ready"
            for how in ("broadcast", "publish", "send"):
                assert (await http.post(f"/from-a-thread/{how}/{how}")).is_success
                assert await someone.receive() == how
            assert (await http.post("/from-a-thread/disconnect/bye")).is_success
            assert await someone.closed() == Close(4000, "bye")


async def test_from_thread_is_not_for_async_code() -> None:
    hub = Hub()
    async with hub:
        with pytest.raises(RuntimeError, match=r"await hub\.broadcast"):
            hub.from_thread.broadcast("hello")


# In Starlette's test client


def test_the_test_client_with_a_lifespan() -> None:
    hub = Hub()
    app = with_sync_routes(hub, lifespan=hub.lifespan)
    with (
        TestClient(app) as http,
        http.websocket_connect("/chat/ann") as ann,
        http.websocket_connect("/chat/bob") as bob,
    ):
        assert ann.receive_text() == bob.receive_text() == "ready"
        ann.send_text("hello")
        assert ann.receive_text() == bob.receive_text() == "ann: hello"
        assert http.post("/broadcast/news").is_success
        assert ann.receive_text() == bob.receive_text() == "news"
        assert http.post("/from-a-thread/send/you").is_success
        assert ann.receive_text() == "you"
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            http.websocket_connect("/chat/eve", headers={"origin": "https://evil.example"}),
        ):
            pass
        assert refused.value.status_code == 403


def test_the_test_client_without_a_lifespan() -> None:
    """Each of its sessions has a loop of its own: one after the other is fine, two at once say what to do."""
    hub = Hub()
    http = TestClient(application(hub))
    for _ in range(2):
        with http.websocket_connect("/chat/ann") as ann:
            assert ann.receive_text() == "ready"
            ann.send_text("hello")
            assert ann.receive_text() == "ann: hello"
            with pytest.raises(RuntimeError, match=r"with TestClient\(app\) as client"):
                http.websocket_connect("/chat/bob").__enter__()
            with pytest.raises(RuntimeError, match=r"with TestClient\(app\) as client"):
                http.post("/broadcast/news")
            ann.send_text("still here")
            assert ann.receive_text() == "ann: still here"


# On Starlette alone


def starlette(manager: ConnectionManager) -> Starlette:
    async def chat(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                if text == "raise":
                    raise ArithmeticError("raised on purpose")
                if text == "return":
                    return
                await manager.send_personal_message(f"You wrote: {text}", websocket)
                await manager.broadcast(f"Somebody says: {text}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast("Somebody left")

    routes = [WebSocketRoute("/chat", chat), Mount("/mounted", routes=[WebSocketRoute("/chat", chat)])]
    return Starlette(routes=routes, lifespan=manager.hub.lifespan)


@pytest.mark.parametrize("path", ["/chat", "/mounted/chat"])
async def test_the_manager_on_plain_starlette(path: str) -> None:
    manager = ConnectionManager(max_connections=2)
    async with serving(starlette(manager)) as port, client(port, path) as one:
        async with client(port, path) as two:
            assert await two.ask("hello") == "You wrote: hello"
            assert await one.receive() == await two.receive() == "Somebody says: hello"
            refused = await refusal(port, path)
            assert refused.status_code == 503
            assert refused.headers["Content-Type"] == "application/json"
            assert json.loads(refused.body) == {"detail": "Too many connections", "limit": "connections"}
            assert int(refused.headers["Retry-After"]) > 0
        assert await one.receive() == "Somebody left"
        refused = await refusal(port, path, origin="https://evil.example")
        assert refused.status_code == 403
        assert json.loads(refused.body)["limit"] == "allowed_origins"
        assert manager.hub.statistics().refused == {"connections": 1, "allowed_origins": 1}


async def test_the_last_words_of_an_endpoint_of_plain_starlette() -> None:
    """They arrive without a hub, so they must with one."""
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await manager.broadcast("broadcast")
        await websocket.send_text("raw")
        await manager.send_personal_message("personal", websocket)

    async with serving(Starlette(routes=[WebSocketRoute("/", endpoint)])) as port, client(port, "/") as someone:
        assert await someone.receive_many(3) == ["broadcast", "raw", "personal"]


@pytest.mark.parametrize(("text", "code"), [("return", 1000), ("raise", 1011)])
async def test_the_end_of_an_endpoint_of_plain_starlette(text: str, code: int, each_class: str) -> None:
    """Only Hubbub's class tells the hub that it has ended; others hang up, as without a hub, and that is noticed."""
    manager = ConnectionManager()
    async with serving(starlette(manager)) as port, client(port, "/chat") as one, client(port, "/chat") as two:
        await one.ask("hello")
        await one.receive()
        await one.send(text)
        assert (await one.closed()).code == (code if each_class == NATIVE else 1006)
        assert await two.receive() == "Somebody says: hello"
        await eventually(lambda: len(manager.active_connections) == 1, lambda: manager.active_connections)
        assert await two.ask("still here") == "You wrote: still here"
