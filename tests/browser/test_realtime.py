"""The page `/realtime`: the endpoints to look at, and to try."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import DESKTOP, PHONE, NewPerson
from tests.browser.server import DEADLINE_S, Server, serving

APPLICATION = "tests.browser.realtime_application:application"
MARKUP = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"
INJECTED = "#content img, #content b"
PAGE_BYTES = 150_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(APPLICATION, tmp_path_factory.mktemp("realtime") / "log") as server:
        yield server


def connect(page: Page, number: int = 1, **parameters: str) -> Locator:
    """Fill the form in, connect, and return the panel of the connection once it is open."""
    for name, value in parameters.items():
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Connect", exact=True).click()
    panel = page.get_by_role("region", name=f"Connection {number}", exact=True)
    expect(panel.locator(".state")).to_have_text("Open")
    return panel


def send(panel: Locator) -> None:
    panel.get_by_role("button", name="Send", exact=True).click()


def log(panel: Locator, direction: str = "received") -> Locator:
    return panel.locator(f".log li.{direction}")


def last(panel: Locator, name: str, text: str | re.Pattern[str] = "", direction: str = "received") -> Locator:
    """Wait for the newest entry of a direction to be that message, and return it."""
    entry = log(panel, direction).last
    expect(entry.locator(".message-name")).to_have_text(name)
    expect(entry.locator(".preview")).to_contain_text(text)
    return entry


def mode(panel: Locator, name: str) -> None:
    panel.locator(".composer").get_by_text(name, exact=True).click()


def code(part: Locator, language: str) -> str:
    """Return a request as code in one of the languages."""
    if part.locator(".code-view:not([open])").count():
        part.get_by_text("As code").click()
    part.locator(".code-view").get_by_text(language, exact=True).click()
    return part.get_by_label("Code", exact=True).inner_text()


def width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


# What the document says


def test_the_list_of_endpoints_is_searched_by_text_and_by_tag(person: NewPerson) -> None:
    page = person().open("/realtime")
    expect(page).to_have_title("Talk & <draw> · Realtime")
    expect(page.get_by_role("heading", level=1)).to_have_text("Talk & <draw>")
    navigation = page.get_by_role("navigation", name="Endpoints")
    expect(navigation.get_by_role("link")).to_have_count(9)
    page.get_by_label("Search").fill("whisper")
    expect(navigation.get_by_role("link")).to_have_text(["/rooms/{room}Talk in a room."])
    expect(page.locator(".cards li:visible")).to_have_count(1)
    page.get_by_label("Search").fill("")
    tag = navigation.get_by_role("button", name="raw")
    tag.click()
    expect(tag).to_have_attribute("aria-pressed", "true")
    expect(navigation.get_by_role("status")).to_have_text("5 of 9")
    navigation.get_by_role("link", name="/bytes").click()
    expect(page).to_have_url(re.compile(r"/realtime#mirror$"))
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("/bytes")
    expect(heading).to_be_focused()


def test_the_reference_of_an_endpoint_has_all_that_the_document_says(person: NewPerson) -> None:
    page = person().open("/realtime#chat")
    expect(page.get_by_role("heading", level=1)).to_have_text("/rooms/{room}")
    content = page.locator("#content")
    expect(content.locator(".prose code").first).to_have_text("Whisper")
    expect(content.get_by_role("region", name="Parameters").get_by_role("listitem")).to_have_text(
        [
            re.compile("room.*string.*required.*path.*Where to talk.*matches.*lobby"),
            re.compile("name.*string.*required.*query.*How others see you.*1 to 24 characters"),
            re.compile("age.*integer or null.*query.*≥ 18 · ≤ 120"),
            re.compile("topics.*list of string"),
            re.compile("quiet.*boolean.*default false"),
            re.compile("x-client.*header"),
        ]
    )
    sent = content.get_by_role("region", name="Client sends")
    expect(sent.locator(".message-name")).to_have_text(["Say", "Whisper"])
    expect(sent.locator(".schema > li").nth(1)).to_have_text(re.compile('textstringrequiredWhat to say.*"Hello"'))
    expect(sent.get_by_label("Example of Say")).to_have_text(re.compile(r'"type": "say",\s+"text": "Hello"'))
    received = content.get_by_role("region", name="Client receives")
    expect(received.locator(".message-name")).to_have_text(["Said", "Whispered", "Joined", "InvalidMessage"])
    received.get_by_text("InvalidMessage").click()
    received.locator(".schema summary", has_text="errors").click()
    expect(received.locator(".schema .schema .name").first).to_have_text("type")
    expect(content.get_by_role("region", name="Limits")).to_contain_text("16 KiB")
    expect(content.get_by_role("row", name=re.compile("1008.*200 messages a second"))).to_be_visible()
    expect(content.get_by_role("row", name=re.compile("429"))).to_be_visible()

    page.goto(page.url.replace("#chat", "#room"))
    expect(page.get_by_role("heading", level=1)).to_have_text("room:{room}")
    expect(content).to_contain_text("Clients do not connect to a channel")
    expect(content).to_contain_text("50 publications for 5 min")
    expect(content.get_by_role("link", name="Try it")).to_have_count(0)


def test_nested_and_recursive_types_open_as_far_as_one_likes(person: NewPerson) -> None:
    page = person().open("/realtime#draw")
    tree = page.get_by_role("region", name="Client sends").locator(".schema > li", has_text="tree").first
    for depth in range(3):
        tree.locator("summary").nth(depth).click()
    expect(tree.get_by_text("children")).to_have_count(3)
    shape = page.get_by_role("region", name="Client sends").locator(".schema > li", has_text="shape").first
    shape.locator("summary").first.click()
    expect(shape.locator(".choice-name")).to_have_text(["Circle", "Polygon"])
    data = page.get_by_role("region", name="Client sends").locator(".schema > li", has_text="data").last
    for depth in range(3):
        data.locator("summary").nth(depth).click()
    expect(data.get_by_text("list of Json").last).to_be_visible()


def test_a_union_of_many_kinds_that_contains_itself_is_no_burden(person: NewPerson) -> None:
    page = person().open("/mounted/about/realtime#calculate")
    expect(page.get_by_label("Example of Calculate")).to_contain_text('"op": "number"')
    page.get_by_role("link", name="Try it").click()
    panel = connect(page)
    mode(panel, "Raw")
    number = {"op": "number", "value": 1}
    nested: Any = number
    for n in range(12):
        nested = {"op": f"op{n}", "left": nested, "right": number}
    panel.get_by_label("Raw message").fill(json.dumps({"expression": nested}))
    send(panel)
    last(panel, "Number", "42")
    mode(panel, "Form")
    send(panel)
    expect(log(panel, "sent")).to_have_count(2)
    expect(log(panel)).to_have_count(2)


def test_what_could_not_be_described_is_said(person: NewPerson) -> None:
    page = changed(person, lambda document: document["channels"]["chat"]["x-hubbub"].update(problems=[MARKUP]))
    problems = page.get_by_role("region", name="Problems")
    expect(problems).to_contain_text(f"chat: {MARKUP}")
    page.get_by_role("link", name="/rooms/{room}").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("/rooms/{room}")
    expect(problems.get_by_role("listitem")).to_have_text(MARKUP)
    expect(page.locator(INJECTED)).to_have_count(0)


def test_a_message_without_a_schema_is_sent_as_it_is(person: NewPerson) -> None:
    page = person().open("/realtime#lists")
    card = page.get_by_role("region", name="Client sends")
    expect(card.locator(".notice")).to_contain_text("Ticket has no JSON Schema")
    expect(card.get_by_label("Example of Ticket")).to_have_count(0)
    page.get_by_role("link", name="Try it").click()
    panel = connect(page)
    expect(panel.get_by_label("Raw message")).to_have_value("")
    panel.get_by_label("Raw message").fill("[1]")
    send(panel)
    last(panel, "Ticket", "[1]", "sent")
    last(panel, "Any JSON", '{"ticket":[1]}')


@pytest.mark.parametrize("value", [MARKUP, {"innerHTML": MARKUP}, {"href": "https://example.org/", "textContent": "x"}])
def test_texts_of_the_document_are_texts_and_never_elements(person: NewPerson, value: object) -> None:
    """An object where a text is due is no text: it is not taken for the properties of an element either."""

    def change(document: dict[str, Any]) -> None:
        document["info"].update(description=value, version=value)
        chat, say = document["channels"]["chat"], document["components"]["schemas"]["Say"]
        chat.update(title=value, summary=value, description=value, tags=[{"name": value}, {"name": "other"}])
        for code in (*chat["x-hubbub"]["closeCodes"], *chat["x-hubbub"]["refusals"]):
            code.update(reason=value, limit=value, description=value)
        document["components"]["messages"]["Say"].update(title=value, summary=value, description=value)
        document["components"]["messages"]["Say"]["x-hubbub"] = {"problem": value}
        say.update(title=value, description=value)
        say["properties"]["text"].update(title=value, description=value, format=value, examples=[value])
        say["properties"]["kind"] = {"enum": [value], "description": value}
        chat["parameters"]["room"]["x-schema"].update(description=value, pattern=value)

    page = changed(person, change)
    for view in ("", "#chat", "#chat/try"):
        page.goto(page.url.partition("#")[0] + view)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if view == "#chat":
            page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        expect(page.locator(INJECTED)).to_have_count(0)
        expect(page.locator("a[href*='example.org']")).to_have_count(0)


def test_a_document_that_cannot_be_shown_is_told(person: NewPerson, server: Server) -> None:
    def answer(route: Route) -> None:
        document = route.fetch().json()
        document["components"]["schemas"]["Say"]["properties"] = {"text": {"prefixItems": 1}}
        route.fulfill(json=document)

    context = person().context
    context.route("**/asyncapi.json", answer)
    page = context.new_page()  # not by `open`: the fault is told to the console too
    page.goto(f"{server.url}/realtime#chat")
    expect(page.get_by_role("alert")).to_contain_text("a form that this page does not know")
    page.goto(f"{server.url}/realtime#mirror")
    expect(page.get_by_role("heading", level=1)).to_have_text("/bytes")
    page.goto(f"{server.url}/realtime#chat")
    expect(page.get_by_role("alert")).to_contain_text("cannot be shown")


def changed(person: NewPerson, change: Callable[[dict[str, Any]], None]) -> Page:
    """Open the page with a document that the function changes."""

    def answer(route: Route) -> None:
        document = route.fetch().json()
        change(document)
        route.fulfill(json=document)

    somebody = person()
    somebody.context.route("**/asyncapi.json", answer)
    return somebody.open("/realtime")


@pytest.mark.parametrize(
    ("body", "words"), [("no JSON", "is not JSON"), ('{"openapi": "3.1.0"}', "not an AsyncAPI 3 document")]
)
def test_a_document_that_cannot_be_read_is_told(person: NewPerson, body: str, words: str) -> None:
    somebody = person()
    somebody.context.route("**/asyncapi.json", lambda route: route.fulfill(body=body))
    page = somebody.open("/realtime")
    expect(page.get_by_role("alert")).to_contain_text(words)
    somebody.context.unroute("**/asyncapi.json")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Talk & <draw>")


# Trying


def test_a_valid_and_an_invalid_message_and_their_answers(person: NewPerson) -> None:
    page = person().open("/realtime#chat/try")
    panel = connect(page, name="Ada")
    last(panel, "Joined", '"name":"Ada"')
    panel.get_by_label("text", exact=True).fill(MARKUP)
    send(panel)
    last(panel, "Say", "bold", "sent")
    said = last(panel, "Said", "<b>bold</b>")
    said.locator("summary").click()
    expect(said.get_by_label("The message in full")).to_contain_text(json.dumps(MARKUP))
    expect(said).to_contain_text("after the last that was sent")
    expect(page.locator(INJECTED)).to_have_count(0)

    panel.get_by_label("text", exact=True).fill("")
    expect(panel.locator(".verdict")).to_contain_text("text must have at least 1 character")
    send(panel)
    error = last(panel, "InvalidMessage")
    expect(error).to_have_attribute("data-error", "")
    error.locator("summary").click()
    expect(error).to_contain_text("String should have at least 1 character")

    mode(panel, "Raw")
    raw = panel.get_by_label("Raw message")
    expect(raw).to_have_value(re.compile(r'"text": ""'))
    raw.fill("no JSON at all")
    expect(panel.locator(".verdict")).to_contain_text("It can be sent all the same")
    mode(panel, "Form")
    expect(panel.locator(".verdict")).to_contain_text("no form can show it")
    send(panel)
    last(panel, "InvalidMessage", "json_invalid")
    raw.fill('{"type": "say", "text": "x", "other": 12345678901234567890}')
    mode(panel, "Form")
    expect(panel.locator(".verdict")).to_contain_text("a number that a form cannot hold exactly")
    raw.fill('{"type": "say", "text": "from raw to form", "loud": true, "other": [1]}')
    mode(panel, "Form")
    expect(panel.get_by_label("text", exact=True)).to_have_value("from raw to form")
    expect(panel.get_by_role("checkbox", name="loud")).to_be_checked()
    send(panel)
    last(panel, "Said", '"text":"from raw to form","loud":true')


def test_two_connections_side_by_side(person: NewPerson) -> None:
    page = person().open("/realtime#chat/try")
    ada = connect(page, room="two", name="Ada")
    bob = connect(page, 2, name="Bob")
    first, second = ada.bounding_box(), bob.bounding_box()
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    ada.get_by_label("text", exact=True).fill("Hello, Bob")
    send(ada)
    last(bob, "Said", '"name":"Ada","text":"Hello, Bob"')
    bob.get_by_label("Message", exact=True).select_option("Whisper")
    bob.get_by_label("to", exact=True).fill("Ada")
    send(bob)
    last(ada, "Whispered", '"name":"Bob"')
    bob.get_by_label("Message", exact=True).select_option("Say")
    bob.get_by_label("Message", exact=True).select_option("Whisper")
    expect(bob.get_by_label("to", exact=True)).to_have_value("Ada")

    navigation = page.get_by_role("navigation", name="Endpoints")
    navigation.get_by_role("link", name="/bytes").click()
    ada_link = navigation.get_by_role("link", name="Connection 1")
    expect(ada_link).to_have_attribute("data-state", "open")
    ada_link.click()
    expect(ada.get_by_role("heading")).to_be_focused()
    last(ada, "Whispered", '"name":"Bob"')

    ada.get_by_role("button", name="Disconnect").click()
    expect(ada.locator(".state")).to_have_text("Closed")
    expect(ada.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    ada.get_by_role("button", name="Connect again").click()
    expect(ada.locator(".state")).to_have_text("Open")
    last(ada, "Joined")
    expect(ada.get_by_label("text", exact=True)).to_have_value("Hello, Bob")
    bob.get_by_role("button", name="Close and remove Connection 2").click()
    expect(bob).to_have_count(0)
    expect(page.get_by_role("button", name="Connect", exact=True)).to_be_focused()


def test_parameters_are_checked_at_their_field_and_can_be_tried_all_the_same(person: NewPerson) -> None:
    page = person().open("/realtime#chat/try")
    page.get_by_text("Optional: age").click()
    room, name, age = (page.get_by_label(label, exact=True) for label in ("room", "name", "age"))
    expect(room).to_have_value("lobby")
    room.fill("NO")
    age.fill("17")
    page.get_by_text("Optional: age").click()
    page.get_by_role("button", name="Connect", exact=True).click()
    for field, words in ((room, "must match"), (name, "is required"), (age, "must be 18 or more")):
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(words))
    expect(room).to_be_focused()
    expect(page.get_by_role("alert")).to_have_text("3 fields do not fit.")
    expect(page.get_by_role("button", name="Connect anyway")).to_be_visible()
    name.fill("Ada")
    expect(page.get_by_role("alert")).to_have_text("")
    expect(page.get_by_role("button", name="Connect anyway")).to_be_hidden()
    age.fill("18")
    expect(age).not_to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("One field does not fit.")
    assert page.locator(".panel").count() == 0


def test_one_click_connects_from_a_field_that_is_at_fault(person: NewPerson) -> None:
    """Nothing moves while the button is pressed."""
    page = person().open("/realtime#chat/try")
    room = page.get_by_label("room", exact=True)
    room.click()
    room.fill("NO")
    box = page.get_by_role("button", name="Connect", exact=True).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 3)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("alert")).to_have_text("2 fields do not fit.")


def test_parameters_that_come_several_times(person: NewPerson) -> None:
    page = person().open("/realtime#lists/try")
    numbers = page.get_by_label("numbers", exact=True)
    numbers.fill("1\nx\n")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(numbers).to_have_accessible_description(re.compile("must be a whole number"))
    numbers.fill("1\n2\n")
    page.get_by_text("Headers and cookies").click()
    page.get_by_label("x-trace", exact=True).fill("a\nb\n")
    panel = connect(page)
    last(panel, "Any JSON", '{"numbers":[1,2],"trace":null}')
    panel.get_by_label("Raw message").fill("1")
    assert json.loads(run(code(panel, "Python"), 1)[0]) == {"numbers": [1, 2], "trace": ["a", "b"]}


def test_a_handshake_that_fails_is_explained(person: NewPerson, server: Server) -> None:
    page = person().context.new_page()  # not by `open`: the browser complains of the refusal, as it should
    page.goto(f"{server.url}/realtime#chat/try")
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_role("button", name="Connect anyway").click()
    panel = page.get_by_role("region", name="Connection 1", exact=True)
    expect(panel.locator(".state")).to_have_text("Not connected")
    expect(panel).to_contain_text("A browser does not tell a page why")
    panel.get_by_text("How this endpoint refuses").click()
    expect(panel).to_contain_text("403 A foreign origin, an invalid parameter")


def test_paths_subprotocols_and_close_codes(person: NewPerson) -> None:
    page = person().open("/realtime#files/try")
    page.get_by_text("Subprotocols").click()
    page.get_by_label("Offered to the server").fill("chat.v2, chat v1/")
    page.get_by_label("path", exact=True).fill("a b/ü/../c")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_label("path", exact=True)).to_have_accessible_description(re.compile("cannot be a dot"))
    page.get_by_label("Offered to the server").fill("chat.v2, chat.v1")
    panel = connect(page, path="a b/ü?#%2F/c")
    expect(log(panel, "event").first).to_contain_text("Connected, subprotocol chat.v2")
    last(panel, "Text", "a b/ü?#%2F/c")
    panel.get_by_label("Raw message").fill("bye")
    panel.get_by_label("Raw message").press("Control+Enter")
    expect(panel.locator(".state")).to_have_text("Closed")
    expect(panel.locator(".notice")).to_have_text("4001 bye to you A code of the application's own.")
    panel.get_by_role("button", name="Connect again").click()
    expect(panel.locator(".state")).to_have_text("Open")
    expect(panel.locator(".notice")).to_have_count(0)
    panel.get_by_label("Raw message").fill("x" * 16_385)
    send(panel)
    expect(panel.locator(".notice")).to_have_text("1009 message_bytes A message is larger than 16384 bytes.")


def test_bytes_are_sent_from_digits_and_from_a_file(person: NewPerson) -> None:
    page = person().open("/realtime#mirror/try")
    panel = connect(page)
    panel.get_by_label("Bytes", exact=True).fill("00 ff x")
    send(panel)
    expect(panel.locator(".verdict")).to_contain_text("two digits each")
    panel.get_by_label("Bytes", exact=True).fill("00 ff 7f")
    send(panel)
    last(panel, "Binary", "00 ff 7f")
    panel.get_by_label("Encoding").select_option("Base64")
    panel.get_by_label("Bytes", exact=True).fill("aGk=")
    send(panel)
    last(panel, "Binary", "68 69")
    panel.get_by_label("Encoding").select_option("File")
    panel.get_by_label("File", exact=True).set_input_files(
        {"name": "a.bin", "mimeType": "application/octet-stream", "buffer": b"\x01\x02\x03\x04"}
    )
    send(panel)
    last(panel, "Binary", "01 02 03 04")
    sent = log(panel, "sent").first
    sent.locator("summary").click()
    sent.get_by_role("button", name="Edit and send again").click()
    expect(panel.get_by_label("Bytes", exact=True)).to_have_value("00 ff 7f")
    panel.get_by_label("Bytes", exact=True).fill("01 02 03 04")
    assert "echo AQIDBA== | base64 -d | websocat --binary" in code(panel, "websocat")


def test_the_form_knows_every_kind_of_type(person: NewPerson) -> None:
    page = person().open("/realtime#draw/try")
    panel = connect(page)
    expect(panel.get_by_label("action", exact=True)).to_have_value("draw")
    expect(panel.get_by_label("action", exact=True)).not_to_be_editable()
    panel.get_by_label("colour", exact=True).select_option("green")
    panel.get_by_label("Kind of shape").select_option("Polygon")
    shape = panel.get_by_role("group", name="shape")
    shape.get_by_role("button", name="Add an item to points").click()
    shape.get_by_label("x", exact=True).first.fill("-2.5")
    shape.get_by_role("button", name="Remove points[1]").click()
    expect(panel.locator(".verdict")).to_have_text("")
    panel.get_by_role("button", name="Add tree").click()
    expect(panel.get_by_label("Kind of tree").locator("option")).to_have_text(["Node", "null"])
    tree = panel.get_by_role("group", name="tree")
    tree.get_by_role("button", name="Add an item to children").click()
    tree.get_by_label("label", exact=True).last.fill("leaf")
    panel.get_by_role("button", name="Add data").click()
    data = panel.get_by_role("group", name="data")
    data.get_by_role("button", name="Add an entry").click()
    data.get_by_label("Kind of value").select_option("list of Json")
    data.get_by_label("Kind of [0]").select_option("null")
    panel.get_by_label("layer", exact=True).fill("4")
    expect(panel.locator(".verdict")).to_contain_text("layer must be a multiple of 3")
    panel.get_by_label("layer", exact=True).fill("6")
    panel.get_by_role("button", name="Add an entry to labels").click()
    panel.get_by_role("group", name="labels").get_by_label("Key").fill("weight")
    panel.get_by_role("button", name="Add pair").click()
    panel.get_by_role("button", name="Add extra").click()
    panel.get_by_label("extra", exact=True).fill("{nothing")
    send(panel)
    expect(panel.get_by_label("extra", exact=True)).to_be_focused()
    expect(panel.get_by_label("extra", exact=True)).to_have_accessible_description(re.compile("not JSON"))
    panel.get_by_label("extra", exact=True).fill('{"any": [1]}')
    send(panel)
    entry = last(panel, "Drawn")
    entry.locator("summary").click()
    assert json.loads(entry.get_by_label("The message in full").inner_text())["drawing"] == {
        "action": "draw",
        "colour": "green",
        "shape": {"kind": "polygon", "points": [{"x": -2.5, "y": 0}, {"x": 1, "y": 0}, {"x": 1, "y": 0}]},
        "tree": {"label": "label", "children": [{"label": "leaf", "children": []}]},
        "layer": 6,
        "labels": {"weight": 1},
        "pair": [1, "pair"],
        "note": None,
        "extra": {"any": [1]},
        "data": {"key1": [None]},
    }


def test_equal_keys_of_a_map_are_said(person: NewPerson) -> None:
    page = person().open("/realtime#draw/try")
    panel = connect(page)
    labels = panel.get_by_role("group", name="labels")
    add = panel.get_by_role("button", name="Add an entry to labels")
    add.click()
    add.click()
    labels.get_by_role("button", name="Remove entry 1").click()
    add.click()
    keys = labels.get_by_label(re.compile("^Key"))
    assert len({key.input_value() for key in keys.all()}) == keys.count() == 2
    name = keys.first.input_value()
    keys.last.fill(name)
    expect(panel.locator(".verdict")).to_have_text(f"{name} is there twice.")


def test_envelopes_are_told_apart_by_what_is_in_them(person: NewPerson) -> None:
    page = person().open("/realtime#listen/try")
    listener = connect(page, room="envelopes")
    page.goto(page.url.replace("listen", "chat"))
    speaker = connect(page, 2, room="envelopes", name="Ada")
    send(speaker)
    last(speaker, "Said")
    page.goto(page.url.replace("chat", "listen"))
    last(listener, "Envelope[Said]", '"text":"Hello"')


def test_a_flood_is_shown_within_bounds_paused_filtered_and_cleared(person: NewPerson) -> None:
    page = person().open("/realtime#flood/try")
    panel = connect(page)
    note = panel.locator(".log-note")
    expect(note).to_have_text("1000 entries · 2001 older dropped")
    last(panel, "Text", '{"number": 2999, ')
    expect(panel.locator(".log li")).to_have_count(1_000)
    assert panel.locator(".log").evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 40
    entry = last(panel, "Text")
    entry.locator("summary").click()
    expect(entry.get_by_label("The message in full")).to_contain_text("12345678901234567890")

    panel.get_by_role("button", name="Pause").click()
    panel.get_by_label("Raw message").fill("while paused")
    send(panel)
    expect(note).to_contain_text("2 more while paused")
    expect(log(panel, "sent")).to_have_count(0)
    pause = panel.get_by_role("button", name="Pause")
    expect(pause).to_have_attribute("aria-pressed", "true")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "false")
    last(panel, "Text", "while paused")
    panel.get_by_label("Direction").select_option("Sent")
    expect(panel.locator(".log li")).to_have_count(1)
    panel.get_by_label("Direction").select_option("All")
    panel.get_by_label("Filter the log by text").fill("PAUSED")
    expect(panel.locator(".log li")).to_have_count(2)
    expect(note).to_contain_text("2 of 1000 entries")
    panel.get_by_label("Filter the log by text").fill("")
    panel.get_by_role("button", name="Clear").click()
    expect(panel.locator(".log li")).to_have_count(0)
    expect(note).to_have_text("0 entries")


def test_a_pause_keeps_what_is_shown_and_a_line_that_goes_hands_on_the_focus(person: NewPerson) -> None:
    page = person().open("/realtime#flood/try")
    panel = connect(page)
    lines, note = panel.locator(".log li"), panel.locator(".log-note")
    expect(note).to_contain_text("1000 entries · 2001 older dropped")
    panel.get_by_role("button", name="Pause").click()
    panel.get_by_role("button", name="Disconnect").click()
    panel.get_by_role("button", name="Connect again").click()
    expect(note).to_have_text("1000 entries · 3002 more while paused · 5003 older dropped")
    panel.get_by_label("Filter the log by text").fill('"number": 2999')
    expect(lines).to_have_count(1)
    panel.get_by_label("Filter the log by text").fill("")
    expect(lines).to_have_count(1_000)
    panel.get_by_role("button", name="Pause").click()
    expect(note).to_have_text("1000 entries · 5003 older dropped")
    expect(lines).to_have_count(1_000)

    first = lines.first.locator("summary")
    first.focus()
    panel.get_by_label("Raw message").evaluate("field => { field.value = 'more'; field.form.requestSubmit(); }")
    expect(note).to_have_text("1000 entries · 5005 older dropped")
    expect(panel.get_by_role("log")).to_be_focused()


def test_a_log_is_where_it_was_when_one_comes_back(person: NewPerson) -> None:
    page = person().open("/realtime#flood/try")
    panel = connect(page)
    box = panel.locator(".log")
    expect(panel.locator(".log li")).to_have_count(1_000)
    end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 40"
    for place, then in (("5000", "log => log.scrollTop === 5000"), ("log.scrollHeight", end)):
        box.evaluate(f"log => new Promise(done => {{ log.onscrollend = done; log.scrollTop = {place}; }})")
        page.get_by_role("link", name="Reference").click()
        expect(panel).to_have_count(0)
        page.get_by_role("link", name="Try it").click()
        box.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
        assert box.evaluate(then)


def test_the_link_of_a_connection_keeps_the_focus(person: NewPerson) -> None:
    page = person().open("/realtime#files/try")
    panel = connect(page, path="here")
    panel.get_by_label("Raw message").fill("bye")
    link = page.get_by_role("navigation", name="Endpoints").get_by_role("link", name="Connection 1")
    link.focus()
    panel.locator(".composer").evaluate("form => form.requestSubmit()")
    expect(link).to_have_attribute("data-state", "closed")
    expect(link).to_be_focused()


def test_a_message_is_edited_and_sent_again(person: NewPerson) -> None:
    page = person().open("/realtime#files/try")
    panel = connect(page, path="again")
    panel.get_by_label("Raw message").fill("once")
    send(panel)
    sent = last(panel, "Text", "once", "sent")
    panel.get_by_label("Raw message").fill("something else")
    sent.locator("summary").click()
    sent.get_by_role("button", name="Edit and send again").click()
    expect(panel.get_by_label("Raw message")).to_be_focused()
    send(panel)
    expect(log(panel, "sent")).to_have_count(2)
    last(panel, "Text", "once", "sent")


# Code to copy


def test_the_code_has_the_parameters_the_headers_and_the_message(person: NewPerson, server: Server) -> None:
    somebody = person(permissions=["clipboard-read", "clipboard-write"])
    page = somebody.open("/realtime#chat/try")
    page.get_by_text("Headers and cookies").click()
    page.get_by_label("x-client", exact=True).fill('it\'s "me" $HOME')
    page.get_by_text("Optional: age").click()
    page.get_by_label("topics", exact=True).fill("tea & cake\nü")
    panel = connect(page, room="code", name="O'Ada")
    panel.get_by_label("text", exact=True).fill('it\'s `ls` \\ "$(id)" ü\u2028')
    message = {"type": "say", "text": 'it\'s `ls` \\ "$(id)" ü\u2028', "loud": False}
    address = server.url.replace("http", "ws") + "/rooms/code?name=O%27Ada&topics=tea+%26+cake&topics=%C3%BC"

    words = shlex.split(code(panel, "websocat"))
    assert words[:2] == ["printf", "%s\\n"]
    assert json.loads(words[2]) == message
    assert words[3:] == ["|", "websocat", '-H=x-client: it\'s "me" $HOME', "--no-close", address]

    script = code(panel, "JavaScript")
    assert "cannot send the header x-client" in script
    assert page.evaluate("text => JSON.parse(new Function(`return ${text}`)())", script_argument(script)) == message

    program = code(panel, "Python")
    panel.get_by_role("button", name="Copy code").click()
    expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == program
    lines = run(program, 2)
    assert json.loads(lines[0]) == {"type": "joined", "name": "O'Ada"}
    assert json.loads(lines[1]) == {"type": "said", "name": "O'Ada", "text": message["text"], "loud": False}
    last(panel, "Said", "it's")


def script_argument(script: str) -> str:
    """Return what the script sends, as JavaScript."""
    found = re.search(r"socket\.send\((.*)\);$", script, re.MULTILINE)
    assert found is not None
    return found[1]


def run(program: str, count: int) -> list[str]:
    """Run a program and return the first lines that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    ) as process:
        assert process.stdout is not None
        end = threading.Timer(DEADLINE_S, process.kill)
        end.start()
        try:
            return [process.stdout.readline() for _ in range(count)]
        finally:
            end.cancel()
            process.kill()


