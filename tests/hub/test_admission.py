"""How many may connect at a time, and what is counted after each has gone."""

import logging
import resource
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hubbub.config import Limits
from hubbub.errors import Denied
from hubbub.hub.admission import Admission, open_file_limit

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

UNLIMITED = Limits(connections=None, connections_per_user=None, connections_per_address=None)


def denied(admission: Admission, user: str | None = None, address: str | None = None) -> Denied:
    """Return the refusal of one more."""
    with pytest.raises(Denied) as refused:
        admission.check(user, address)
    return refused.value


def test_the_total_is_refused_with_503_and_a_time_to_come_back() -> None:
    admission = Admission(Limits(connections=2))
    for number in range(2):
        admission.check(None, None)
        admission.enter(str(number), None)
    refusal = denied(admission, "3", "192.0.2.3")
    assert (refusal.limit, refusal.status, refusal.reason) == ("connections", 503, "Too many connections")
    assert int(refusal.headers["Retry-After"]) > 0


def test_the_status_and_the_text_of_a_full_house_can_be_set() -> None:
    admission = Admission(Limits(connections=1), status=400, detail="Server is full")
    admission.enter(None, None)
    refusal = denied(admission)
    assert (refusal.limit, refusal.status, refusal.reason) == ("connections", 400, "Server is full")


def test_one_user_too_many_times_is_refused_with_429_and_others_are_not() -> None:
    admission = Admission(Limits(connections_per_user=1))
    admission.enter("ann", None)
    refusal = denied(admission, "ann")
    assert (refusal.limit, refusal.status) == ("connections_per_user", 429)
    assert int(refusal.headers["Retry-After"]) > 0
    admission.check("bob", None)
    admission.check(None, None)


def test_one_address_too_many_times_is_refused_with_429_and_others_are_not() -> None:
    admission = Admission(Limits(connections_per_address=1))
    admission.enter(None, "192.0.2.1")
    refusal = denied(admission, None, "192.0.2.1")
    assert (refusal.limit, refusal.status) == ("connections_per_address", 429)
    assert int(refusal.headers["Retry-After"]) > 0
    admission.check(None, "192.0.2.2")
    admission.check(None, None)


def test_the_log_of_a_full_address_names_it_and_the_proxy_option(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission(Limits(connections_per_address=1))
    admission.enter(None, "192.0.2.1")
    with caplog.at_level(logging.WARNING, "hubbub"):
        denied(admission, None, "192.0.2.1")
    (line,) = caplog.messages
    for part in ("192.0.2.1", "1 connections", "--forwarded-allow-ips"):
        assert part in line


@pytest.mark.parametrize(
    ("limits", "user", "address"),
    [
        (Limits(connections=1), "ann", "192.0.2.1"),
        (Limits(connections_per_user=1), "ann", "192.0.2.1"),
        (Limits(connections_per_address=1), "ann", "192.0.2.1"),
    ],
    ids=["total", "user", "address"],
)
def test_a_place_is_free_again_when_its_holder_has_left(limits: Limits, user: str, address: str) -> None:
    admission = Admission(limits)
    admission.enter(user, address)
    denied(admission, user, address)
    admission.leave(user, address)
    admission.check(user, address)


@pytest.mark.parametrize(("user", "address"), [(None, None), ("ann", "192.0.2.1")])
def test_without_limits_everybody_is_let_in(user: str | None, address: str | None) -> None:
    admission = Admission(UNLIMITED)
    for _ in range(5_000):
        admission.check(user, address)
        admission.enter(user, address)
    assert denial(admission, user, address) is None


def test_who_has_no_user_or_no_address_counts_in_the_total_only() -> None:
    admission = Admission(Limits(connections=3, connections_per_user=1, connections_per_address=1))
    for _ in range(3):
        admission.check(None, None)
        admission.enter(None, None)
    assert denied(admission).limit == "connections"


def test_the_total_is_named_first() -> None:
    admission = Admission(Limits(connections=1, connections_per_user=1, connections_per_address=1))
    admission.enter("ann", "192.0.2.1")
    assert denied(admission, "ann", "192.0.2.1").limit == "connections"


def denial(admission: Admission, user: str | None, address: str | None) -> str | None:
    """Return the name of the limit that refuses one more, or `None`."""
    try:
        admission.check(user, address)
    except Denied as refusal:
        return refusal.limit
    return None


USERS = (None, "ann", "bob")
ADDRESSES = (None, "192.0.2.1", "192.0.2.2")


class AgainstAList(RuleBasedStateMachine):
    """The model is the list of those who are in."""

    limits = Limits(connections=6, connections_per_user=2, connections_per_address=3)

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(self.limits)
        self.inside: list[tuple[str | None, str | None]] = []

    def refusing(self, user: str | None, address: str | None) -> str | None:
        users = Counter(user for user, _ in self.inside if user is not None)
        addresses = Counter(address for _, address in self.inside if address is not None)
        if len(self.inside) >= 6:
            return "connections"
        if users[user or ""] >= 2:
            return "connections_per_user"
        return "connections_per_address" if addresses[address or ""] >= 3 else None

    @rule(user=st.sampled_from(USERS), address=st.sampled_from(ADDRESSES))
    def arrive(self, user: str | None, address: str | None) -> None:
        refusing = self.refusing(user, address)
        assert denial(self.admission, user, address) == refusing
        if refusing is None:
            self.admission.enter(user, address)
            self.inside.append((user, address))

    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        if self.inside:
            who = data.draw(st.sampled_from(self.inside))
            self.admission.leave(*who)
            self.inside.remove(who)

    @invariant()
    def checking_changes_nothing(self) -> None:
        for user in USERS:
            for address in ADDRESSES:
                assert denial(self.admission, user, address) == self.refusing(user, address)

    @invariant()
    def nobody_leaves_a_trace(self) -> None:
        if not self.inside:
            # Compared as text: to `==` a counter with a zero in it is an empty one.
            assert repr(vars(self.admission)) == repr(vars(Admission(self.limits)))


def test_any_coming_and_going_agrees_with_a_list() -> None:
    run_state_machine_as_test(AgainstAList, settings=settings(UNTIMED, max_examples=40, stateful_step_count=40))


def with_soft_limit(soft: int) -> Callable[[int], tuple[int, int]]:
    return lambda _: (soft, resource.RLIM_INFINITY)


@pytest.mark.parametrize(
    ("soft", "room"),
    [(1024, 960), (65_536, 65_472), (65, 1), (64, 1), (10, 1), (resource.RLIM_INFINITY, None)],
)
def test_the_open_file_limit_less_64_is_the_room(monkeypatch: pytest.MonkeyPatch, soft: int, room: int | None) -> None:
    monkeypatch.setattr(resource, "getrlimit", with_soft_limit(soft))
    assert open_file_limit() == room


def test_windows_has_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubbub.hub.admission.sys", SimpleNamespace(platform="win32"))
    assert open_file_limit() is None


def test_the_open_file_limit_of_this_process_is_read() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
    try:
        assert open_file_limit() == min(before[0], 512) - 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
