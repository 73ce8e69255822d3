"""Reports: read back, compared with an older one, shown as text, plots and a page, replayed by pytest-benchmark."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_samples import group, measured, quiet, report, samples
from PIL import Image

from pygan.benchmarking import plots, table
from pygan.benchmarking.clock import ReplayClock
from pygan.benchmarking.markdown import write_markdown
from pygan.benchmarking.report import KEY, read
from pygan.errors import DataError
from pygan.files import write_json


@pytest.fixture
def full() -> dict[str, Any]:
    """A report with everything in it that a page can show."""
    rows = {
        "torch_eager": measured("torch-eager", 0.25, seed=5),
        "flux": measured("flux", 0.75, seed=3),
        "flux_native": measured("flux-native", first_step=measured("flux").first_step.__class__("differs", "why not")),
    }
    first = group(quiet(**rows), not_run={"flux-tuned": "no Julia with Flux here"})
    parts = {**quiet(flux=measured("flux", 0.5, seed=4))}
    other = group(parts, "generate, batch 128")
    other["what"] = "generate"
    small = group(quiet(flux=measured("flux", 0.1, seed=6)), "step, batch 32")
    small["images"] = 32
    found = report(first, other, small)
    seconds = {"torch-eager-injected, alone": 0.1, "flux, alone": 0.3}
    found["floor"] = {
        "gflop": 46.7, "seconds": 0.1, "gflop_per_second": 470.0, "flop_source": "sgemm of 1024 x 1024",
        "gb_per_second": 20.0, "bytes_source": "copy of 4 MiB",
    }  # fmt: skip
    from pygan.benchmarking.breakdown import GC, LINES, REST, UNUSED

    found["breakdown"] = [
        {"line": line, "gflop": 1.0, "floor": 0.01, "seconds": seconds} for line in (*LINES, UNUSED, GC, REST)
    ]
    found["layers"] = [
        {"layer": "generator.conv1", "pass": "input", "count": 1, "flop": 7e9, "floor": 0.01, "seconds": {"flux": 0.1}}
    ]
    found["thread_settings"] = [{"julia_threads": 2, "blas_threads": 1, "median": 0.7}]
    found["gains"] = [
        {"changes": [], "verdict": "agree", "reason": "", "median": 0.7, "gc_seconds": 0.1},
        {"changes": ["gc"], "verdict": "differs", "reason": "a loss is off"},
    ]
    return found


def test_a_report_is_read_plain_and_from_a_json_of_pytest_benchmark(tmp_path: Path, full: dict[str, Any]) -> None:
    write_json(tmp_path / "plain.json", full)
    write_json(tmp_path / "theirs.json", {"benchmarks": [], KEY: full})
    assert read(tmp_path / "plain.json") == read(tmp_path / "theirs.json") == full


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "groups": [{}]}', "\x00"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match=r"report.json"):
        read(tmp_path / "report.json")


def test_a_report_with_a_time_but_no_verdict_is_refused(tmp_path: Path, full: dict[str, Any]) -> None:
    full["groups"][0]["rows"][0]["verdict"] = "not run"
    write_json(tmp_path / "report.json", full)
    with pytest.raises(DataError, match="torch-eager-injected of step, batch 128 has times without a verdict"):
        read(tmp_path / "report.json")
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize("times", [[], [0.0], [-1.0], [float("nan")], [float("inf")], ["1"], None, 3])
def test_a_report_whose_times_are_none_is_refused(tmp_path: Path, full: dict[str, Any], times: Any) -> None:
    full["groups"][0]["rows"][0]["per_step"] = times
    (tmp_path / "report.json").write_text(json.dumps(full))
    with pytest.raises(DataError, match=r"report.json"):
        read(tmp_path / "report.json")


@pytest.mark.parametrize("key", ["noisy", "refused", "not_run", "config", "precision"])
def test_a_report_whose_group_lacks_something_is_refused(tmp_path: Path, full: dict[str, Any], key: str) -> None:
    del full["groups"][0][key]
    write_json(tmp_path / "report.json", full)
    with pytest.raises(DataError, match=key):
        read(tmp_path / "report.json")


def test_text_shows_times_ratios_control_and_reasons(full: dict[str, Any]) -> None:
    text = "\n".join(table.lines(full))
    for words in (
        f"flux takes {table.interval(full['groups'][0]['ratios'][0])}", "times as long as itself", "1 x 2", "40%",
        "flux-tuned: not run: no Julia", "no time, verdict differs: why not", "46.7 GFLOP",
    ):  # fmt: skip
        assert words in text, words
    full["groups"][0]["noisy"] = True
    assert "step, batch 128  [NOISY]" in "\n".join(table.lines(full))


def test_plots_and_page_are_made_of_what_there_is(tmp_path: Path, full: dict[str, Any]) -> None:
    written = write_markdown(tmp_path / "benchmarks.md", full)
    assert [path.name for path in written] == [
        "benchmarks.md",
        "ratios.png",
        "floor.png",
        "operations.png",
        "series.png",
    ]
    for path in written[1:]:
        picture = np.asarray(Image.open(path).convert("L"))
        assert picture.shape[1] > 900
        assert picture.std() > 10, f"{path.name} is empty"
    page = written[0].read_text(encoding="utf-8")
    for words in (
        "](benchmarks/ratios.png)",
        f"**{table.interval(full['groups'][0]['ratios'][0])}**",
        "what could",
        "A step needs 46.7 GFLOP",
        "refused",
    ):
        assert words.lower() in page.lower(), words
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert len(tables) > 25
    bare = report(group(quiet()))
    assert [path.name for path in write_markdown(tmp_path / "bare.md", bare)] == ["bare.md", "ratios.png"][
        : 1 + bool(bare["groups"][0]["ratios"])
    ]
    assert plots.write_plots(tmp_path, report()) == []


def test_the_clock_shows_each_sample_as_it_was_taken() -> None:
    clock = ReplayClock()
    assert clock.load([0.25, 0.75]) == 2
    spent = []
    for _ in range(2):
        start = clock()
        clock.replay()
        spent.append(clock() - start)
    assert spent == [0.25, 0.75]
    with pytest.raises(StopIteration):
        clock.replay()


def test_a_json_number_is_never_nan(full: dict[str, Any]) -> None:
    json.dumps(full, allow_nan=False)
    assert samples(0.1)
