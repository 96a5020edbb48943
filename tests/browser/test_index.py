"""The page to choose from, and what holds for all pages."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, NewPerson

PAGES = ("/", "/chat/rooms/lobby", "/notifications/", "/game/arenas/meadow", "/stream/")
UNCONNECTED = ("/", "/stream/")
LONG = "Wolfeschlegelsteinhausen"


def test_the_index_leads_to_each_application_and_back(person: NewPerson) -> None:
    page = person("Ada").open()
    for name, address, status in (
        ("Chat", "/chat/rooms/lobby", "Connected"),
        ("Notifications", "/notifications/", "Connected"),
        ("Game", "/meadow", "Connected"),
        ("Stream", "/stream/", "Ready"),
    ):
        page.get_by_role("list").get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(address + "$"))
        expect(page.locator("#status")).to_have_text(status)
        page.get_by_role("link", name="All applications").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Hubbub")


def test_every_page_fits_every_screen_and_names_its_controls(person: NewPerson) -> None:
    somebody = person(LONG)
    for path in PAGES:
        page = somebody.open(path) if path in UNCONNECTED else somebody.connect(path)
        for width in (320, PHONE["width"], 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert_controls_have_names(page)


def assert_controls_have_names(page: Page) -> None:
    controls = page.locator("button, input, select, textarea, a, canvas").filter(visible=True)
    assert controls.count() > 0
    for control in controls.all():
        expect(control).to_have_accessible_name(re.compile(r"\S"))
