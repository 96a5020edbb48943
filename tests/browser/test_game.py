"""The game: players see each other move, and frames only ever go forward."""

import json
from contextlib import ExitStack
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from examples.game.app import ARENAS
from tests.browser.conftest import PHONE, NewPerson
from tests.browser.server import Server

POSITION = "window.__frame.players.find(player => player.name === name).x"

STEER_TO_THE_NEAREST_GEM = """([name, enough]) => {
    const { players, gems } = window.__frame ?? { players: [] };
    const me = players.find((player) => player.name === name);
    if (!me) return false;
    const far = (gem) => Math.hypot(gem.x - me.x, gem.y - me.y);
    const gem = gems.reduce((best, other) => (far(other) < far(best) ? other : best));
    const key = (type, code) => document.body.dispatchEvent(new KeyboardEvent(type, { code, bubbles: true }));
    for (const code of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) key("keyup", code);
    if (me.score >= enough) return true;
    if (Math.abs(gem.x - me.x) > 10) key("keydown", gem.x < me.x ? "ArrowLeft" : "ArrowRight");
    if (Math.abs(gem.y - me.y) > 10) key("keydown", gem.y < me.y ? "ArrowUp" : "ArrowDown");
    return false;
}"""


def collect(page: Page, name: str, gems: int) -> None:
    """Let a player steer from gem to gem until they have so many."""
    page.wait_for_function(STEER_TO_THE_NEAREST_GEM, arg=[name, gems])


def expect_players(page: Page, *names: str) -> None:
    """Who leads may differ: a player may begin on a gem."""
    players = page.locator("#scores bdi")
    expect(players).to_have_count(len(names))
    for name in names:
        expect(players.filter(has_text=name)).to_be_visible()


def position(page: Page, name: str) -> float:
    expect(page.locator("#scores bdi", has_text=name)).to_be_visible()
    x: float = page.evaluate(f"name => {POSITION}", name)
    return x


def wait_until_right_of(page: Page, name: str, x: float) -> None:
    page.wait_for_function(f"([name, x]) => {POSITION} > x", arg=[name, x])


def wait_until_left_of(page: Page, name: str, x: float) -> None:
    page.wait_for_function(f"([name, x]) => {POSITION} < x", arg=[name, x])


def assert_ticks_rise(page: Page) -> None:
    page.wait_for_function("window.__ticks.length > 10")
    ticks = page.evaluate("window.__ticks")
    assert all(earlier < later for earlier, later in pairwise(ticks)), ticks


def test_two_players_see_each_other_move(person: NewPerson) -> None:
    ada = person("Ada").connect("/game/arenas/pair")
    bob = person("Bob").connect("/game/arenas/pair")
    for page in (ada, bob):
        expect_players(page, "Ada", "Bob")

    start = position(bob, "Ada")
    ada.keyboard.down("ArrowLeft")
    wait_until_left_of(bob, "Ada", start - 50)
    ada.keyboard.up("ArrowLeft")
    ada.keyboard.down("d")
    wait_until_right_of(bob, "Ada", start)
    ada.keyboard.up("d")
    assert_ticks_rise(ada)
    assert_ticks_rise(bob)

    bob.close()
    expect_players(ada, "Ada")
    expect(ada.locator("#events")).to_have_text("Bob left.")


def test_gems_are_collected(person: NewPerson) -> None:
    page = person("Ada").connect("/game/arenas/gems")
    collect(page, "Ada", 2)
    expect(page.locator("#scores strong")).not_to_have_text("0")


def test_the_canvas_is_painted(person: NewPerson) -> None:
    page = person("Ada").connect("/game/arenas/paint")
    page.wait_for_function("""() => {
        const canvas = document.getElementById("arena");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size > 20;
    }""")


def test_a_finger_steers_too(person: NewPerson) -> None:
    page = person("Ada", viewport=PHONE, has_touch=True, is_mobile=True).connect("/game/arenas/touch")
    start = position(page, "Ada")
    box = page.locator("#stick").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 5, middle)
    page.mouse.down()
    wait_until_left_of(page, "Ada", start - 50)
    page.mouse.move(box["x"] + box["width"] - 5, middle, steps=5)
    wait_until_right_of(page, "Ada", start)
    page.mouse.up()


def test_a_reload_is_a_new_player(person: NewPerson) -> None:
    ada = person("Ada").connect("/game/arenas/reload")
    bob = person("Bob").connect("/game/arenas/reload")
    ada.reload()
    for page in (ada, bob):
        expect_players(page, "Ada", "Bob")


def test_the_page_reconnects_by_itself_after_a_restart(person: NewPerson, server: Server) -> None:
    ada = person("Ada").connect("/game/arenas/restart")
    bob = person("Bob").connect("/game/arenas/restart")
    server.begin_restart()
    server.kill()
    expect(ada.locator("#status")).to_contain_text("Reconnecting…")
    expect(ada.locator("#arena")).to_have_css("opacity", "0.35")
    server.start()
    for page in (ada, bob):
        expect(page.locator("#status")).to_have_text("Connected again")
        expect(page.locator("#arena")).to_have_css("opacity", "1")
        expect_players(page, "Ada", "Bob")
        assert_ticks_rise(page)
    start = position(bob, "Ada")
    ada.keyboard.down("ArrowLeft")
    wait_until_left_of(bob, "Ada", start - 20)


def test_an_arena_has_room_for_so_many(server: Server) -> None:
    address = server.url.replace("http", "ws") + "/game/arenas/full?name=Player"
    with ExitStack() as sockets:
        for _ in range(24):
            player = sockets.enter_context(connect(address, proxy=None))
            assert json.loads(player.recv(5))["type"] == "welcome"
        one_more = sockets.enter_context(connect(address, proxy=None))
        with pytest.raises(ConnectionClosedError, match="the arena is full"):
            one_more.recv(5)


def test_there_are_so_many_arenas(server: Server) -> None:
    address = server.url.replace("http", "ws") + "/game/arenas/{}?name=Player"
    with ExitStack() as sockets:
        for number in range(ARENAS):
            player = sockets.enter_context(connect(address.format(f"many-{number}"), proxy=None))
            assert json.loads(player.recv(5))["type"] == "welcome"
        one_more = sockets.enter_context(connect(address.format("one-more"), proxy=None))
        with pytest.raises(ConnectionClosedError, match="too many arenas") as closed:
            one_more.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        second = sockets.enter_context(connect(address.format("many-0"), proxy=None))
        assert json.loads(second.recv(5))["type"] == "welcome"


def test_a_name_with_a_control_character_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(server.url.replace("http", "ws") + "/game/arenas/names?name=a%1Bb", proxy=None)
    assert refusal.value.response.status_code == 403


@pytest.mark.parametrize("message", ["{", '{"type": "steer", "x": NaN, "y": 0}', '{"type": "steer", "x": 9, "y": 0}'])
def test_a_bad_message_is_answered_and_the_game_goes_on(server: Server, message: str) -> None:
    with connect(server.url.replace("http", "ws") + "/game/arenas/hostile?name=Mallory", proxy=None) as socket:
        socket.send(message)
        kinds = [json.loads(socket.recv(5))["type"] for _ in range(10)]
    assert kinds.count("error") == 1
    assert kinds[-1] == "frame"
