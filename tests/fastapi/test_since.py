"""The query parameter with the position of a client that comes back."""

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI

from hubbub import Connection, History, Hub, Position, Since
from hubbub.fastapi.asyncapi.document import document
from hubbub.testing import Client, Refused


@pytest.fixture
def app() -> FastAPI:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    rooms = hub.channels("room:{room}", history=History())

    @app.websocket("/rooms/{room}")
    async def listen(connection: Annotated[Connection, Depends(hub)], room: str, since: Since) -> None:
        await connection.send(repr(since))
        await connection.join(rooms(room=room), since=since)

    return app


@pytest.mark.parametrize(("query", "position"), [("", None), ("?since=abc:7", Position("abc", 7))])
async def test_it_is_a_position_or_none(app: FastAPI, query: str, position: Position | None) -> None:
    async with Client(app) as client, client.connect(f"/rooms/kitchen{query}") as connection:
        assert await connection.receive() == repr(position)


@pytest.mark.parametrize("text", ["", "abc", "abc:", "abc:-1", ":7", "a b:7", "abc:7:8", "abc:007"])
async def test_what_is_no_position_is_refused(app: FastAPI, text: str) -> None:
    async with Client(app) as client:
        with pytest.raises(Refused) as refused:
            async with client.connect(f"/rooms/kitchen?since={text}"):
                pass
    assert refused.value.status == 400


def test_the_document_says_what_it_is(app: FastAPI) -> None:
    query = document(app, ())["channels"]["listen"]["bindings"]["ws"]["query"]
    assert "epoch:offset" in query["properties"]["since"]["description"]
    assert "required" not in query
