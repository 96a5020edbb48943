"""The plan of a torture run: its faults are the same for the same seed."""

import pytest

from torture.plan import NETWORK, ONE_WORKER, SECONDS, Kind, Plan


def test_the_faults_come_from_the_seed() -> None:
    assert Plan(seed=7).schedule() == Plan(seed=7).schedule()
    assert Plan(seed=7).schedule() != Plan(seed=8).schedule()


def test_every_kind_comes_before_one_comes_again() -> None:
    kinds = [fault.kind for fault in Plan(faults=2 * len(Kind)).schedule()]
    assert set(kinds[: len(Kind)]) == set(Kind) == set(kinds[len(Kind) :])


def test_a_fault_has_what_its_kind_needs() -> None:
    for fault in Plan(faults=100, workers=3).schedule():
        shortest, longest = SECONDS.get(fault.kind, (0, 0))
        assert shortest <= fault.seconds <= longest
        assert bool(fault.workers) == (fault.kind in NETWORK | ONE_WORKER)
        assert len(fault.workers) == 1 or fault.kind not in ONE_WORKER
        assert set(fault.workers) <= {0, 1, 2}


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"clients": 0}, {"channels": 0}, {"rate": 0}])
def test_a_plan_for_nobody_is_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        Plan(**wrong)  # type: ignore[arg-type]
