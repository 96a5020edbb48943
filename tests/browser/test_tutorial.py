"""The tutorial's page, whose own address and the one it connects to differ in how they name this machine."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.server import Server, serving

APPLICATION = "tests.browser.tutorial:app"


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(APPLICATION, tmp_path_factory.mktemp("tutorial") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same page from another port: a foreign origin."""
    with serving(APPLICATION, tmp_path_factory.mktemp("elsewhere") / "log") as server:
        yield server


@pytest.fixture
def pages(chromium: Browser) -> Iterator[list[Page]]:
    context = chromium.new_context()
    yield [context.new_page(), context.new_page()]
    context.close()


def submit(page: Page, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_label("Text").press("Enter")


@pytest.mark.parametrize("endpoint", ["manager", "hub"])
@pytest.mark.parametrize(("page_host", "socket_host"), [("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")])
def test_the_names_of_this_machine_are_one_origin(
    tutorial: Server, pages: list[Page], endpoint: str, page_host: str, socket_host: str
) -> None:
    for number, page in enumerate(pages, start=1):
        to = f"ws://{socket_host}:{tutorial.port}/{endpoint}/{number}"
        page.goto(f"http://{page_host}:{tutorial.port}/?to={to}")
        expect(page.locator("#state")).to_have_text("open")
    one, two = pages
    submit(one, "Hello")
    expect(one.locator("li")).to_have_text(["You wrote: Hello", "Client #1 says: Hello"])
    expect(two.locator("li")).to_have_text(["Client #1 says: Hello"])
    one.close()
    expect(two.locator("li")).to_have_text(["Client #1 says: Hello", "Client #1 left the chat"])


@pytest.mark.parametrize("endpoint", ["manager", "hub"])
@pytest.mark.parametrize("page_host", ["localhost", "127.0.0.1"])
def test_a_page_from_elsewhere_is_refused(
    tutorial: Server, elsewhere: Server, pages: list[Page], endpoint: str, page_host: str
) -> None:
    page = pages[0]
    with page.expect_console_message(lambda message: "403" in message.text):
        page.goto(f"http://{page_host}:{elsewhere.port}/?to=ws://127.0.0.1:{tutorial.port}/{endpoint}/1")
    expect(page.locator("#state")).to_have_text("closed")
