"""An ended connection is gone at once: `hubbub run` lets the garbage collector come by seldom."""

import gc
import weakref
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from hubbub import Connection, Denied, Hub
from tests.integration.clients import client, refusal
from tests.integration.deadline import eventually
from tests.integration.servers import NATIVE, serving


@pytest.mark.parametrize("how", ["returned", "raised", "closed by the client", "refused", "detached"])
async def test_nothing_of_a_connection_waits_for_the_garbage_collector(how: str) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    seen: list[weakref.ref[Any]] = []

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        seen.extend((weakref.ref(connection), weakref.ref(connection.websocket)))
        if how == "refused":
            raise Denied("no")
        await connection.accept()
        if how == "detached":
            connection.detach(lambda connection, message: connection.send(message))
            return
        async for _ in connection:
            if how == "raised":
                raise Denied("no more")
            return

    async with serving(app, ws=NATIVE, http="hubbub.server.http:HTTPProtocol") as port:
        gc.collect()
        gc.disable()
        try:
            if how == "refused":
                assert (await refusal(port, "/ws")).status_code == 403
            else:
                async with client(port, "/ws") as someone:
                    if how != "closed by the client":
                        await someone.send("x")
                    if how == "detached":
                        assert await someone.receive() == "x"
            await eventually(lambda: [reference() for reference in seen] == [None, None], lambda: seen)
        finally:
            gc.enable()
