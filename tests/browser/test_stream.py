"""What survives a reload: the stream of the examples, and the pages that the documentation gives to copy."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from examples.stream.app import Question, pieces_of
from tests.browser.conftest import PHONE, NewPerson
from tests.browser.server import ROOT, Server

PAGE = "/stream/"


def words(page: Page) -> Locator:
    return page.locator("#words")


def end(page: Page) -> Locator:
    return page.locator("#end")


def ask(page: Page, question: str, *, fails: bool = False) -> None:
    page.get_by_label("Ask something").fill(question)
    if fails:
        page.get_by_label("The model fails half way").check()
    page.get_by_role("button", name="Ask").click()
    expect(page).to_have_url(re.compile(r"\?answer=[0-9a-f]{16}$"))


def wait_for_words(page: Page, number: int) -> None:
    page.wait_for_function("number => Number(document.getElementById('words').textContent) >= number", arg=number)


def words_of(page: Page) -> int:
    return int(words(page).text_content() or 0)


def assert_complete(page: Page, question: str) -> None:
    """Nothing is missing, and nothing is there twice."""
    pieces = pieces_of(Question(text=question))
    expect(end(page)).to_have_text("Finished")
    assert page.locator("#text").text_content() == "".join(pieces)
    assert words_of(page) == len(pieces)


def test_a_reload_in_the_middle_loses_nothing_and_repeats_nothing(person: NewPerson) -> None:
    page = person().open(PAGE)
    ask(page, "What is lost?")
    for number in (5, 30, 60):
        wait_for_words(page, number)
        expect(page.locator("#text")).to_have_attribute("aria-busy", "true")
        page.reload()
        assert words_of(page) >= number
    assert_complete(page, "What is lost?")
    expect(page.locator("#asked")).to_have_text("What is lost?")
    expect(page.locator("#reloads")).to_have_text("3")
    expect(page.locator("#text .break")).to_have_count(3)


def test_what_came_while_the_page_was_away_comes_with_it(person: NewPerson) -> None:
    page = person().open(PAGE)
    ask(page, "Are you away?")
    wait_for_words(page, 10)
    address = page.url
    position = page.locator("#position").text_content() or ""
    page.goto("about:blank")
    witness = person().open(address.partition(PAGE)[1] + address.partition(PAGE)[2])
    wait_for_words(witness, 60)
    page.goto(address)
    expect(page.locator("#text")).to_contain_text("Are you away?")
    wait_for_words(page, 60)
    assert int((page.locator("#position").text_content() or "").split(":")[1]) > int(position.split(":")[1]) + 40
    for each in (page, witness):
        assert_complete(each, "Are you away?")


def test_two_tabs_and_a_phone_see_the_same(person: NewPerson) -> None:
    ada = person()
    first = ada.open(PAGE)
    ask(first, "Who else reads this?")
    wait_for_words(first, 20)
    with first.context.expect_page() as opened:
        first.get_by_role("link", name="Second tab").click()
    second = opened.value
    phone = person(viewport=PHONE).open("/stream/" + first.url.partition(PAGE)[2])
    for page in (first, second, phone):
        assert_complete(page, "Who else reads this?")
        expect(page.locator("#position")).to_have_text(first.locator("#position").text_content() or "")
    expect(second.locator("#reloads")).to_have_text("0")


def test_a_reload_after_the_end_shows_the_answer_and_a_late_page_gets_all_of_it(person: NewPerson) -> None:
    page = person().open(PAGE)
    ask(page, "Is it over?")
    assert_complete(page, "Is it over?")
    page.reload()
    expect(page.locator("#status")).to_have_text("Connected")
    assert_complete(page, "Is it over?")
    expect(page.locator("#reloads")).to_have_text("0")
    late = person().open("/stream/" + page.url.partition(PAGE)[2])
    assert_complete(late, "Is it over?")


def test_a_model_that_fails_is_told_on_every_page(person: NewPerson) -> None:
    page = person().open(PAGE)
    ask(page, "<b>Why?</b>", fails=True)
    other = person().open("/stream/" + page.url.partition(PAGE)[2])
    pieces = pieces_of(Question(text="<b>Why?</b>"))
    for each in (page, other):
        expect(end(each)).to_have_text("The model has failed")
        assert each.locator("#text").text_content() == "".join(pieces[: len(pieces) // 3])
        expect(each.locator("#asked")).to_have_text("<b>Why?</b>")


def test_a_long_question_fits_every_screen(person: NewPerson) -> None:
    page = person().open(PAGE)
    ask(page, "x" * 200)
    wait_for_words(page, 10)
    for width in (320, PHONE["width"], 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_answer_that_is_not_there_is_said_to_be_forgotten(person: NewPerson) -> None:
    page = person().open("/stream/?answer=0123456789abcdef")
    expect(end(page)).to_have_text("The server has forgotten this answer")


def test_a_restart_forgets_the_answer_and_says_so(person: NewPerson, server: Server) -> None:
    page = person().open(PAGE)
    ask(page, "Will you remember?")
    wait_for_words(page, 10)
    server.begin_restart()
    server.stop()
    expect(page.locator("#status")).to_contain_text("Reconnecting…")
    server.start()
    expect(page.locator("#status")).to_have_text("Connected again")
    expect(end(page)).to_have_text(re.compile("The (model has failed|server has forgotten this answer)"))


@pytest.mark.parametrize("body", [{"text": " "}, {"text": "x" * 201}, {}])
def test_a_bad_question_is_refused(server: Server, body: dict[str, str]) -> None:
    response: httpx.Response = server.http.post("/stream/answers", json=body)
    assert response.status_code == 422


# The documentation's own pages

KEEP_SOCKETS = """
    window.sockets = [];
    WebSocket = class extends WebSocket {
      constructor(url) { super(url); sockets.push(this); }
    };