def test_a_token_goes_where_its_scheme_says_and_is_not_shown(person: NewPerson) -> None:
    page = person().open("/realtime#secret/try")
    token = page.get_by_label("token", exact=True)
    expect(token).to_have_attribute("type", "password")
    page.get_by_text("Headers and cookies").click()
    expect(page.locator(".handshake")).to_contain_text("A browser cannot send headers with a WebSocket")
    page.get_by_label("Authorization", exact=True).fill("b3")
    panel = connect(page, token="t0p secret")
    last(panel, "Text", "t0p secret -")
    expect(panel.locator(".address")).to_have_text("/secret?token=•••")
    assert 'additional_headers=[("Authorization", "Bearer b3")]' in code(panel, "Python")
    assert run(code(panel, "Python"), 1) == ["t0p secret b3\n"]
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_quoting(person: NewPerson) -> None:
    """The words of a shell, the strings of Python and the command for more than a line of text."""
    page = person().open("/realtime")
    texts = ["", "plain", "it's", "a b", "$(id) `x` \\ !", '"', "line\nbreak", "\x00\x7f\u2028", "'\"'", "-x", "ü 🎉"]
    quoted = page.evaluate(
        """async texts => {
            const { shellQuoted, quoted } = await import("./realtime/copy.js");
            return texts.map(text => [shellQuoted(text), quoted(text)]);
        }""",
        texts,
    )
    for text, (word, string) in zip(texts, quoted, strict=True):
        assert shlex.split(word) == [text]
        assert eval(string) == text
    commands = page.evaluate(
        """async () => {
            const { websocat } = await import("./realtime/copy.js");
            const request = { url: "ws://h/a?b=c&d", headers: [], subprotocols: ["a", "b"] };
            return ['{\\n  "a": "b\\\\n"\\n}', "two\\nlines", null].map(text => websocat(request, text && { text }));
        }"""
    )
    assert [shlex.split(command) for command in commands] == [
        ["printf", "%s\\n", '{ "a": "b\\n" }', "|", "websocat", "--protocol=a,b", "--no-close", "ws://h/a?b=c&d"],
        ["printf", "%s", "two\nlines", "|", "websocat", "--protocol=a,b", "--no-line", "--no-close", "ws://h/a?b=c&d"],
        ["websocat", "--protocol=a,b", "ws://h/a?b=c&d"],
    ]


