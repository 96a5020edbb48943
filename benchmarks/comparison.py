"""Several servers under one workload, in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .contestants import BASES, Contestant, Endpoint
from .figures import medians
from .running import Failed, measure
from .workloads import Workload

FIRST = "first"
"""What ratios to the server's own first endpoint are called."""


@dataclass
class Result:
    """What came out for one endpoint of one server."""

    contestant: Contestant
    endpoint: Endpoint
    runs: list[dict[str, float]] = field(default_factory=list)
    failure: str | None = None

    @property
    def label(self) -> str:
        """The server, and which of its endpoints where it has several."""
        how = self.endpoint.how
        return f"{self.contestant.label}, {how}" if how else self.contestant.label

    @property
    def figures(self) -> dict[str, float] | None:
        """The medians of all rounds, `None` if one of them failed."""
        return None if self.failure or not self.runs else medians(self.runs)


@dataclass
class Comparison:
    """A workload and its results."""

    workload: Workload
    results: list[Result]

    def bases(self, result: Result) -> dict[str, dict[str, float] | None]:
        """Return what the ratios of a result are to, by what their columns are called."""
        if self.workload.compares_endpoints:
            return {FIRST: next(each for each in self.results if each.contestant is result.contestant).figures}
        return {label: self._figures_of(name) for name, label in BASES.items()}

    def _figures_of(self, name: str) -> dict[str, float] | None:
        return next((result.figures for result in self.results if result.contestant.name == name), None)


def compare(
    workload: Workload,
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> Comparison:
    """Measure all of them in each round: A B C, A B C, …

    What other programs do on the machine then falls on all of them. A server that has failed once is left out of the
    rounds that follow.
    """
    results = [
        Result(contestant, endpoint)
        for contestant in contestants
        for endpoint in contestant.endpoints.get(workload.kind, ())
    ]
    for number in range(rounds):
        for result in results:
            if result.failure is None:
                progress(f"{workload.name}, round {number + 1} of {rounds}: {result.label}")
                _take(workload, result, seconds)
    return Comparison(workload, results)


def _take(workload: Workload, result: Result, seconds: float) -> None:
    try:
        result.runs.append(measure(workload, result.contestant, result.endpoint, seconds))
    except Failed as failure:
        result.failure = str(failure)
