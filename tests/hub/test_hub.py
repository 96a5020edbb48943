"""The core of a hub: who is connected, who hears what, and what is counted."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from hubbub.config import Limits, Outbox
from hubbub.errors import Denied
from hubbub.hub.admission import Admission
from hubbub.hub.connection import CoreConnection, Phase, Settings
from hubbub.hub.hub import EVERYONE, PLAIN, ChannelOptions, CoreHub, check_channel, user_channel
from hubbub.model import OutboxPolicy
from hubbub.state.outbox import ENTRY_BYTES
from hubbub.testing import ManualClock, RecordingTransport
from hubbub.wire.prepared import PreparedFrame

FULL = 65_536
"""A buffer level at which a `RecordingTransport` is congested."""


class Family:
    """Declares policies, and remembers which channels it was asked about."""

    def __init__(self) -> None:
        self.policies: dict[str, OutboxPolicy] = {}
        self.asked: list[str] = []

    def options_of(self, channel: str) -> ChannelOptions:
        self.asked.append(channel)
        return ChannelOptions(self.policies[channel]) if channel in self.policies else PLAIN


def at_once(call: Callable[[], None]) -> None:
    """Do what a hub does at the end of the loop's turn: these tests have no loop."""
    call()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
def family() -> Family:
    return Family()


@pytest.fixture
def hub(clock: ManualClock, family: Family) -> CoreHub:
    return CoreHub(
        clock=clock, admission=Admission(Limits(connections=5)), options_of=family.options_of, call_soon=at_once
    )


def connecting(
    hub: CoreHub,
    *,
    user: str | None = None,
    address: str | None = "203.0.113.7",
    limits: Limits = Limits(),
    outbox: Outbox = Outbox(),
    admissions: tuple[Admission, ...] = (),
) -> CoreConnection:
    """Return a connection before its handshake."""
    settings = Settings(limits, outbox, "reply", (hub.admission, *admissions))
    connection = CoreConnection(hub, settings, address)
    connection.user = user
    return connection


def connected(
    hub: CoreHub, transport: RecordingTransport | None = None, **options: Any
) -> tuple[CoreConnection, RecordingTransport]:
    """Return an open connection, and the transport that carries it."""
    connection = connecting(hub, **options)
    transport = transport or RecordingTransport()
    hub.admit(connection)
    connection.open(transport)
    return connection, transport


# Coming and going


def test_an_open_connection_is_found_by_its_id(hub: CoreHub) -> None:
    connection, _ = connected(hub)
    assert hub.connections == {connection.id: connection}
    assert hub.statistics().accepted == 1


def test_a_connection_that_is_admitted_only_is_not_found_and_hears_nothing(hub: CoreHub) -> None:
    connection = connecting(hub, user="ann")
    hub.admit(connection)
    assert connection.is_admitted
    assert hub.connections == {}
    assert hub.subscribers(EVERYONE) == hub.subscribers(user_channel("ann")) == ()
    assert hub.statistics().accepted == 0


def test_a_hub_that_is_draining_admits_nobody(hub: CoreHub) -> None:
    hub.is_draining = True
    connection = connecting(hub)
    with pytest.raises(Denied) as caught:
        hub.admit(connection)
    assert (caught.value.limit, caught.value.status) == ("draining", 503)
    assert caught.value.headers == {"Retry-After": "1"}
    assert not connection.is_admitted


def test_one_refusal_counts_the_connection_nowhere(hub: CoreHub) -> None:
    full = Admission(Limits(connections=1))
    connected(hub, admissions=(full,))
    for _ in range(10):
        connection = connecting(hub, admissions=(full,))
        with pytest.raises(Denied) as caught:
            hub.admit(connection)
        assert caught.value.limit == "connections"
        assert not connection.is_admitted
        hub.released(connection)
    for _ in range(4):
        hub.admit(connecting(hub))
    with pytest.raises(Denied):
        hub.admit(connecting(hub))