def test_examples_and_faults_of_schemas(person: NewPerson) -> None:
    """What is made from a schema fits it, and what does not fit is told."""
    schemas: list[object] = [
        {"type": "string", "minLength": 30},
        {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "maximum": -3},
        {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}, "minItems": 2},
        {"$ref": "#/components/schemas/Endless"},
        {"allOf": [{"$ref": "#/components/schemas/Tree"}, {"properties": {"b": {"const": 1}}, "required": ["b"]}]},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        {"prefixItems": [{"type": "integer"}, {"enum": ["x", 2]}], "type": "array", "minItems": 2, "maxItems": 2},
        {},
        True,
        {"type": "number", "minimum": 0.1, "maximum": 0.5},
        {"type": "integer", "minimum": 3, "exclusiveMaximum": 4},
        {"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True},
        {"type": "string", "format": "constructor"},
        {"type": "object", "properties": {"constructor": {"type": "integer"}}, "required": ["constructor"]},
        {"$ref": "#/components/schemas/constructor"},
        {"$ref": "#/components/schemas/Itself"},
        {"anyOf": []},
        json.loads('{"allOf": [{"properties": {"__proto__": {"type": "integer"}}, "required": ["__proto__"]}]}'),
    ]
    itself = {"allOf": [{"$ref": "#/components/schemas/Itself"}], "type": "string"}
    tree = {"type": "object", "properties": {"sub": {"$ref": "#/components/schemas/Tree"}}}
    endless = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/components/schemas/Endless"}, {"type": "null"}]}},
        "required": ["next"],
    }
    page = person().open("/realtime")
    results = page.evaluate(
        """async ([components, schemas]) => {
            const [{ Schemas }, { exampleOf }, { faultsOf }] = await Promise.all(
                ["schema", "example", "validate"].map(name => import(`./realtime/${name}.js`)));
            const known = new Schemas({ components: { schemas: components } });
            return JSON.parse(schemas).map(schema => {
                const value = exampleOf(known, schema);
                return { value, faults: faultsOf(known, schema, value) };
            });
        }""",
        [{"Tree": tree, "Endless": endless, "Itself": itself}, json.dumps(schemas)],
    )
    assert [result["faults"] for result in results] == [[]] * len(schemas)
    assert results[7]["value"] == {"next": None}
    faults = page.evaluate(
        """async () => {
            const [{ Schemas }, { faultsOf }] = await Promise.all(
                ["schema", "validate"].map(name => import(`./realtime/${name}.js`)));
            const schema = { type: "object", required: ["a"], additionalProperties: false, properties: {
                a: { type: "array", items: { type: "integer", maximum: 3 } }, b: { type: "string", maxLength: 1 } } };
            return [{ a: [1, 4, 1.5] }, { b: "🎉" }, { a: [], c: 1 }, []].map(
                value => faultsOf(new Schemas({}), schema, value))
                .map(faults => faults.map(({ path, message }) => [path.join("."), message]));
        }"""
    )
    assert faults == [
        [["a.1", "must be 3 or less"], ["a.2", "must be a whole number"]],
        [["a", "is required"]],
        [["c", "must not be there"]],
        [["", "must be an object"]],
    ]


