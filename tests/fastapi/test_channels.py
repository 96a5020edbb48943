"""Channels and families of channels: their names, who hears them, and what a slow client loses of them."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from hubbub import Connection, Denied, Hub, Limits, Outbox
from hubbub.testing import Client, RecordingTransport

CONGESTED = 100_000


@pytest.fixture
def hub() -> Hub:
    return Hub()


def application(hub: Hub, **settings: Any) -> FastAPI:
    """Return an application whose `/ws` joins the channels that the client names."""
    app = FastAPI(lifespan=hub.lifespan)
    dependency = hub.connection(**settings) if settings else hub

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(dependency)]) -> None:
        async for name in connection:
            try:
                await connection.join(str(name))
            except (Denied, ValueError) as error:
                await connection.send({"refused": str(error), "limit": getattr(error, "limit", None)})
            else:
                await connection.send({"joined": sorted(connection.channels)})

    return app


async def joined(hub: Hub, transport: RecordingTransport, *names: str) -> Connection:
    """Let the client behind `transport` join, and return its connection with nothing written yet."""
    for _ in range(1_000):
        if hub.connections:
            break
        await asyncio.sleep(0)
    for name in names:
        transport.receive(name)
    (connection,) = hub.connections.values()
    for _ in range(1_000):
        if len(transport.written) == len(names):
            break
        await asyncio.sleep(0)
    assert connection.channels == set(names)
    transport.written.clear()
    return connection


# One channel


def test_a_channel_is_its_name(hub: Hub) -> None:
    channel = hub.channel("room:1")
    assert channel.name == "room:1"
    assert str(channel) == "room:1"
    assert f"{channel}" == "room:1"
    assert repr(channel) == "<Channel room:1>"


def test_channels_of_one_name_are_equal_and_have_one_hash(hub: Hub) -> None:
    rooms = hub.channels("room:{room}")
    assert hub.channel("room:1") == rooms(room=1)
    assert hash(hub.channel("room:1")) == hash(rooms(room="1"))
    assert {hub.channel("room:1"), rooms(room=1)} == {rooms(room=1)}
    assert hub.channel("room:1") != hub.channel("room:2")
    assert hub.channel("room:1") != "room:1"


async def test_a_channel_and_its_name_can_be_used_in_place_of_each_other(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)
    rooms = hub.channels("room:{room}")

    @app.websocket("/ws/{room}")
    async def endpoint(connection: Annotated[Connection, Depends(hub)], room: int) -> None:
        await connection.join(rooms(room=room) if room == 1 else f"room:{room}")
        await rooms(room=room).publish(f"{room} by family")
        await hub.channel(f"room:{room}").publish(f"{room} by name")
        await hub.publish(rooms(room=room), f"{room} by hub")
        await hub.publish(f"room:{room}", {"room": room})
        await connection.leave(f"room:{room}" if room == 1 else rooms(room=room))
        await hub.publish(f"room:{room}", "left already")

    async with Client(app) as client, client.connect("/ws/1") as one, client.connect("/ws/2") as two:
        for number, ann in ((1, one), (2, two)):
            await ann.assert_received(f"{number} by family", f"{number} by name", f"{number} by hub", {"room": number})
            await ann.assert_closed(1000)


@pytest.mark.parametrize("name", ["a", "a:b", "ü😀", " ", "a b", "room:$x", "{room}", "a\nb", "x" * 255])
async def test_any_text_that_is_not_reserved_can_name_a_channel(hub: Hub, name: str) -> None:
    async with Client(application(hub)) as client, client.connect("/ws") as ann:
        await ann.send(name)
        await ann.assert_received({"joined": [name]})
        await hub.publish(name, "hello")
        await ann.assert_received("hello")
        assert hub.statistics().channels == 1


async def test_publishing_on_a_channel_can_exclude_the_publisher(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)
    room = hub.channel("room")

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.join(room)
        async for text in connection:
            await room.publish(text, exclude=connection)

    async with Client(app) as client, client.connect("/ws") as ann, client.connect("/ws") as bob:
        await ann.send("hello")
        await bob.assert_received("hello")
        await ann.assert_nothing()


# Families


def test_a_family_gives_channels_and_turns_parameters_into_text(hub: Hub) -> None:
    teams = hub.channels("game:{game}:team-{team}")
    assert teams(game=7, team="red").name == "game:7:team-red"
    assert repr(teams) == "<ChannelFamily game:{game}:team-{team}>"


def test_a_family_without_parameters_is_one_channel(hub: Hub) -> None:
    assert hub.channels("lobby")().name == "lobby"


@pytest.mark.parametrize("parameters", [{}, {"room": 1, "more": 2}, {"other": 1}])
def test_a_missing_or_unknown_parameter_is_a_type_error(hub: Hub, parameters: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"room:\{room\}"):
        hub.channels("room:{room}")(**parameters)


@pytest.mark.parametrize("value", ["", "a:b", ":", "1:secret"])
def test_a_parameter_cannot_be_empty_or_lead_into_another_channel(hub: Hub, value: str) -> None:
    with pytest.raises(ValueError, match="room"):
        hub.channels("room:{room}")(room=value)


@pytest.mark.parametrize("value", ["$all", "$user:ann", "$"])
def test_a_parameter_cannot_lead_to_a_reserved_channel(hub: Hub, value: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        hub.channels("{name}")(name=value)


@pytest.mark.parametrize("value", ["a\nb", "{room}", "..", "*", "ü", "%3A"])
def test_any_other_text_is_a_parameter(hub: Hub, value: str) -> None:
    assert hub.channels("room:{room}")(room=value).name == f"room:{value}"


@pytest.mark.parametrize(
    "pattern",
    ["", "$room:{room}", "room:{", "room:}", "room:{}", "room:{1}", "{a}{b}", "{a}:{a}", "room:{{room}}", "room:{a b}"],
)
def test_a_pattern_that_is_none_is_an_error_at_declaration(hub: Hub, pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        hub.channels(pattern)


OVERLAPS = [
    ("room:{room}", "room:{other}"),
    ("room:{room}", "room:lobby"),
    ("{kind}:{id}", "room:{room}"),
    ("a{x}", "{y}b"),
    ("room:{room}-x", "room:x-{room}"),
]


@pytest.mark.parametrize(
    ("first", "second"), [("lobby", "lobby"), *OVERLAPS, *((second, first) for first, second in OVERLAPS)]
)
def test_families_that_share_a_channel_are_an_error_at_declaration(hub: Hub, first: str, second: str) -> None:
    hub.channels(first)
    with pytest.raises(ValueError, match="overlaps"):
        hub.channels(second)
    hub.channels("another:{name}:entirely")


@pytest.mark.parametrize(
    ("first", "second"),
    [("room:{room}", "rooms:{room}"), ("room:{room}", "room:{room}:{seat}"), ("{name}", "{name}:x"), ("a", "A")],
)
def test_families_that_share_none_can_be_declared(hub: Hub, first: str, second: str) -> None:
    hub.channels(first)
    hub.channels(second)


def test_families_of_two_hubs_do_not_meet(hub: Hub) -> None:
    hub.channels("room:{room}")
    Hub().channels("room:{room}")


def test_a_family_has_a_policy_but_no_bound_of_its_own(hub: Hub) -> None:
    with pytest.raises(ValueError, match="bound"):
        hub.channels("room:{room}", outbox=Outbox(bytes=5))


# What a client that does not read loses


async def stalled(hub: Hub, transport: RecordingTransport, *names: str) -> Connection:
    connection = await joined(hub, transport, *names)
    transport.buffered_bytes = CONGESTED
    return connection


def texts(name: str, numbers: range) -> list[str]:
    return [f"{name} {number:03}" + "x" * 100 for number in numbers]


async def test_of_a_family_with_latest_a_stalled_client_gets_the_newest_of_each_channel(hub: Hub) -> None:
    states = hub.channels("state:{game}", outbox=Outbox(policy="latest"))
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        await stalled(hub, transport, "state:1", "state:2")
        for number in range(100):
            await states(game=1).publish(f"one {number}")
            await hub.publish("state:2", f"two {number}")
        transport.buffered_bytes = 0
        assert transport.written == ["one 99", "two 99"]
        assert hub.statistics().dropped == {"latest": 198}
        assert hub.statistics().queued_bytes == 0


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop_oldest", range(7, 10)), ("drop_newest", range(3))], ids=["drop_oldest", "drop_newest"]
)
async def test_of_a_family_with_a_drop_policy_a_stalled_client_gets_what_the_policy_keeps(
    hub: Hub, policy: Any, kept: range
) -> None:
    logs = hub.channels("log:{log}", outbox=Outbox(policy=policy))
    transport = RecordingTransport()
    app = application(hub, outbox=Outbox(bytes=1_000))
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await stalled(hub, transport, "log:1")
        for text in texts("log", range(10)):
            await logs(log=1).publish(text)
        assert hub.statistics().dropped == {policy: 7}
        transport.buffered_bytes = 0
        assert transport.written == texts("log", kept)
        assert hub.statistics().closed == {}


async def test_a_channel_of_no_family_has_the_policy_of_the_connection() -> None:
    hub = Hub(outbox=Outbox(bytes=1_000, policy="drop_newest"))
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        await stalled(hub, transport, "room")
        for text in texts("room", range(10)):
            await hub.publish("room", text)
        transport.buffered_bytes = 0
        assert transport.written == texts("room", range(3))


async def test_a_family_can_disconnect_where_its_connection_would_drop() -> None:
    hub = Hub(outbox=Outbox(bytes=1_000, policy="drop_newest"))
    exact = hub.channels("exact:{name}", outbox=Outbox(policy="disconnect"))
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        await stalled(hub, transport, "exact:1")
        for text in texts("exact", range(10)):
            await exact(name=1).publish(text)
        assert transport.closed == (3008, "slow")
        assert hub.statistics().closed == {3008: 1}
        assert hub.statistics().queued_bytes == 0


async def test_a_drop_policy_drops_only_its_own_channels_publications(hub: Hub) -> None:
    logs = hub.channels("log:{log}", outbox=Outbox(policy="drop_oldest"))
    transport = RecordingTransport()
    app = application(hub, outbox=Outbox(bytes=2_000))
    async with Client(app) as client, client.connect("/ws", transport=transport):
        connection = await stalled(hub, transport, "log:1", "log:2", "room")
        await connection.send("direct")
        await hub.publish("room", "room")
        await hub.broadcast("everyone")
        await logs(log=2).publish("log 2")
        for text in texts("log", range(10)):
            await logs(log=1).publish(text)
        transport.buffered_bytes = 0
        assert transport.written[:4] == ["direct", "room", "everyone", "log 2"]
        assert transport.written[4:] == texts("log", range(10))[-len(transport.written[4:]) :]
        assert len(transport.written) > 4
        assert hub.statistics().closed == {}


async def test_latest_takes_the_place_of_what_it_replaces_and_never_overtakes(hub: Hub) -> None:
    states = hub.channels("state:{game}", outbox=Outbox(policy="latest"))
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        connection = await stalled(hub, transport, "state:1")
        await connection.send("before")
        await states(game=1).publish("old")
        await connection.send("after")
        await states(game=1).publish("new")
        transport.buffered_bytes = 0
        assert transport.written == ["before", "new", "after"]


async def test_a_client_that_reads_gets_all_of_a_family_with_latest(hub: Hub) -> None:
    states = hub.channels("state:{game}", outbox=Outbox(policy="latest"))
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        await joined(hub, transport, "state:1")
        for number in range(100):
            await states(game=1).publish(str(number))
        assert transport.written == list(map(str, range(100)))


async def test_through_the_fallback_a_stalled_client_skips_to_the_newest_state(hub: Hub) -> None:
    states = hub.channels("state:{game}", outbox=Outbox(policy="latest"))
    async with Client(application(hub)) as client, client.connect("/ws") as ann:
        await ann.send("state:1")
        await ann.assert_received({"joined": ["state:1"]})
        ann.stall()
        for number in range(100):
            await states(game=1).publish(str(number))
        ann.resume()
        await ann.assert_received("0", "99")
        await ann.assert_nothing()


@pytest.mark.parametrize("pattern", ["{name}", "{a}:{b}"])
async def test_no_family_decides_over_broadcasts_and_sends_to_a_user(hub: Hub, pattern: str) -> None:
    """`$all` and `$user:ann` would match these patterns."""
    hub.channels(pattern, outbox=Outbox(policy="latest"))
    transport = RecordingTransport()
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept(user="ann")
        await connection.receive()

    async with Client(app) as client, client.connect("/ws", transport=transport):
        await stalled(hub, transport)
        expected = []
        for number in range(3):
            await hub.broadcast(f"all {number}")
            await hub.send("ann", f"ann {number}")
            expected += [f"all {number}", f"ann {number}"]
        transport.buffered_bytes = 0
        assert transport.written == expected
        assert hub.statistics().dropped == {}


async def test_a_family_declared_after_somebody_has_joined_holds_for_the_next_who_joins_an_empty_channel(
    hub: Hub,
) -> None:
    transport = RecordingTransport()
    async with Client(application(hub)) as client, client.connect("/ws", transport=transport):
        connection = await joined(hub, transport, "state:1")
        states = hub.channels("state:{game}", outbox=Outbox(policy="latest"))
        await connection.leave("state:1")
        await connection.join("state:1")
        transport.buffered_bytes = CONGESTED
        await states(game=1).publish("old")
        await states(game=1).publish("new")
        transport.buffered_bytes = 0
        assert transport.written == ["new"]


# Limits of joining


async def test_joining_over_the_limit_is_denied_and_the_connection_goes_on(hub: Hub) -> None:
    app = application(hub, limits=Limits(channels_per_connection=2))
    async with Client(app) as client, client.connect("/ws") as ann:
        for name in ("a", "b"):
            await ann.send(name)
        await ann.assert_received({"joined": ["a"]}, {"joined": ["a", "b"]})
        await ann.send("c")
        await ann.assert_received({"refused": "A connection may join 2 channels", "limit": "channels_per_connection"})
        await ann.send("b")
        await ann.assert_received({"joined": ["a", "b"]})
        await hub.publish("c", "not heard")
        await hub.publish("a", "heard")
        await ann.assert_received("heard")
        assert hub.statistics().violations == {"channels_per_connection": 1}


async def test_leaving_makes_room_for_another_channel(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(channels_per_connection=1)))],
    ) -> None:
        for name in "abc":
            await connection.join(name)
            await connection.leave(name)
        await connection.join("d")
        await connection.send(sorted(connection.channels))

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received(["d"])


async def test_the_channels_of_a_user_and_of_everyone_do_not_count(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(channels_per_connection=1)))],
    ) -> None:
        await connection.accept(user="ann")
        await connection.join("room")
        await connection.send(sorted(connection.channels))

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received(["room"])


@pytest.mark.parametrize(("name", "fits"), [("x" * 5, True), ("x" * 6, False), ("üü", True), ("üüü", False)])
async def test_a_name_that_is_too_long_in_bytes_is_denied_and_the_connection_goes_on(
    hub: Hub, name: str, fits: bool
) -> None:
    app = application(hub, limits=Limits(channel_name_bytes=5))
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send(name)
        if fits:
            await ann.assert_received({"joined": [name]})
        else:
            await ann.assert_received({"refused": "A channel's name may have 5 bytes", "limit": "channel_name_bytes"})
        await ann.send("ok")
        assert "ok" in (await ann.receive_json())["joined"]


async def test_a_reserved_name_from_a_client_is_refused_and_the_connection_goes_on(hub: Hub) -> None:
    async with Client(application(hub)) as client, client.connect("/ws") as ann:
        for name in ("$all", "$user:bob", ""):
            await ann.send(name)
            assert "channel" in (await ann.receive_json())["refused"]
        await ann.send("room")
        await ann.assert_received({"joined": ["room"]})


async def test_an_uncaught_denial_of_a_join_closes_with_the_limits_name(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.join("x" * 256)

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1008, "channel_name_bytes")


async def test_a_name_with_a_lone_surrogate_is_an_error_everywhere(hub: Hub) -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        hub.channel("\ud800")
    with pytest.raises(ValueError, match="UTF-8"):
        await hub.publish("\ud800", "hello")
    with pytest.raises(ValueError, match="UTF-8"):
        hub.channels("room:{room}")(room="\ud800")


# What stays


async def test_nothing_of_a_channel_stays_when_the_last_one_has_gone(hub: Hub) -> None:
    hub.channels("room:{room}", outbox=Outbox(policy="latest"))
    async with Client(application(hub)) as client:
        for number in range(10):
            async with client.connect("/ws") as ann:
                await ann.send(f"room:{number}")
                await ann.send("lobby")
                await ann.assert_received({"joined": [f"room:{number}"]}, {"joined": ["lobby", f"room:{number}"]})
        statistics = hub.statistics()
        assert (statistics.channels, statistics.connections, statistics.users) == (0, 0, 0)
        await hub.publish("lobby", "nobody")
        assert hub.statistics().deliveries == 20
