"""The tables: which figures stand where, and what ratios are to."""

from benchmarks.comparison import Comparison, Result
from benchmarks.contestants import CONTESTANTS
from benchmarks.report import summary, workload_table
from benchmarks.workloads import WORKLOADS, Workload

FIGURES = {
    "deliveries_per_s": 1e6,
    "p99_us": 1_500,
    "server_cpu": 0.5,
    "load_cpu": 0.5,
    "bytes_per_delivery": 130,
}


def workload(name: str) -> Workload:
    return next(each for each in WORKLOADS if each.name == name)


def result(server: str, of: Workload, endpoint: int = 0, **figures: float) -> Result:
    contestant = next(each for each in CONTESTANTS if each.name == server)
    return Result(contestant, contestant.endpoints[of.kind][endpoint], [{**FIGURES, **figures}])


def cells(text: str, row: str) -> list[str]:
    """Return the cells of a row of aligned columns, after the name."""
    line = next(line for line in text.splitlines() if line.startswith(f"  {row}  "))
    return line.removeprefix(f"  {row}").split()


def markdown_cells(text: str, row: int) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[row].strip("|").split("|")]


def test_ratios_are_to_bun_and_to_the_tutorial() -> None:
    fanout = workload("fanout1")
    results = [
        result("bun", fanout, cpu_us_per_delivery=4),
        result("tutorial", fanout, cpu_us_per_delivery=8),
        result("hubbub", fanout, cpu_us_per_delivery=6),
    ]
    assert cells(workload_table(Comparison(fanout, results), 3), "Hubbub")[:3] == ["6.00", "1.50", "0.75"]


def test_there_are_no_ratios_to_what_was_not_measured() -> None:
    fanout = workload("fanout1")
    results = [
        result("tutorial", fanout, cpu_us_per_delivery=8),
        result("hubbub", fanout, cpu_us_per_delivery=6),
    ]
    comparison = Comparison(fanout, results)
    assert "Bun" not in workload_table(comparison, 3)
    assert "Bun" not in summary([comparison])
    assert cells(workload_table(comparison, 3), "Hubbub")[:2] == ["6.00", "0.75"]


def test_with_compression_a_ratio_is_to_the_same_server_without() -> None:
    deflate = workload("deflate")
    results = [
        result("tutorial", deflate, 0, cpu_us_per_delivery=10),
        result("tutorial", deflate, 1, cpu_us_per_delivery=20),
        result("hubbub", deflate, 0, cpu_us_per_delivery=5),
        result("hubbub", deflate, 1, cpu_us_per_delivery=6),
    ]
    comparison = Comparison(deflate, results)
    assert cells(workload_table(comparison, 3), "Hubbub, compressed")[:2] == ["6.00", "1.20"]
    assert markdown_cells(summary([comparison]), 2)[1:3] == [
        "10.00 as it is, 20.00 (× 2.00) compressed",
        "5.00 as it is, 6.00 (× 1.20) compressed",
    ]


def test_a_server_that_failed_is_named_with_the_reason_and_is_no_base() -> None:
    fanout = workload("fanout1")
    failed = result("bun", fanout, cpu_us_per_delivery=4)
    failed.failure = "it does not start: no such file"
    text = workload_table(Comparison(fanout, [failed, result("hubbub", fanout, cpu_us_per_delivery=6)]), 1)
    assert "  Bun: no figures, it does not start: no such file" in text
    assert "× Bun" not in text


def test_a_full_generator_is_called_full() -> None:
    fanout = workload("fanout64")
    results = [
        result("bun", fanout, cpu_us_per_delivery=1, load_cpu=0.99),
        result("hubbub", fanout, cpu_us_per_delivery=1, load_cpu=0.94),
    ]
    text = workload_table(Comparison(fanout, results), 1)
    assert cells(text, "Bun")[-2:] == ["99%", "full"]
    assert cells(text, "Hubbub")[-1] == "94%"


def test_the_table_of_all_has_a_column_for_each_server_and_the_ratios_of_hubbub() -> None:
    fanout, echo = workload("fanout16"), workload("echo")
    comparisons = [
        Comparison(fanout, [result("bun", fanout, deliveries_per_s=2e6), result("hubbub", fanout)]),
        Comparison(
            echo,
            [
                result("bun", echo, cpu_us_per_delivery=5),
                result("hubbub", echo, 0, cpu_us_per_delivery=15),
                result("hubbub", echo, 1, cpu_us_per_delivery=7.5),
            ],
        ),
    ]
    text = summary(comparisons)
    assert markdown_cells(text, 0) == ["work", "Bun", "Hubbub", "Hubbub × Bun"]
    assert markdown_cells(text, 2)[1:] == ["2.00", "1.00", "0.50"]
    assert markdown_cells(text, 3)[1:] == [
        "5.00",
        "15.00 in an endpoint, 7.50 detached",
        "3.00 in an endpoint, 1.50 detached",
    ]
