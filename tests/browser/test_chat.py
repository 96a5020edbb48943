"""The chat: rooms, names, private messages, many tabs, and coming back."""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.browser.conftest import DESKTOP, PHONE, NewPerson
from tests.browser.server import Server

MARKUP = "<img src=x onerror=\"document.title='broken in'\">"


def log(page: Page) -> Locator:
    return page.locator("#log")


def said(page: Page, text: str) -> Locator:
    return log(page).get_by_text(text, exact=True)


def say(page: Page, text: str, to: str = "Everyone") -> None:
    page.get_by_label("To").select_option(label=to)
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def present(page: Page) -> Locator:
    return page.locator("#people bdi")


def test_the_page_asks_for_a_name_and_remembers_it(person: NewPerson) -> None:
    page = person().open("/chat/")
    expect(page).to_have_url(re.compile("/chat/rooms/lobby$"))
    name = page.get_by_label("What should the others call you?")
    name.fill("  ")
    name.press("Enter")
    expect(name).to_be_visible()
    name.fill("Grace")
    name.press("Enter")
    expect(present(page)).to_have_text(["Grace"])

    page.reload()
    expect(present(page)).to_have_text(["Grace"])
    expect(page.get_by_role("button", name="You are Grace")).to_be_visible()


def test_a_name_can_be_changed(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/renaming")
    bob = person().open("/chat/rooms/renaming")
    bob.get_by_label("What should").fill("Bob")
    bob.get_by_role("dialog").get_by_role("button", name="Go").click()
    expect(present(ada)).to_have_text(["Ada", "Bob"])
    bob.get_by_role("button", name="You are Bob").click()
    bob.get_by_label("What should").fill("Robert")
    bob.get_by_label("What should").press("Enter")
    expect(present(ada)).to_have_text(["Ada", "Robert"])


def test_what_one_types_the_others_of_the_room_see(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/python")
    bob = person("Bob").connect("/chat/rooms/python")
    carol = person("Carol").connect("/chat/rooms/kitchen")
    expect(said(ada, "Bob joined")).to_be_visible()
    expect(present(ada)).to_have_text(["Ada", "Bob"])
    expect(present(bob)).to_have_text(["Ada", "Bob"])

    say(ada, "Hello, Bob")
    expect(said(bob, "Hello, Bob")).to_be_visible()
    expect(said(ada, "Hello, Bob")).to_be_visible()
    say(bob, "Hello, Ada")
    expect(said(ada, "Hello, Ada")).to_be_visible()
    expect(log(carol).locator(".said")).to_have_count(0)
    expect(present(carol)).to_have_text(["Carol"])


def test_who_is_typing_is_shown_until_the_message_is_there(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/typing")
    bob = person("Bob").connect("/chat/rooms/typing")
    expect(present(ada)).to_have_text(["Ada", "Bob"])
    ada.get_by_label("Message", exact=True).press_sequentially("Hm")
    expect(bob.locator("#typing")).to_have_text("Ada is typing…")
    ada.get_by_label("Message", exact=True).press("Enter")
    expect(said(bob, "Hm")).to_be_visible()
    expect(bob.locator("#typing")).to_be_empty()


def test_messages_in_a_row_stand_under_one_name(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/rows")
    bob = person("Bob").connect("/chat/rooms/rows")
    for page, text in ((ada, "one"), (ada, "two"), (bob, "three"), (ada, "four")):
        say(page, text)
        expect(said(bob, text)).to_be_visible()
    expect(log(bob).locator(".by bdi")).to_have_text(["Ada", "You", "Ada"])


def test_joins_and_leaves_in_a_row_are_one_line(person: NewPerson, server: Server) -> None:
    ada = person("Ada").connect("/chat/rooms/moving")
    address = server.url.replace("http", "ws") + "/chat/rooms/moving?name="
    with ExitStack() as sockets:
        for name in ("Bob", "Cleo", "Dora", "Emil"):
            sockets.enter_context(connect(address + name, proxy=None))
            expect(present(ada).filter(has_text=name)).to_be_visible()
        expect(log(ada).locator("li")).to_have_text(["Bob, Cleo and 2 others joined"])
    expect(present(ada)).to_have_text(["Ada"])
    expect(log(ada).locator("li")).to_have_count(1)
    expect(log(ada).locator("li")).to_contain_text("and 2 others left")


def test_markup_in_a_name_or_a_message_stays_text(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/markup")
    mallory = person("<b>Mallory</b>").connect("/chat/rooms/markup")
    say(mallory, MARKUP)
    expect(said(ada, MARKUP)).to_be_visible()
    expect(present(ada)).to_have_text(["<b>Mallory</b>", "Ada"])
    expect(ada.locator("#log img, #log b, #people b")).to_have_count(0)
    expect(ada).to_have_title(re.compile("^#markup"))


def test_a_private_message_reaches_one_person_only(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/private")
    bob = person("Bob")
    bobs_tabs = [bob.connect("/chat/rooms/private"), bob.connect("/chat/rooms/private")]
    carol = person("Carol").connect("/chat/rooms/private")
    expect(present(ada)).to_have_text(["Ada", "Bob", "Carol"])

    say(ada, "Only for you", to="Bob")
    for tab in bobs_tabs:
        expect(log(tab).locator(".private")).to_contain_text("Ada privately to you")
        expect(said(tab, "Only for you")).to_be_visible()
    expect(log(ada).locator(".private")).to_contain_text("You privately to Bob")

    expect(ada.get_by_label("To")).to_have_value("")
    ada.get_by_label("Message", exact=True).fill("For all of you")
    ada.get_by_label("Message", exact=True).press("Enter")
    expect(said(carol, "For all of you")).to_be_visible()
    expect(said(carol, "Only for you")).to_have_count(0)


def test_a_private_message_to_somebody_who_left_is_given_back(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/gone")
    bob = person("Bob").connect("/chat/rooms/gone")
    carol = person("Carol").connect("/chat/rooms/gone")
    expect(present(ada)).to_have_text(["Ada", "Bob", "Carol"])
    ada.get_by_label("To").select_option(label="Bob")
    bob.close()
    expect(present(ada)).to_have_text(["Ada", "Carol"])

    ada.get_by_label("Message", exact=True).fill("A secret")
    ada.get_by_label("Message", exact=True).press("Enter")
    expect(ada.get_by_role("alert")).to_have_text("Bob is not in this room, and has not got your message.")
    expect(ada.get_by_label("Message", exact=True)).to_have_value("A secret")
    expect(ada.get_by_label("To")).to_have_value("Bob")
    say(carol, "Still here?")
    expect(said(ada, "Still here?")).to_be_visible()
    expect(said(carol, "A secret")).to_have_count(0)


def test_a_person_with_two_tabs_joins_once_and_leaves_with_the_last(person: NewPerson) -> None:
    bob = person("Bob").connect("/chat/rooms/tabs")
    ada = person("Ada")
    first, second = ada.connect("/chat/rooms/tabs"), ada.connect("/chat/rooms/tabs")
    say(first, "From the first")
    expect(said(second, "From the first")).to_be_visible()
    expect(present(bob)).to_have_text(["Ada", "Bob"])

    first.close()
    say(second, "From the second")
    expect(said(bob, "From the second")).to_be_visible()
    expect(said(bob, "Ada joined")).to_have_count(1)
    expect(said(bob, "Ada left")).to_have_count(0)

    second.close()
    expect(said(bob, "Ada left")).to_be_visible()
    expect(present(bob)).to_have_text(["Bob"])


def test_a_reload_comes_back_to_the_same_room(person: NewPerson) -> None:
    ada = person("Ada").connect("/chat/rooms/reload")
    bob = person("Bob").connect("/chat/rooms/reload")
    ada.reload()
    expect(said(bob, "Ada left")).to_be_visible()
    expect(said(bob, "Ada joined")).to_be_visible()
    say(bob, "Welcome back")
    expect(said(ada, "Welcome back")).to_be_visible()


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["deploy", "crash"])
def test_the_page_reconnects_by_itself_after_a_restart(
    person: NewPerson, server: Server, end: Callable[[Server], None]
) -> None:
    ada = person("Ada").connect("/chat/rooms/restart")
    bob = person("Bob").connect("/chat/rooms/restart")
    server.begin_restart()
    end(server)
    for page in (ada, bob):
        expect(page.get_by_role("status")).to_contain_text("Reconnecting…")
        expect(present(page)).to_have_text(["Ada", "Bob"])
        expect(page.locator("#people")).to_have_class("stale")
    ada.get_by_label("Message", exact=True).fill("Too early")
    ada.get_by_label("Message", exact=True).press("Enter")
    expect(ada.get_by_role("alert")).to_contain_text("There is no connection at present")
    expect(ada.get_by_label("Message", exact=True)).to_have_value("Too early")

    server.start()
    for page in (ada, bob):
        expect(page.get_by_role("status")).to_have_text("Connected again")
        expect(log(page)).to_contain_text("Something that was said is missing here")
        expect(page.locator("#notice")).to_be_empty()
        expect(page.locator("#people")).not_to_have_class("stale")
        expect(present(page)).to_have_text(["Ada", "Bob"])
    say(ada, "Here we are again")
    expect(said(bob, "Here we are again")).to_be_visible()


def test_what_was_said_meanwhile_is_there_when_the_connection_is_back(person: NewPerson) -> None:
    connections: list[WebSocketRoute] = []

    def pass_on_until_it_is_told_not_to(socket: WebSocketRoute) -> None:
        connections.append(socket)
        server = socket.connect_to_server()
        server.on_message(lambda text: drop(socket) if "Lost" in text and len(connections) == 1 else socket.send(text))

    def drop(socket: WebSocketRoute) -> None:
        socket.close(code=1001, reason="the network is gone")

    ada = person("Ada")
    ada.context.route_web_socket("**/rooms/**", pass_on_until_it_is_told_not_to)
    page, bob = ada.connect("/chat/rooms/resume"), person("Bob").connect("/chat/rooms/resume")
    say(bob, "Before")
    say(bob, "Lost on the way")
    expect(page.get_by_role("status")).to_have_text("Connected again")
    say(bob, "After")
    expect(page.locator("#log .said")).to_have_text(["Before", "Lost on the way", "After"])
    expect(log(page)).not_to_contain_text("missing")


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_another_room_is_a_form_away(person: NewPerson, viewport: dict[str, int]) -> None:
    page = person("Ada", viewport=viewport).connect("/chat/rooms/lobby")
    expect(page.locator("#rooms a")).to_have_text(["lobby", "python", "kitchen"])
    page.get_by_label("Another room").fill("attic")
    page.get_by_label("Another room").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("# attic")
    expect(page.locator("#rooms a")).to_have_text(["attic", "lobby", "python", "kitchen"])
    expect(page.locator("#rooms [aria-current]")).to_have_text("attic")
    expect(page.locator("#rooms [aria-current]")).to_be_in_viewport()
    page.get_by_role("link", name="kitchen").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("# kitchen")
    expect(page.get_by_role("link", name="kitchen")).to_have_attribute("aria-current", "page")


@pytest.mark.parametrize(
    "message",
    [
        "not JSON",
        "[]",
        '{"type": "shout", "text": "x"}',
        '{"type": "say", "text": "   "}',
        '{"type": "say", "text": 5}',
        '{"type": "say", "text": "\\ud800"}',
        json.dumps({"type": "say", "text": "x" * 2_001}),
        '{"type": "whisper", "text": "to whom?"}',
    ],
)
def test_a_bad_message_is_answered_and_the_connection_goes_on(server: Server, message: str) -> None:
    with connect(server.url.replace("http", "ws") + "/chat/rooms/hostile?name=Mallory", proxy=None) as socket:
        assert json.loads(socket.recv(5))["recovered"] is True
        assert json.loads(socket.recv(5))["data"]["type"] == "joined"
        assert json.loads(socket.recv(5)) == {"type": "roster", "names": ["Mallory"]}
        socket.send(message)
        error = json.loads(socket.recv(5))
        assert (error["type"], error["code"]) == ("error", "invalid_message")
        socket.send('{"type": "say", "text": "still here"}')
        assert json.loads(socket.recv(5))["data"] == {"type": "said", "name": "Mallory", "text": "still here"}


def test_one_address_has_so_many_connections(server: Server) -> None:
    address = server.url.replace("http", "ws") + "/chat/rooms/address?name=user-{}"
    with ExitStack() as sockets:
        for number in range(100):
            sockets.enter_context(connect(address.format(number), proxy=None))
        with pytest.raises(InvalidStatus) as refusal:
            connect(address.format("one-more"), proxy=None)
    assert refusal.value.response.status_code == 429


@pytest.mark.parametrize(
    "path",
    [
        "/chat/rooms/UPPER?name=Ada",
        "/chat/rooms/a?name=",
        "/chat/rooms/a?name=" + "x" * 25,
        "/chat/rooms/a?name=a%0Ab",
        "/chat/rooms/a",
    ],
)
def test_a_bad_room_or_name_is_refused_at_the_handshake(server: Server, path: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(server.url.replace("http", "ws") + path, proxy=None)
    assert refusal.value.response.status_code == 403