def test_messages_are_recognised_by_their_types_and_no_pattern_is_tried(person: NewPerson) -> None:
    """What comes may be such that a pattern takes for ever: the page would stand still."""
    page = person().open("/realtime")
    number, text = {"type": "integer"}, {"type": "string"}
    schemas = {
        "Anything": {},
        "Slow": {"type": "object", "properties": {"a": {**text, "pattern": r"^(\w+\s?)+$"}}, "required": ["a"]},
        "Numbers": {"type": "array", "items": number},
        "Point": {"type": "object", "properties": {"x": number, "y": {"anyOf": [number, {"type": "null"}]}}},
        "Map": {"type": "object", "additionalProperties": text},
        "Null": {"type": "null"},
    }
    texts = ['{"a": "%s!"}' % ("a" * 40), "[1, 2]", '["x"]', '{"x": 1, "y": null}', '{"x": "1"}', "null", "1.5"]
    names = page.evaluate(
        """async ([schemas, texts]) => {
            const [{ Schemas }, { recogniser }] = await Promise.all(
                ["schema", "recognise"].map(name => import(`./realtime/${name}.js`)));
            const messages = Object.entries(schemas).map(([title, schema]) => ({ title, schema, format: "json" }));
            const recognise = recogniser(new Schemas({}), messages);
            const before = performance.now();
            return [texts.map(text => recognise(text).name), performance.now() - before];
        }""",
        [schemas, texts],
    )
    assert names[0] == ["Slow", "Numbers", "Anything", "Point", "Map", "Null", "Anything"]
    assert names[1] < 1_000


