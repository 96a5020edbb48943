"""The notifications: an HTTP request reaches all devices of one user, and they stay in step."""

import re

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from examples.notifications import app as application
from tests.browser.conftest import NewPerson
from tests.browser.server import Server

PAGE = "/notifications/"


def texts(page: Page) -> Locator:
    return page.locator("#list .text")


def unread(page: Page) -> Locator:
    return page.locator("#unread")


def notify(server: Server, user: str, text: str) -> httpx.Response:
    return server.http.post(f"/notifications/notify/{user}", json={"text": text})


def test_a_post_from_anywhere_reaches_all_devices_of_the_user_and_nobody_else(
    person: NewPerson, server: Server
) -> None:
    laptop, phone = person("Ada"), person("Ada", viewport={"width": 390, "height": 844})
    devices = [laptop.connect(PAGE), laptop.connect(PAGE), phone.connect(PAGE)]
    bob = person("Bob").connect(PAGE)
    assert notify(server, "Ada", "Your tea is ready").status_code == 201
    for device in devices:
        expect(texts(device)).to_have_text(["Your tea is ready"])
        expect(unread(device)).to_have_text("1 unread")
        expect(device).to_have_title("(1) Notifications · Hubbub")
    assert notify(server, "Bob", "And yours").status_code == 201
    expect(texts(bob)).to_have_text(["And yours"])


def test_what_is_read_in_one_tab_is_read_in_the_other(person: NewPerson, server: Server) -> None:
    cleo = person("Cleo")
    first, second = cleo.connect(PAGE), cleo.connect(PAGE)
    for text in ("one", "two", "three"):
        notify(server, "Cleo", text)
    for tab in (first, second):
        expect(texts(tab)).to_have_text(["three", "two", "one"])
        expect(tab).to_have_title("(3) Notifications · Hubbub")

    first.bring_to_front()
    first.locator("#list li", has_text="two").get_by_role("button", name="Mark as read").click()
    for tab in (first, second):
        expect(unread(tab)).to_have_text("2 unread")
        expect(tab).to_have_title("(2) Notifications · Hubbub")
        expect(tab.locator("#list .unread .text")).to_have_text(["three", "one"])

    second.get_by_role("button", name="Mark all as read").press("Enter")
    for tab in (first, second):
        expect(unread(tab)).to_have_text("All read")
        expect(tab).to_have_title("Notifications · Hubbub")
        expect(tab.get_by_role("button", name="Mark all as read")).to_be_disabled()


def test_the_form_on_the_page_notifies_somebody_else(person: NewPerson) -> None:
    dora, emil = person("Dora").connect(PAGE), person("Emil Å").connect(PAGE)
    dora.get_by_label("Who", exact=True).fill("Emil Å")
    dora.get_by_label("What", exact=True).fill("<b>Now</b>")
    dora.get_by_label("It is urgent").check()
    dora.get_by_role("button", name="Send").click()
    expect(dora.locator("#outcome")).to_contain_text(re.compile(r"Sent to Emil Å at \d+:\d\d:\d\d"))
    expect(texts(emil)).to_have_text(["<b>Now</b>"])
    expect(emil.locator("#list .urgent")).to_have_text("Urgent")
    expect(texts(dora)).to_have_count(0)
    expect(dora.locator("#curl")).to_contain_text("/notifications/notify/Emil%20%C3%85'")


def test_a_reload_and_a_new_device_show_what_is_there(person: NewPerson, server: Server) -> None:
    fay = person("Fay")
    page = fay.connect(PAGE)
    notify(server, "Fay", "Old news")
    expect(unread(page)).to_have_text("1 unread")
    page.reload()
    expect(texts(page)).to_have_text(["Old news"])
    page.close()
    notify(server, "Fay", "While you were away")
    expect(texts(fay.connect(PAGE))).to_have_text(["While you were away", "Old news"])


def test_page_and_server_keep_the_same_newest_fifty(person: NewPerson, server: Server) -> None:
    page = person("Gus").connect(PAGE)
    for number in range(55):
        notify(server, "Gus", f"number {number}")
    newest = [f"number {number}" for number in range(54, 4, -1)]
    expect(texts(page)).to_have_text(newest)
    page.reload()
    expect(texts(page)).to_have_text(newest)


def test_the_page_reconnects_by_itself_after_a_restart(person: NewPerson, server: Server) -> None:
    page = person("Hal").connect(PAGE)
    server.begin_restart()
    server.stop()
    expect(page.locator("#status")).to_contain_text("Reconnecting…")
    server.start()
    expect(page.locator("#status")).to_have_text("Connected again")
    notify(server, "Hal", "Back again")
    expect(texts(page)).to_have_text(["Back again"])


@pytest.mark.parametrize(
    ("user", "body"),
    [("x" * 25, {"text": "x"}), ("a%00a", {"text": "x"}), ("Ada", {"text": " "}), ("Ada", {"text": "x" * 281})],
)
def test_a_bad_notification_is_refused(server: Server, user: str, body: dict[str, str]) -> None:
    response = server.http.post(f"/notifications/notify/{user}", json=body)
    assert response.status_code == 422


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "USERS", 3)
    monkeypatch.setattr(application, "inboxes", type(application.inboxes)())
    for number in range(10):
        note = application.Notification(id=number, text="x", at="2025-01-01T00:00:00Z")  # type: ignore[arg-type]
        application.store(f"user {number}", note)
    assert list(application.inboxes) == ["user 7", "user 8", "user 9"]