@pytest.mark.parametrize(
    ("limits", "same"),
    [
        (Limits(connections=1), {}),
        (Limits(connections_per_user=1), {"user": "ann"}),
        (Limits(connections_per_address=1), {"address": "198.51.100.1"}),
    ],
    ids=["in total", "per user", "per address"],
)
@pytest.mark.parametrize("how", ["never opened", "closed", "lost", "aborted"])
def test_the_place_of_one_that_has_gone_is_free(hub: CoreHub, limits: Limits, same: dict[str, str], how: str) -> None:
    admission = Admission(limits)
    connection = connecting(hub, admissions=(admission,), **same)
    hub.admit(connection)
    with pytest.raises(Denied):
        hub.admit(connecting(hub, admissions=(admission,), **same))
    if how != "never opened":
        transport = RecordingTransport()
        connection.open(transport)
        {"closed": lambda: connection.end(1000), "lost": transport.lose, "aborted": connection.abort}[how]()
    hub.released(connection)
    hub.released(connection)
    hub.admit(connecting(hub, admissions=(admission,), **same))
    with pytest.raises(Denied):
        hub.admit(connecting(hub, admissions=(admission,), **same))


def test_the_place_of_one_that_is_closing_is_taken_until_the_transport_lets_go(hub: CoreHub) -> None:
    admission = Admission(Limits(connections=1))
    connection, transport = connected(hub, admissions=(admission,))
    transport.buffered_bytes = FULL
    connection.end(1000)
    with pytest.raises(Denied):
        hub.admit(connecting(hub, admissions=(admission,)))
    transport.lose()
    hub.admit(connecting(hub, admissions=(admission,)))


@pytest.mark.parametrize(("limit", "name"), [("connections", "connections"), (None, "denied")])
def test_a_refusal_is_counted_under_its_limit(hub: CoreHub, limit: str | None, name: str) -> None:
    hub.refused(Denied("no", limit=limit))
    hub.refused(Denied("no", limit=limit))
    assert hub.statistics().refused == {name: 2}


@pytest.mark.parametrize(("end", "code"), [("closed", 4000), ("closed", 3008), ("lost", 1001), ("aborted", 1006)])
@pytest.mark.parametrize("user", ["ann", None])
def test_one_that_has_ended_is_forgotten_altogether(hub: CoreHub, end: str, code: int, user: str | None) -> None:
    connection, transport = connected(hub, user=user)
    other, _ = connected(hub, user="bob")
    for channel in ("a", "b", "c"):
        hub.join_here(connection, channel)
    hub.join_here(other, "a")
    ends: dict[str, Callable[[], None]] = {
        "closed": lambda: connection.end(code),
        "lost": lambda: transport.lose(code),
        "aborted": connection.abort,
    }
    ends[end]()
    assert hub.connections == {other.id: other}
    assert hub.channels_of(connection) == frozenset()
    assert not hub.hears(connection, EVERYONE)
    assert [hub.subscribers(channel) for channel in (EVERYONE, "a", "b")] == [(other,), (other,), ()]
    now = hub.statistics()
    assert (now.connections, now.users, now.channels, now.closed) == (1, 1, 1, {code: 1})


class Name(str):
    """The name of a channel, and one can see whether anybody keeps it."""


@pytest.mark.parametrize("how", ["closed", "lost", "refused"])
def test_nothing_keeps_a_connection_that_has_gone(hub: CoreHub, how: str) -> None:
    def come_and_go() -> weakref.ref[CoreConnection]:
        connection = connecting(hub, user="ann")
        hub.admit(connection)
        if how == "refused":
            connection.fail()
            return weakref.ref(connection)
        transport = RecordingTransport()
        connection.open(transport)
        hub.join_here(connection, "news")
        connection.end(1000) if how == "closed" else transport.lose()
        return weakref.ref(connection)

    gone = come_and_go()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("how", ["left", "ended"])
def test_nothing_keeps_the_name_of_a_channel_that_nobody_hears(hub: CoreHub, family: Family, how: str) -> None:
    connection, transport = connected(hub)

    def join_and_go() -> weakref.ref[Name]:
        channel = Name("news")
        hub.join_here(connection, channel)
        hub.publish_here(channel, "x")
        hub.leave(connection, channel) if how == "left" else transport.lose()
        return weakref.ref(channel)

    gone = join_and_go()
    family.asked.clear()
    gc.collect()
    assert gone() is None