def test_the_texts_of_parameters(person: NewPerson) -> None:
    """What is wrong with them, and what a request has of them."""
    page = person().open("/realtime")
    numbers = {"anyOf": [{"type": "array", "items": {"type": "integer"}, "maxItems": 2}, {"type": "null"}]}
    mixed = {"enum": ["a", 1, True]}
    names = {"type": "array", "items": {"type": "string", "maxLength": 2}}
    asked = [
        ("query", numbers, "1\n2\n"),
        ("query", numbers, "1\nx"),
        ("query", numbers, "1\n2\n3"),
        ("header", names, "a\nb"),
        ("header", names, "a\nlong"),
        ("header", {"type": "string"}, "a\nb"),
        ("query", mixed, "1"),
        ("query", mixed, "true"),
        ("query", mixed, "2"),
        ("query", {"type": "string", "format": "constructor"}, "x"),
        ("query", {"anyOf": []}, "x"),
    ]
    found = page.evaluate(
        """async asked => {
            const [{ Schemas }, { parameterFault }, { requestFor }] = await Promise.all(
                ["schema", "validate", "request"].map(name => import(`./realtime/${name}.js`)));
            const schemas = new Schemas({});
            const faults = asked.map(([place, schema, text]) => parameterFault(schemas, { place, schema }, text));
            const parameters = [
                { place: "path", name: "room", schema: {} }, { place: "query", name: "n", schema: asked[0][1] },
                { place: "header", name: "h", schema: asked[3][1] }, { place: "query", name: "q", schema: {} }];
            const values = { "path.room": "a\\ud800", "query.n": "1\\n2\\n", "header.h": "a\\nb", "query.q": "" };
            const request = requestFor(
                schemas, { address: "/{room}", parameters, credentials: [] }, values, [], "http://h/");
            return [faults, request.url, request.headers];
        }""",
        asked,
    )
    assert found[0] == [
        None,
        "must be a whole number",
        "has more than 2 items",
        None,
        "must have at most 2 characters",
        "cannot have a line break",
        None,
        None,
        'must be one of "a", 1, true',
        None,
        None,
    ]
    assert found[1:] == ["ws://h/a%EF%BF%BD?n=1&n=2", [["h", "a"], ["h", "b"]]]


