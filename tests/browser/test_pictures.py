"""Pictures of the applications for the documentation, made when HUBBUB_SCREENSHOTS=1 is set (see conftest.py)."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPerson
from tests.browser.server import ROOT, Server
from tests.browser.test_game import collect
from tests.browser.test_realtime import connect, last, send

IMAGES = ROOT / "docs" / "images"
VIEW = {"width": 1120, "height": 700}


def say(page: Page, text: str, to: str = "Everyone") -> None:
    page.get_by_label("To").select_option(label=to)
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("#log").get_by_text(text, exact=True)).to_be_visible()


def test_chat(person: NewPerson) -> None:
    ada = person("Ada", viewport=VIEW).connect("/chat/rooms/kitchen")
    grace, linus = (person(name).connect("/chat/rooms/kitchen") for name in ("Grace", "Linus"))
    expect(ada.locator("#people li")).to_have_count(3)
    say(grace, "Has anybody seen the good teapot?")
    say(linus, "It is drying by the window.")
    say(ada, "Then I will put the kettle on. Milk for everyone?")
    expect(linus.locator("#log")).to_contain_text("Milk for everyone?")
    say(linus, "There is one slice of cake left. I have hidden it for you.", to="Ada")
    say(grace, "Yes, please!")
    linus.get_by_label("Message", exact=True).press_sequentially("Me")
    expect(ada.locator("#typing")).to_have_text("Linus is typing…")
    ada.screenshot(path=IMAGES / "chat.png")


def test_notifications(person: NewPerson, server: Server) -> None:
    page = person("Ingrid", viewport=VIEW).connect("/notifications/")
    for text in ("Grace invited you to #kitchen", "Your export is ready", "Your tea is ready", "The oven is still on"):
        body = {"text": text, "urgent": "oven" in text}
        server.http.post("/notifications/notify/Ingrid", json=body)
    expect(page.locator("#list li")).to_have_count(4)
    for text in ("Grace invited", "Your export"):
        page.locator("#list li", has_text=text).get_by_role("button").click()
    expect(page.locator("#unread")).to_have_text("2 unread")
    page.get_by_label("What", exact=True).fill("Dinner at seven?")
    page.screenshot(path=IMAGES / "notifications.png", animations="disabled")


def test_game(person: NewPerson) -> None:
    ada = person("Ada", viewport=VIEW).connect("/game/arenas/meadow")
    others = [person(name).connect("/game/arenas/meadow") for name in ("Grace", "Linus", "Mei")]
    expect(ada.locator("#scores li")).to_have_count(4)
    for page, name, gems in zip([ada, *others], ("Ada", "Grace", "Linus", "Mei"), (5, 3, 6, 2), strict=True):
        collect(page, name, gems)
    for page, key in zip(others, ("ArrowLeft", "ArrowRight", "ArrowDown"), strict=True):
        page.keyboard.down(key)
    ada.screenshot(path=IMAGES / "game.png")


def test_stream(person: NewPerson) -> None:
    page = person(viewport=VIEW).open("/stream/")
    page.get_by_label("Ask something").fill("Where do the words go when I reload?")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**answer=*")
    for number in (17, 75):
        page.wait_for_function("number => document.getElementById('words').textContent >= number", arg=number)
        if number == 17:
            page.reload()
    page.screenshot(path=IMAGES / "stream.png", animations="disabled")


def test_realtime(person: NewPerson) -> None:
    page = person(viewport={"width": 1280, "height": 1000}).open("/chat/realtime#chat/try")
    ada = connect(page, room="kitchen", name="Ada")
    bob = connect(page, 2, name="Bob")
    bob.get_by_label("text", exact=True).fill("Tea?")
    send(bob)
    last(ada, "Envelope[Said]", "Tea?")
    ada.get_by_label("Message", exact=True).select_option("Whisper")
    ada.get_by_label("to", exact=True).fill("Bob")
    ada.get_by_label("text", exact=True).fill("There is one slice of cake left")
    send(ada)
    last(bob, "Whispered", "one slice")
    page.screenshot(path=IMAGES / "realtime.png", animations="disabled")
