"""What a client of the torture run makes of what it is sent."""

import random

import pytest

from hubbub import Position
from torture.peers import Client
from torture.verifier import Follower, Tally


@pytest.mark.parametrize("may_lose", [False, True])
def test_a_client_takes_all_that_a_worker_sends(may_lose: bool) -> None:
    tally = Tally()
    follower = Follower("client 0 on room:0", tally)
    client = Client([], {"0": follower}, random.Random(1), lambda: may_lose)

    client.take({"channel": "room:0", "epoch": "a", "offset": 0, "recovered": True})
    client.take({"channel": "room:0", "epoch": "a", "offset": 1, "data": {"number": 1, "attempt": 1}})
    client.take({"channel": "room:0", "epoch": "b", "offset": 4, "recovered": False})
    client.take({"channel": "room:0", "epoch": "b", "offset": 5, "data": {"number": 3, "attempt": 1}})

    assert follower.position == Position("b", 5)
    assert (tally.delivered, tally.missed, tally.lost, tally.contradicted) == (2, 1, 0, 0)
    assert (tally.declared, tally.undue) == ((1, 0) if may_lose else (0, 1))


def test_a_client_resumes_from_what_it_has_received() -> None:
    follower = Follower("client 0 on room:0", Tally())
    client = Client([], {"0": follower}, random.Random(1), lambda: False)
    client.take({"channel": "room:0", "epoch": "a", "offset": 9, "data": {"number": 1, "attempt": 1}})
    assert follower.position == Position("a", 9)