def test_call_later_calls_once_in_so_many_seconds(hub: CoreHub, clock: ManualClock) -> None:
    calls = []
    hub.call_later(2, lambda: calls.append("made"))
    hub.call_later(2, lambda: calls.append("withdrawn")).cancel()
    clock.advance(1.99)
    assert calls == []
    clock.advance(10)
    assert calls == ["made"]


# Channels


def test_joining_twice_is_joining_once(hub: CoreHub) -> None:
    connection, transport = connected(hub)
    hub.join_here(connection, "news")
    hub.join_here(connection, "news")
    hub.publish_here("news", "once")
    assert transport.written == ["once"]
    hub.leave(connection, "news")
    assert not hub.hears(connection, "news")


def test_leaving_what_one_does_not_hear_does_nothing(hub: CoreHub) -> None:
    connection, transport = connected(hub)
    other, _ = connected(hub)
    hub.join_here(other, "news")
    hub.leave(connection, "news")
    hub.leave(connection, "never heard of")
    hub.publish_here("news", "x")
    assert hub.subscribers("news") == (other,)
    assert transport.written == []


def test_leaving_after_the_end_does_nothing(hub: CoreHub) -> None:
    connection, transport = connected(hub)
    hub.join_here(connection, "news")
    transport.lose()
    hub.leave(connection, "news")
    hub.leave(connection, EVERYONE)
    assert hub.statistics().channels == 0


def test_one_that_left_everyone_hears_its_channels_still(hub: CoreHub) -> None:
    connection, transport = connected(hub, user="ann")
    hub.join_here(connection, "news")
    hub.leave(connection, EVERYONE)
    for channel in (EVERYONE, "news", user_channel("ann")):
        hub.publish_here(channel, channel)
    assert transport.written == ["news", user_channel("ann")]
    transport.lose()
    assert hub.connections == {}


def test_the_channels_of_a_connection_are_those_that_it_joined(hub: CoreHub) -> None:
    connection, _ = connected(hub, user="ann")
    assert hub.channels_of(connection) == frozenset()
    hub.join_here(connection, "a")
    hub.join_here(connection, "b")
    hub.leave(connection, "a")
    assert hub.channels_of(connection) == {"b"}
    assert hub.hears(connection, "b")
    assert hub.hears(connection, EVERYONE)
    assert hub.hears(connection, user_channel("ann"))
    assert not hub.hears(connection, "a")


def test_the_subscribers_are_those_of_now_in_the_order_in_which_they_joined(hub: CoreHub) -> None:
    first, _ = connected(hub)
    second, _ = connected(hub)
    hub.join_here(second, "news")
    hub.join_here(first, "news")
    before = hub.subscribers("news")
    hub.leave(second, "news")
    assert before == (second, first)
    assert hub.subscribers("news") == (first,)


@pytest.mark.parametrize("name", ["", "$all", "$", "$user:ann", 7, b"news", None])
def test_a_name_that_is_empty_or_reserved_is_no_public_channel(hub: CoreHub, name: Any) -> None:
    connection, _ = connected(hub)
    with pytest.raises(ValueError, match=r"non-empty string that does not begin with '\$'"):
        check_channel(name)
    with pytest.raises(ValueError, match="channel"):
        hub.join_here(connection, name)
    assert hub.channels_of(connection) == frozenset()


def test_a_name_without_utf_8_form_is_no_public_channel(hub: CoreHub) -> None:
    connection, _ = connected(hub)
    with pytest.raises(ValueError, match="no UTF-8 form") as caught:
        hub.join_here(connection, "a\ud800")
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize("name", ["a", "a$", "room:1", " ", "\n", "ü", "a" * 10_000])
def test_any_other_name_is_one(name: str) -> None:
    check_channel(name)


