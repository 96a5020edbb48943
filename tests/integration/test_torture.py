"""Promises 4 and 5, while workers, Redis and the network fail: a short run of `python -m torture`."""

import pytest

from torture.plan import Kind, Plan
from torture.report import summary
from torture.run import torture

FAULTS = (
    Kind.KILL,
    Kind.DRAIN,
    Kind.RESTART,
    Kind.WIPE,
    Kind.ROLL_BACK,
    Kind.KILL_SUBSCRIPTIONS,
    Kind.CUT,
    Kind.DEAF,
    Kind.HANG_UP,
)
"""Without most of those that last: the long run has them all."""


@pytest.mark.timeout(240)
async def test_nothing_is_lost_without_a_word() -> None:
    plan = Plan(
        seed=5,
        publications=5_000,
        faults=len(FAULTS),
        kinds=FAULTS,
        clients=20,
        channels=4,
        rate=160,
        pause=2,
        history=2_000,
    )
    said: list[str] = []
    outcome = await torture(plan, said.append)
    assert outcome.is_good, "\n".join([*said, summary(outcome)])
    assert outcome.published >= plan.publications
    assert outcome.tally.delivered > outcome.published
    assert outcome.tally.declared > 0, "Redis has lost its data, and nobody was told"


@pytest.mark.timeout(120)
async def test_a_run_whose_history_is_too_short_is_noticed() -> None:
    """What the promise does not cover is found, so what it covers would be."""
    plan = Plan(
        seed=5, publications=500, faults=1, kinds=(Kind.HANG_UP,), clients=4, channels=2, rate=300, pause=1, history=1
    )
    outcome = await torture(plan, lambda text: None)
    assert outcome.tally.undue > 0
    assert not outcome.is_good
