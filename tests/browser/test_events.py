"""A browser's own `EventSource`, with no script but what shows the events, while its server is restarted."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.server import Server, serving
from tests.redis_server import redis_server

APPLICATION = "tests.browser.events_application:app"
GONE_S = 2.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(APPLICATION, tmp_path / "log") as server:
        yield server


@pytest.fixture
def on_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with redis_server() as redis:
        monkeypatch.setenv("HUBBUB_TEST_BROKER", redis.url)
        yield


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Page]:
    """A page that listens and has got the first event."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#state")).to_have_text("open")
    publish(server, "one")
    expect(page.locator("li")).to_have_text(["one"])
    yield page
    context.close()


def publish(server: Server, text: str) -> None:
    assert server.http.post("/news", params={"text": text}).is_success


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stop", "kill"])
@pytest.mark.usefixtures("on_redis")
def test_nothing_is_missing_after_a_restart_where_redis_has_the_history(
    server: Server, page: Page, end: object
) -> None:
    for number in range(3):
        assert callable(end)
        end(server)
        server.start()
        publish(server, f"while away {number}")
        expect(page.locator("li")).to_have_count(2 * number + 2)
        publish(server, f"live {number}")
        expect(page.locator("li")).to_have_count(2 * number + 3)
    expect(page.locator("li")).to_have_text(
        ["one", *(f"{when} {number}" for number in range(3) for when in ("while away", "live"))]
    )
    expect(page.locator("#state")).to_have_text("open")


def test_history_that_ends_with_its_process_is_told_as_a_reset(server: Server, page: Page) -> None:
    server.stop()
    server.start()
    expect(page.locator("li")).to_have_text(["one", "reset"])
    publish(server, "two")
    expect(page.locator("li")).to_have_text(["one", "reset", "two"])


def test_an_open_page_does_not_keep_the_server(server: Server, page: Page) -> None:
    since = time.monotonic()
    server.stop()
    assert time.monotonic() - since < GONE_S
    server.start()
    expect(page.locator("#state")).to_have_text("open")