@pytest.mark.parametrize(
    ("name", "fits"), [("a" * 10, True), ("a" * 11, False), ("ü" * 5, True), ("ü" * 6, False), ("😀" * 3, False)]
)
def test_a_name_may_have_so_many_bytes(hub: CoreHub, name: str, fits: bool) -> None:
    connection, _ = connected(hub, limits=Limits(channel_name_bytes=10))
    if fits:
        hub.join_here(connection, name)
        return
    with pytest.raises(Denied, match="10 bytes") as caught:
        hub.join_here(connection, name)
    assert caught.value.limit == "channel_name_bytes"
    assert hub.statistics().violations == {"channel_name_bytes": 1}
    assert hub.channels_of(connection) == frozenset()
    assert connection.phase is Phase.OPEN


def test_a_connection_may_join_so_many_channels_at_a_time(hub: CoreHub) -> None:
    connection, _ = connected(hub, user="ann", limits=Limits(channels_per_connection=2))
    hub.join_here(connection, "a")
    hub.join_here(connection, "b")
    hub.join_here(connection, "a")
    with pytest.raises(Denied, match="2 channels") as caught:
        hub.join_here(connection, "c")
    assert caught.value.limit == "channels_per_connection"
    assert hub.statistics().violations == {"channels_per_connection": 1}
    assert connection.phase is Phase.OPEN
    hub.leave(connection, "a")
    hub.join_here(connection, "c")
    assert hub.channels_of(connection) == {"b", "c"}


def test_without_limits_any_name_and_any_number_will_do(hub: CoreHub) -> None:
    connection, _ = connected(hub, limits=Limits(channel_name_bytes=None, channels_per_connection=None))
    names = {f"{number}".rjust(1_000, "0") for number in range(500)}
    for name in names:
        hub.join_here(connection, name)
    assert hub.channels_of(connection) == names


# Publishing


def test_a_publication_reaches_all_who_hear_the_channel_and_nobody_else(hub: CoreHub) -> None:
    transports = [RecordingTransport() for _ in range(3)]
    ann, bob, _ = (connected(hub, transport)[0] for transport in transports)
    hub.join_here(ann, "news")
    hub.join_here(bob, "news")
    assert hub.publish_here("news", {"n": 1}) is False
    assert [transport.written for transport in transports] == [['{"n":1}'], ['{"n":1}'], []]
    assert (hub.statistics().published, hub.statistics().deliveries) == (1, 2)


def test_all_recipients_get_the_same_object(hub: CoreHub) -> None:
    transports = [RecordingTransport() for _ in range(3)]
    for transport in transports:
        connected(hub, transport)
    hub.publish_here(EVERYONE, {"n": 1})
    first, *others = (transport.written[0] for transport in transports)
    assert all(other is first for other in others)


@pytest.mark.parametrize("exclude", [[0], [0, 2], [0, 1, 2], []])
@pytest.mark.parametrize("kind", [tuple, frozenset])
def test_those_who_are_excluded_are_left_out(
    hub: CoreHub, exclude: list[int], kind: type[tuple[Any, ...]] | type[frozenset[Any]]
) -> None:
    pairs = [connected(hub) for _ in range(3)]
    hub.publish_here(EVERYONE, "x", kind(pairs[index][0] for index in exclude))
    assert [index for index, (_, transport) in enumerate(pairs) if not transport.written] == exclude


def test_to_exclude_one_who_does_not_hear_the_channel_changes_nothing(hub: CoreHub) -> None:
    connection, transport = connected(hub)
    other, _ = connected(hub)
    hub.join_here(connection, "news")
    hub.publish_here("news", "x", (other,))
    assert transport.written == ["x"]


def test_a_publication_that_nobody_hears_is_counted_and_no_more(hub: CoreHub, family: Family) -> None:
    _, transport = connected(hub)
    family.asked.clear()
    assert hub.publish_here("nobody", "x") is False
    assert transport.written == []
    assert (hub.statistics().published, hub.statistics().deliveries) == (1, 0)
    assert (hub.statistics().channels, family.asked) == (0, [])