# Everybody, everywhere


def test_all_is_done_by_keyboard(person: NewPerson) -> None:
    page = person().open("/realtime")
    expect(page.get_by_role("heading", level=1)).to_be_visible()

    def tab_to(target: Locator, key: str = "Tab") -> None:
        for _ in range(60):
            page.keyboard.press(key)
            if target.evaluate("node => node === document.activeElement"):
                return
        pytest.fail(f"{target} is not reached by {key}")

    tab_to(page.get_by_role("link", name="Skip to the content"))
    tab_to(page.get_by_role("navigation", name="Endpoints").get_by_role("link").first)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page.get_by_role("link", name="Try it"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Try it")).to_be_focused()
    tab_to(page.get_by_label("name", exact=True))
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Connection 1", exact=True)
    expect(panel.get_by_role("status").first).to_have_text("Connection 1: Open")
    tab_to(panel.get_by_label("text", exact=True))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("no mouse")
    page.keyboard.press("ControlOrMeta+Enter")
    entry = last(panel, "Said", "no mouse")
    tab_to(panel.get_by_role("log"))
    page.keyboard.press("End")
    expect(entry.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(entry.get_by_label("The message in full")).to_be_visible()
    tab_to(panel.locator(".composer .segments input:checked"), "Shift+Tab")
    page.keyboard.press("ArrowRight")
    expect(panel.get_by_label("Raw message")).to_be_visible()
    tab_to(panel.get_by_role("button", name="Disconnect"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(panel.get_by_role("status").first).to_have_text("Connection 1: Closed, code 1000")


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_view_fits_the_screen_and_names_its_controls(person: NewPerson, viewport: dict[str, int]) -> None:
    page = person(viewport=viewport, color_scheme="dark").open("/realtime")
    for view in ("", "#chat", "#draw", "#room", "#secret", "#chat/try", "#draw/try", "#mirror/try"):
        page.goto(page.url.partition("#")[0] + view)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert width(page) <= viewport["width"], view
    page.goto(page.url.partition("#")[0] + "#chat/try")
    panel = connect(page, name="A" * 24)
    panel.get_by_label("text", exact=True).fill("W" * 200)
    send(panel)
    last(panel, "Said").locator("summary").click()
    code(panel, "Python")
    assert width(page) <= viewport["width"]
    for control in page.locator("button, input, select, textarea, a, pre").filter(visible=True).all():
        expect(control).to_have_accessible_name(re.compile(r"\S"))


@pytest.mark.parametrize("prefix", ["/mounted", "/told", "/untold"])
def test_it_works_wherever_the_application_is(person: NewPerson, server: Server, prefix: str) -> None:
    page = person().open(f"{prefix}/about/realtime#echo/try")
    panel = connect(page)
    panel.get_by_label("Raw message").fill("here")
    send(panel)
    last(panel, "Text", "here")
    assert shlex.split(code(panel, "websocat"))[-1] == f"{server.url.replace('http', 'ws')}{prefix}/echo"


def test_an_application_without_endpoints(person: NewPerson) -> None:
    page = person().open("/empty/realtime")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no endpoint yet")
    expect(page.get_by_label("Example")).to_contain_text("@app.websocket")


def test_the_page_is_small_and_asks_for_nothing_from_elsewhere(person: NewPerson, server: Server) -> None:
    asked: list[str] = []
    somebody = person()
    somebody.context.on("request", lambda request: asked.append(request.url))
    page = somebody.open("/realtime")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert all(address.startswith(server.url) for address in asked)
    parts = [file for file in files("hubbub.fastapi.asyncapi").joinpath("page").iterdir() if file.is_file()]
    assert sum(len(file.read_bytes()) for file in parts) <= PAGE_BYTES
    policy = server.http.get("/realtime").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