"""


class DocumentedServer(Server):
    """A program of the documentation under `hubbub run`."""

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hubbub.cli", "run", "main:app", "--port", str(self.port)]
        options = ["--app-dir", str(self._log.parent), "--timeout-graceful-shutdown", "15", "--log-level", "warning"]
        return subprocess.Popen([*command, *options], stdout=output, stderr=output)


@contextmanager
def documented(page: str, example: str, directory: Path) -> Iterator[DocumentedServer]:
    text = (ROOT / page).read_text(encoding="utf-8")
    program = text.partition(f"<!-- example: {example} -->\n```python\n")[2].partition("\n```")[0]
    (directory / "main.py").write_text(program, encoding="utf-8")
    server = DocumentedServer("main:app", directory / "log")
    with server.http:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    assert "Traceback" not in server.log, server.log


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def say(server: Server, *texts: str) -> None:
    for text in texts:
        server.http.post("/rooms/kitchen", params={"text": text}).raise_for_status()


def lines(page: Page) -> Locator:
    return page.locator("li")


def test_the_documented_client_comes_back_for_what_it_has_missed(tab: Page, tmp_path: Path) -> None:
    with documented("docs/channels.md", "resume", tmp_path) as server:
        tab.add_init_script(KEEP_SOCKETS)
        tab.goto(server.url)
        tab.wait_for_function("epoch !== ''")
        say(server, "one", "two")
        expect(lines(tab)).to_have_text(["one", "two"])
        for missed in ("three", "four"):
            tab.evaluate("sockets.at(-1).close()")
            say(server, missed)
        expect(lines(tab)).to_have_text(["one", "two", "three", "four"])
        say(server, "five")
        expect(lines(tab)).to_have_text(["one", "two", "three", "four", "five"])

        server.stop()
        server.start()
        expect(lines(tab)).to_have_text([])  # the process has forgotten, and said so
        say(server, "six")
        expect(lines(tab)).to_have_text(["six"])


def test_the_documented_events_end_with_the_server_and_come_back(tab: Page, tmp_path: Path) -> None:
    with documented("docs/events.md", "events", tmp_path) as server:
        with tab.expect_response("**/events"):
            tab.goto(server.url)
        say(server, "one", "two")
        expect(lines(tab)).to_have_text(["one", "two"])
        asked_at = time.monotonic()
        server.stop()
        assert time.monotonic() - asked_at < 5
        server.start()
        expect(lines(tab)).to_have_text([])
        say(server, "three")
        expect(lines(tab)).to_have_text(["three"])
