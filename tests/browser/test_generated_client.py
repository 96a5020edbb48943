"""The client that `hubbub types` generates, in a browser, while the server that it is connected to is restarted."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from hubbub.cli.typescript import typescript
from hubbub.fastapi.asyncapi.document import document
from hubbub.fastapi.hub import families
from tests.browser import numbers_application
from tests.browser.server import Server, serving
from tests.node import bundle, tsc
from tests.redis_server import redis_server

APPLICATION = "tests.browser.numbers_application:app"
DEADLINE_MS = 20_000.0
AN_HOUR_MS = 3_600_000

PAGE = """
import { connectListen, type HubbubStatus } from "./numbers.ts";

const values: number[] = [];
const losses: boolean[] = [];
const states: HubbubStatus["state"][] = [];

function start(firstDelayMs: number) {
  return connectListen({ series: "ä" }, {
    firstDelayMs,
    longestDelayMs: Math.max(firstDelayMs, 200),
    onMessage(message) {
      if ("recovered" in message) losses.push(!message.recovered);
      else if ("data" in message) values.push(message.data.value);
    },
    onStatus: ({ state }) => states.push(state),
  });
}

Object.assign(window, { values, losses, states, start });
"""
COMPILER = {"strict": True, "noEmit": True, "module": "esnext", "moduleResolution": "bundler", "types": []}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's script, type-checked and bundled."""
    directory = tmp_path_factory.mktemp("page")
    described = document(numbers_application.app, families(numbers_application.hub))
    (directory / "numbers.ts").write_text(typescript(described), encoding="utf-8")
    (directory / "page.ts").write_text(PAGE, encoding="utf-8")
    options = {**COMPILER, "target": "es2022", "lib": ["es2022", "dom"], "allowImportingTsExtensions": True}
    (directory / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    assert tsc(directory) == []
    return bundle(directory / "page.ts", "--format=iife")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    """Two workers on one Redis: one for the page, and one that publishes while the other is away."""
    with redis_server() as redis:
        monkeypatch.setenv("HUBBUB_TEST_BROKER", redis.url)
        with serving(APPLICATION, tmp_path / "page.log") as server, serving(APPLICATION, tmp_path / "log") as other:
            yield server, other


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    context.set_default_timeout(DEADLINE_MS)
    yield context
    context.close()


def start(context: BrowserContext, server: Server, script: str, first_delay_ms: int) -> Page:
    """Open a page that hears the numbers, and wait until it does."""
    page = context.new_page()
    page.goto(server.url)
    page.add_script_tag(content=script)
    page.evaluate("delay => { window.connection = start(delay); }", first_delay_ms)
    wait_for(page, "losses.length === 1")
    return page


def wait_for(page: Page, condition: str, argument: Any = None) -> None:
    """Wait until something holds in the page; the text may say `it` for the argument."""
    page.wait_for_function(f"it => {condition}", arg=argument)


def publish(server: Server, values: Iterable[int]) -> None:
    for value in values:
        server.http.post("/series/ä", params={"value": value}).raise_for_status()


def test_every_number_comes_once_and_in_order_while_the_server_is_restarted(
    context: BrowserContext, servers: tuple[Server, Server], script: str
) -> None:
    server, other = servers
    page = start(context, server, script, 50)
    count = 0

    def publish_some(by: Server) -> None:
        nonlocal count
        publish(by, range(count, count + 5))
        count += 5

    ends: tuple[Callable[[Server], None], ...] = (Server.stop, Server.kill, Server.stop)
    for end in ends:
        publish_some(server)
        publish_some(other)
        end(server)
        publish_some(other)
        wait_for(page, "connection.status.state !== 'open'")
        publish_some(other)
        server.start()
        publish_some(server)
        publish_some(other)
        wait_for(page, "values.length >= it", count)
        wait_for(page, "connection.send({ type: 'number', value: it })", count)
        count += 1
        wait_for(page, "values.length >= it", count)
    assert page.evaluate("values") == [*range(count)]
    assert page.evaluate("losses") == [False] * (1 + len(ends))


def test_a_page_comes_back_when_its_browser_is_online_again(
    context: BrowserContext, servers: tuple[Server, Server], script: str
) -> None:
    server, other = servers
    page = start(context, server, script, AN_HOUR_MS)
    server.kill()
    wait_for(page, "connection.status.state === 'waiting'")
    context.set_offline(True)
    publish(other, [1, 2])
    server.start()
    context.set_offline(False)
    wait_for(page, "values.length === 2")
    assert page.evaluate("[values, states]") == [
        [1, 2],
        ["connecting", "open", "waiting", "connecting", "open"],
    ]
