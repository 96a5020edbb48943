"""What the fuzzing client has found: its JSON report as a table, and the cases that went wrong."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ACCEPTED = ("OK", "INFORMATIONAL")
_TOLERATED = (*_ACCEPTED, "NON-STRICT")
_COLUMNS = (*_TOLERATED, "UNIMPLEMENTED", "FAILED")


@dataclass(frozen=True, slots=True)
class Case:
    """How one test case went.

    Args:
        name: Its number, such as `9.1.1`.
        behavior: Autobahn's judgement of what was answered.
        behavior_close: Its judgement of how the connection was closed.
        duration_ms: Milliseconds that it took.
        file: Its own report, with the bytes that were exchanged.
    """

    name: str
    behavior: str
    behavior_close: str
    duration_ms: int
    file: Path

    @property
    def is_accepted(self) -> bool:
        """Whether there is nothing to say about it."""
        return self.behavior in _ACCEPTED and self.behavior_close in _ACCEPTED

    @property
    def has_failed(self) -> bool:
        """Whether the server broke the protocol, or cannot do what it was asked for."""
        return self.behavior not in _TOLERATED or self.behavior_close not in _TOLERATED


def read(reports: Path) -> list[Case]:
    """Return the cases of the directory's report, in their order."""
    (cases,) = json.loads((reports / "index.json").read_text()).values()
    return [
        Case(name, case["behavior"], case["behaviorClose"], case["duration"], reports / case["reportfile"])
        for name, case in sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split(".")])
    ]


def show(cases: Sequence[Case]) -> None:
    """Print how many cases went how, and each that is neither OK nor informational."""
    print(f"{'':14}" + "".join(f"{column:>15}" for column in _COLUMNS))
    _row("behavior", Counter(map(_column, (case.behavior for case in cases))))
    _row("behaviorClose", Counter(map(_column, (case.behavior_close for case in cases))))
    for case in cases:
        if not case.is_accepted:
            _explain(case)


def _column(judgement: str) -> str:
    """Return where a judgement counts: `UNCLEAN`, `WRONG CODE` and `FAILED BY CLIENT` are failures."""
    return judgement if judgement in _COLUMNS else "FAILED"


def _row(name: str, counts: Counter[str]) -> None:
    print(f"{name:14}" + "".join(f"{counts[column]:>15}" for column in _COLUMNS))


def _explain(case: Case) -> None:
    print(f"{case.name}: {case.behavior}, closed: {case.behavior_close}, {case.duration_ms} ms, {case.file}")
    if case.has_failed:
        details = json.loads(case.file.read_text())
        for key in ("description", "expectation", "result", "resultClose"):
            print(f"  {key}: {' '.join(str(details[key]).split())}")
