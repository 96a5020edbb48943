"""Figures: what is read from the load generator, and what is made of it."""

import pytest

from benchmarks.figures import fault_in, medians, parse, ratio


def test_a_line_is_read_whole_with_whole_and_broken_numbers() -> None:
    assert parse("ready=500 dead=0 kb_per_connection=-1.250 p99_us=42 alive=500\n") == {
        "ready": 500,
        "dead": 0,
        "kb_per_connection": -1.25,
        "p99_us": 42,
        "alive": 500,
    }


@pytest.mark.parametrize("word", ["mode=echo", "rate=nan", "cpu=-inf", "version=1.2.3", "=5"])
def test_what_is_no_number_is_no_figure(word: str) -> None:
    assert parse(f"ready=1 {word} alive=1") == {"ready": 1, "alive": 1}


def test_a_run_that_kept_all_its_clients_has_no_fault() -> None:
    assert fault_in({"ready": 500, "dead": 0, "alive": 500}) is None


def test_a_run_that_has_lost_clients_has_a_fault_that_counts_them() -> None:
    assert fault_in({"ready": 1_499, "dead": 1, "alive": 1_499}) == (
        "1 of 1,500 connections were refused or lost at once"
    )
    assert fault_in({"ready": 1_500, "dead": 0, "alive": 1_497}) == "3 of 1,500 connections were lost under load"


def test_medians_are_taken_figure_by_figure() -> None:
    runs = [{"cpu": 3.0, "rate": 10.0}, {"cpu": 1.0, "rate": 30.0}, {"cpu": 2.0, "rate": 20.0, "late": 1.0}]
    assert medians(runs) == {"cpu": 2.0, "rate": 20.0}


def test_a_ratio_needs_a_base() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None