@pytest.mark.parametrize(
    ("message", "error"), [(object(), TypeError), ({"a": object()}, TypeError), ("\ud800", ValueError)]
)
@pytest.mark.parametrize("channel", [EVERYONE, "nobody"])
def test_a_message_that_cannot_be_encoded_is_refused_whoever_hears_it(
    hub: CoreHub, channel: str, message: object, error: type[Exception]
) -> None:
    _, transport = connected(hub)
    with pytest.raises(error):
        hub.publish_here(channel, message)
    assert transport.written == []
    assert hub.statistics().published == 0


def test_publish_says_whether_somebody_is_behind(hub: CoreHub) -> None:
    connected(hub)
    _, slow = connected(hub)
    slow.buffered_bytes = FULL
    assert hub.publish_here(EVERYONE, "x") is True
    slow.buffered_bytes = 0
    assert hub.publish_here(EVERYONE, "x") is False


def test_the_policy_of_a_channel_is_asked_for_when_the_first_joins(hub: CoreHub, family: Family) -> None:
    ann, _ = connected(hub)
    bob, _ = connected(hub)
    family.asked.clear()
    hub.join_here(ann, "news")
    hub.join_here(bob, "news")
    hub.publish_here("news", "x")
    hub.leave(ann, "news")
    assert family.asked == ["news"]
    hub.leave(bob, "news")
    hub.join_here(bob, "news")
    assert family.asked == ["news", "news"]


def test_the_policy_of_a_channel_holds_for_its_publications_only(hub: CoreHub, family: Family) -> None:
    family.policies["news"] = "latest"
    connection, transport = connected(hub)
    hub.join_here(connection, "news")
    hub.join_here(connection, "other")
    transport.buffered_bytes = FULL
    for text in "123":
        hub.publish_here("news", text)
        hub.publish_here("other", text)
    transport.buffered_bytes = 0
    assert transport.written == ["3", "1", "2", "3"]


def test_a_fan_out_ends_a_slow_subscriber_and_goes_on_to_the_others(hub: CoreHub) -> None:
    outbox = Outbox(bytes=ENTRY_BYTES)
    _, before = connected(hub)
    slow, full = connected(hub, outbox=outbox)
    _, after = connected(hub)
    hub.join_here(slow, "only the slow one")
    full.buffered_bytes = FULL
    hub.publish_here(EVERYONE, "1")
    hub.publish_here(EVERYONE, "2")
    hub.publish_here(EVERYONE, "3")
    assert before.written == after.written == ["1", "2", "3"]
    assert (full.written, full.closed) == ([], (3008, "slow"))
    assert slow.id not in hub.connections
    now = hub.statistics()
    assert (now.connections, now.channels, now.deliveries, now.discarded) == (2, 0, 7, 1)


