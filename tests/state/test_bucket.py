"""A token bucket lets a burst through, then the rate, and nothing beyond."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.state.bucket import TokenBucket

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

RATES = st.floats(0.01, 1e6)
BURSTS = st.integers(1, 300)
GAPS = st.lists(st.floats(0, 1e4), max_size=200)


def takes(bucket: TokenBucket, times: int, now: float) -> int:
    """Return how many of so many attempts at one time succeed."""
    return sum(bucket.take(now) for _ in range(times))


@UNTIMED
@given(RATES, BURSTS)
def test_at_the_start_exactly_the_burst_goes_through(rate: float, burst: int) -> None:
    assert takes(TokenBucket(rate, burst, 5.0), burst + 10, 5.0) == burst


def test_the_rate_refills_it_up_to_the_burst() -> None:
    bucket = TokenBucket(10, 20, 0.0)
    assert takes(bucket, 100, 0.0) == 20
    assert takes(bucket, 100, 1.0) == 10
    assert takes(bucket, 100, 1.0) == 0
    assert takes(bucket, 100, 1000.0) == 20


def test_a_fraction_of_a_token_is_kept_for_later() -> None:
    bucket = TokenBucket(1, 1, 0.0)
    assert [bucket.take(now) for now in (0.0, 0.5, 1.0, 1.75, 2.0)] == [True, False, True, False, True]


def test_a_burst_of_less_than_one_token_lets_nothing_through() -> None:
    assert takes(TokenBucket(10, 0.5, 0.0), 3, 100.0) == 0


@UNTIMED
@given(RATES, BURSTS, GAPS)
def test_never_more_than_the_burst_and_what_the_time_earned(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert taken <= (burst + now * rate) * (1 + 1e-9)


@UNTIMED
@given(RATES, BURSTS, st.lists(st.floats(1.001, 100), max_size=200))
def test_who_keeps_to_the_rate_is_never_refused(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now = 0.0
    for gap in gaps:
        assert bucket.take(now)
        now += gap / rate


def test_a_grant_adds_what_the_pause_earned_beyond_the_burst() -> None:
    bucket = TokenBucket(10, 20, 0.0)
    bucket.grant(3.0, 3.0)
    assert takes(bucket, 100, 3.0) == 50


def test_a_pause_that_was_granted_is_not_earned_again() -> None:
    bucket = TokenBucket(10, 20, 0.0)
    takes(bucket, 20, 0.0)
    bucket.grant(3.0, 3.0)
    assert takes(bucket, 100, 3.0) == 30
    assert takes(bucket, 100, 4.0) == 10


@pytest.mark.parametrize(("later", "left"), [(0.0, 120), (5.0, 70), (10.0, 20), (1000.0, 20)])
def test_what_was_granted_beyond_the_burst_lapses_as_it_was_earned(later: float, left: int) -> None:
    bucket = TokenBucket(10, 20, 0.0)
    bucket.grant(10.0, 10.0)
    assert takes(bucket, 1000, 10.0 + later) == left


@pytest.mark.parametrize("seconds", [0.0, 1e-12])
def test_a_grant_of_nothing_gives_nothing(seconds: float) -> None:
    bucket = TokenBucket(10, 20, 0.0)
    takes(bucket, 20, 0.0)
    bucket.grant(seconds, seconds)
    assert not bucket.take(seconds)


@UNTIMED
@given(RATES, BURSTS, st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=100))
def test_grants_included_never_more_than_what_was_due(rate: float, burst: int, steps: list[tuple[bool, float]]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now, taken = 0.0, 0
    for is_pause, seconds in steps:
        now += seconds
        if is_pause:
            bucket.grant(seconds, now)
        taken += takes(bucket, 3, now)
        assert taken <= (burst + now * rate) * (1 + 1e-9)
