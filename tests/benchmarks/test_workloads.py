"""What is measured: the tables of servers and workloads against the files that they name."""

import re
from pathlib import Path

import pytest

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.installation import PEERS, SOURCES, NodePackage, PythonPackage
from benchmarks.workloads import WORKLOADS, Workload

GENERATOR = (SOURCES / "wsload.c").read_text()
OPTIONS = set(re.findall(r'\{"([a-z-]+)", \w+_argument', GENERATOR))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_the_load_generator_prints_every_figure_that_is_shown(workload: Workload) -> None:
    shown = {column.figure for column in (*workload.columns, *workload.summary)}
    assert {figure for figure in shown if f"{figure}=%" not in GENERATOR} == set()


def test_the_load_generator_knows_every_option_that_it_is_given() -> None:
    endpoints = [endpoint for each in CONTESTANTS for kind in each.endpoints.values() for endpoint in kind]
    given = [argument for each in (*WORKLOADS, *endpoints) for argument in each.arguments]
    assert {argument[2:] for argument in given if argument.startswith("--")} - OPTIONS == set()


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
def test_a_peer_is_there_and_what_it_needs_is_among_what_is_installed(contestant: Contestant) -> None:
    files = [Path(part) for part in contestant.command if part.startswith(str(PEERS)) and part != str(PEERS)]
    modules = [PEERS / f"{part.partition(':')[0]}.py" for part in contestant.command if part.endswith("_app:app")]
    assert [file for file in (*files, *modules) if not file.exists()] == []
    if isinstance(contestant.package, PythonPackage):
        assert re.search(
            rf"^{re.escape(contestant.package.name)}(==|$)", (PEERS / "requirements.txt").read_text(), re.M
        )
    if isinstance(contestant.package, NodePackage):
        assert f'"{contestant.package.name}": "' in (PEERS / "package.json").read_text()