class Meddling(RecordingTransport):
    """Does something in the middle of a fan-out."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._meddle = meddle

    def write(self, frame: PreparedFrame) -> None:
        super().write(frame)
        self._meddle()


@pytest.mark.parametrize("how", ["closed", "lost"])
def test_a_subscriber_that_another_delivery_ends_is_left_out(hub: CoreHub, how: str) -> None:
    ends: list[Callable[[], object]] = []
    connected(hub, Meddling(lambda: [end() for end in ends]))
    victim, transport = connected(hub)
    _, last = connected(hub)
    ends.append(transport.lose if how == "lost" else lambda: victim.end(1000))
    hub.publish_here(EVERYONE, "x")
    assert transport.written == []
    assert last.written == ["x"]
    assert hub.statistics().deliveries == 2


def test_one_that_ends_itself_in_its_own_delivery_disturbs_nobody(hub: CoreHub) -> None:
    suicidal, _ = connected(hub, transport := Meddling(lambda: transport.lose()))
    _, other = connected(hub)
    hub.join_here(suicidal, "news")
    hub.publish_here("news", "1")
    hub.publish_here(EVERYONE, "2")
    assert (transport.written, other.written) == (["1"], ["2"])
    assert hub.statistics().channels == 0


def test_one_that_joins_in_the_middle_of_a_fan_out_hears_the_next_publication(hub: CoreHub) -> None:
    late, transport = connected(hub)
    first, _ = connected(hub, Meddling(lambda: hub.join_here(late, "news")))
    hub.join_here(first, "news")
    hub.publish_here("news", "1")
    assert transport.written == []
    hub.publish_here("news", "2")
    assert transport.written == ["2"]


# Users


def test_what_is_meant_for_a_user_reaches_all_of_their_connections_and_nobody_else(hub: CoreHub) -> None:
    transports = {user: [connected(hub, user=user)[1] for _ in range(2)] for user in ("ann", "bob")}
    _, nobody = connected(hub)
    hub.publish_here(user_channel("ann"), "x")
    assert [transport.written for transport in transports["ann"]] == [["x"], ["x"]]
    assert [transport.written for transport in transports["bob"]] == [[], []]
    assert nobody.written == []


@pytest.mark.parametrize("user", ["a:b", "$all", "$user:ann", " ", "ü", "x" * 1_000])
def test_a_user_may_have_any_name(hub: CoreHub, user: str) -> None:
    _, transport = connected(hub, user=user)
    _, other = connected(hub, user="ann")
    hub.publish_here(user_channel(user), "x")
    assert (transport.written, other.written) == (["x"], [])
    assert hub.statistics().users == 2
    assert hub.statistics().channels == 0


def test_a_user_is_there_until_their_last_connection_ends(hub: CoreHub) -> None:
    first, second = (connected(hub, user="ann")[1] for _ in range(2))
    connected(hub)
    assert (hub.statistics().users, hub.statistics().connections) == (1, 3)
    first.lose()
    assert hub.statistics().users == 1
    second.lose()
    assert (hub.statistics().users, hub.statistics().connections) == (0, 1)


# Statistics


def test_a_new_hub_has_seen_nothing_and_holds_nothing(hub: CoreHub) -> None:
    now = hub.statistics()
    assert [field.name for field in fields(now) if getattr(now, field.name)] == ["is_broker_connected"]


def test_statistics_say_what_the_hub_holds_now(hub: CoreHub) -> None:
    ann, transport = connected(hub, user="ann")
    connected(hub)
    hub.join_here(ann, "a")
    hub.join_here(ann, "b")
    transport.buffered_bytes = FULL
    hub.publish_here("a", "12345")
    now = hub.statistics()
    assert (now.connections, now.users, now.channels, now.queued_bytes) == (2, 1, 2, 5 + ENTRY_BYTES)


def test_the_bytes_in_the_outbox_of_a_closing_connection_count_until_they_are_gone(hub: CoreHub) -> None:
    connection, transport = connected(hub)
    transport.buffered_bytes = FULL
    hub.publish_here(EVERYONE, "12345")
    connection.end(1000)
    assert hub.statistics().queued_bytes == 5 + ENTRY_BYTES
    transport.buffered_bytes = 0
    assert hub.statistics().queued_bytes == 0


def test_statistics_are_a_record_of_their_moment(hub: CoreHub) -> None:
    before = hub.statistics()
    _, transport = connected(hub)
    hub.refused(Denied("no", limit="connections"))
    transport.lose(1001)
    assert (before.accepted, before.closed, before.refused) == (0, {}, {})
    with pytest.raises(AttributeError):
        before.accepted = 7  # type: ignore[misc]


def test_two_hubs_share_nothing(clock: ManualClock) -> None:
    one, two = (
        CoreHub(
            clock=clock, admission=Admission(Limits(connections=1)), options_of=lambda channel: PLAIN, call_soon=at_once
        )
        for _ in range(2)
    )
    ann, heard_by_ann = connected(one, user="ann")
    bob, heard_by_bob = connected(two, user="ann")
    one.join_here(ann, "news")
    two.join_here(bob, "news")
    for channel in (EVERYONE, "news", user_channel("ann")):
        one.publish_here(channel, "x")
    heard_by_ann.lose()
    assert (len(heard_by_ann.written), heard_by_bob.written) == (3, [])
    assert (two.statistics().connections, two.statistics().users, two.statistics().channels) == (1, 1, 1)
    assert (two.statistics().published, two.statistics().closed) == (0, {})
