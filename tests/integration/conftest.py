"""What runs on uvicorn in the test's own event loop runs on its default WebSocket class and on Hubbub's."""

import pytest

from tests.integration import servers


@pytest.fixture(params=["auto", servers.NATIVE], ids=["uvicorn", "hubbub"])
def each_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let `serving` run this WebSocket class, and return it."""
    monkeypatch.setattr(servers, "ws_class", request.param)
    return str(request.param)
