"""What runs on uvicorn in the test's own event loop runs on its default WebSocket class and on Hubbub's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.integration import servers


@pytest.fixture(params=["auto", servers.NATIVE], ids=["uvicorn", "hubbub"])
def each_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let `serving` run this WebSocket class, and return it."""
    monkeypatch.setattr(servers, "ws_class", request.param)
    return str(request.param)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Offer uvloop to the tests that ask for it: `pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])`."""
    marker = item.get_closest_marker("asyncio")
    if marker is None or "loop_factories" not in marker.kwargs:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
