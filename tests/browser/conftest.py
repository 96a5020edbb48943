"""A real Chromium, real pages and a real server.

The synchronous Playwright keeps an event loop of its own running in this thread, which the asynchronous tests of other
folders would meet: so it lives for this folder only, not for the session.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.server import Server, serving

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
LOST_CONNECTION = re.compile(r"WebSocket connection to '.*' failed")
DEADLINE_MS = 20_000.0

# Pictures are made on request only, so that a run of the tests leaves the working tree as it was.
collect_ignore = [] if os.environ.get("HUBBUB_SCREENSHOTS") == "1" else ["test_pictures.py"]

expect.set_options(timeout=DEADLINE_MS)


class Person:
    """One browser profile: its tabs share what they have stored, and with it the name."""

    def __init__(self, context: BrowserContext, base: str, complaints: list[str]) -> None:
        self.context = context
        self._base = base
        self._complaints = complaints

    def open(self, path: str = "/") -> Page:
        """Open an address in a new tab."""
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.goto(self._base + path)
        return page

    def connect(self, path: str) -> Page:
        """Open an address in a new tab and wait until the page is connected."""
        page = self.open(path)
        expect(page.locator("#status")).to_have_text("Connected")
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(message.text)


NewPerson = Callable[..., Person]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        pytest.fail(f"these tests drive a real browser, and none of {', '.join(EXECUTABLES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All the example applications."""
    with serving("examples.main:app", tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def person(chromium: Browser, server: Server) -> Iterator[NewPerson]:
    """``person("Ada")`` is somebody with a browser of their own; afterwards no page may have complained."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    restarts = server.restarts

    def new_person(name: str | None = None, base: str = server.url, **options: Any) -> Person:
        context = chromium.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
        contexts.append(context)
        context.set_default_timeout(DEADLINE_MS)
        if name is not None:
            context.add_init_script(f"localStorage.setItem('hubbub-name', {name!r})")
        return Person(context, base, complaints)

    yield new_person
    for context in contexts:
        context.close()
    if server.restarts > restarts:
        complaints = [complaint for complaint in complaints if not LOST_CONNECTION.search(complaint)]
    assert complaints == []
