"""Who is in a channel, against a list of leases."""

import time
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hubbub.state.roster import Roster

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CONNECTIONS = ("1", "2", "3", "4", "5")
USERS = ("ann", "bob", "", None)


@dataclass(frozen=True)
class Person:
    connection: str
    user: str | None
    since: float = 0.0


class AgainstAList(RuleBasedStateMachine):
    """The model is a list of (entry, end of the lease), and the users who were told to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.roster: Roster[Person] = Roster()
        self.leases: list[tuple[Person, float]] = []
        self.there: set[str] = set()
        self.now = 0.0

    def present(self) -> list[Person]:
        return [entry for entry, until in self.leases if until > self.now]

    def connections_of(self, user: str | None) -> int:
        return sum(entry.user == user for entry in self.present())

    def remove(self, connection: str) -> None:
        self.leases = [lease for lease in self.leases if lease[0].connection != connection]

    @rule(seconds=st.sampled_from([1.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        connection=st.sampled_from(CONNECTIONS),
        user=st.sampled_from(USERS),
        since=st.integers(0, 9),
        lease_s=st.sampled_from([1.0, 5.0, 20.0]),
    )
    def enter(self, connection: str, user: str | None, since: int, lease_s: float) -> None:
        # A connection has one user for all its life.
        known = [entry.user for entry, _ in self.leases if entry.connection == connection]
        entry = Person(connection, known[0] if known else user, since)
        is_first, connections = self.roster.enter(entry, self.now + lease_s, self.now)
        self.remove(connection)
        self.leases.append((entry, self.now + lease_s))
        assert is_first == (entry.user is not None and entry.user not in self.there)
        assert connections == (0 if entry.user is None else self.connections_of(entry.user))
        if entry.user is not None:
            self.there.add(entry.user)

    @rule(connection=st.sampled_from(CONNECTIONS))
    def leave(self, connection: str) -> None:
        user = next((entry.user for entry, _ in self.leases if entry.connection == connection), None)
        self.remove(connection)
        is_gone = user is not None and not self.connections_of(user)
        assert self.roster.leave(connection, self.now) == (user if is_gone else None)
        if user is not None and is_gone:
            self.there.remove(user)
            self.leases = [lease for lease in self.leases if lease[0].user != user]

    @rule()
    def expire(self) -> None:
        self.leases = [lease for lease in self.leases if lease[1] > self.now]
        gone = self.there - {entry.user for entry in self.present()}
        departed = self.roster.expire(self.now)
        assert sorted(departed) == sorted(gone)
        self.there -= gone

    @invariant()
    def those_with_a_lease_are_listed_and_counted(self) -> None:
        listed = [entry for entry in self.present() if entry.user is not None]
        assert self.roster.members(self.now) == sorted(listed, key=lambda entry: entry.since)
        users = {entry.user for entry in listed}
        assert self.roster.count(self.now) == (len(self.present()), len(users))

    @invariant()
    def nothing_else_is_held(self) -> None:
        assert len(self.roster) == len(self.leases)
        assert self.roster._users.keys() == {entry.user for entry, _ in self.leases} - {None} == self.there


def test_against_a_list() -> None:
    run_state_machine_as_test(AgainstAList, settings=UNTIMED)


def test_a_user_comes_with_the_first_and_goes_with_the_last() -> None:
    roster: Roster[Person] = Roster()
    assert roster.enter(Person("1", "ann"), 10.0, 0.0) == (True, 1)
    assert roster.enter(Person("2", "ann"), 10.0, 0.0) == (False, 2)
    assert roster.leave("1", 0.0) is None
    assert roster.leave("1", 0.0) is None
    assert roster.leave("2", 0.0) == "ann"
    assert len(roster) == 0


def test_entering_again_is_no_second_connection() -> None:
    roster: Roster[Person] = Roster()
    roster.enter(Person("1", "ann", since=1), 10.0, 0.0)
    assert roster.enter(Person("1", "ann", since=2), 10.0, 0.0) == (False, 1)
    assert roster.members(0.0) == [Person("1", "ann", since=2)]
    assert roster.leave("1", 0.0) == "ann"


def test_a_connection_that_has_become_another_user() -> None:
    roster: Roster[Person] = Roster()
    roster.enter(Person("1", "ann"), 10.0, 0.0)
    assert roster.enter(Person("1", "bob"), 10.0, 0.0) == (True, 1)
    assert roster.enter(Person("1", None), 10.0, 0.0) == (False, 0)
    assert roster.leave("1", 0.0) is None
    assert roster._users == {}


def test_nobody_in_particular_is_counted_only() -> None:
    roster: Roster[Person] = Roster()
    assert roster.enter(Person("1", None), 10.0, 0.0) == (False, 0)
    assert roster.members(0.0) == []
    assert roster.count(0.0) == (1, 0)
    assert roster.expire(10.0) == []
    assert len(roster) == 0


def test_a_lease_has_ended_when_its_end_comes() -> None:
    roster: Roster[Person] = Roster()
    roster.enter(Person("1", "ann"), 10.0, 0.0)
    assert roster.expire(9.9) == []
    assert roster.count(9.9) == (1, 1)
    assert roster.count(10.0) == (0, 0)
    assert roster.expire(10.0) == ["ann"]
    assert roster.expire(10.0) == []


def test_two_ended_leases_of_a_user_are_one_departure() -> None:
    roster: Roster[Person] = Roster()
    for connection in CONNECTIONS:
        roster.enter(Person(connection, "ann"), 10.0, 0.0)
    assert roster.expire(10.0) == ["ann"]


def test_leaving_takes_ended_leases_along() -> None:
    roster: Roster[Person] = Roster()
    roster.enter(Person("lost", "ann"), 10.0, 0.0)
    roster.enter(Person("left", "ann"), 99.0, 0.0)
    assert roster.leave("left", 10.0) == "ann"
    assert roster.expire(10.0) == []
    assert len(roster) == 0


def test_who_comes_back_before_having_gone_was_never_away() -> None:
    roster: Roster[Person] = Roster()
    roster.enter(Person("lost", "ann"), 10.0, 0.0)
    assert roster.enter(Person("back", "ann"), 99.0, 20.0) == (False, 1)
    assert roster.expire(20.0) == []
    assert roster.leave("back", 20.0) == "ann"


def test_ten_thousand_members_are_listed_at_once() -> None:
    roster: Roster[Person] = Roster()
    person = Person("", "", 0.0)
    for number in range(10_000):
        entry = replace(person, connection=str(number), user=f"user {number}", since=number * 7919 % 10_007)
        roster.enter(entry, 10.0, 0.0)
    durations = []
    for _ in range(5):
        begin = time.perf_counter()
        assert len(roster.members(0.0)) == 10_000
        durations.append(time.perf_counter() - begin)
    assert min(durations) < 0.05
