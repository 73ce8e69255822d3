"""One test a row and group: it replays what the session measured. A row without an agreeing verdict shows no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pygan.benchmarking.clock import ReplayClock
from pygan.benchmarking.plan import FULL_BATCHES, LARGEST_BATCH, SERIES_ROWS, THREAD_ROWS, TORCH_ROWS
from pygan.benchmarking.rows import BF16_ROWS, CPU_ROWS, CUDA_ROWS, ROWS
from pygan.benchmarking.session import PHASE_ROWS, PHASES

PARTS = ("discriminator step", "generator step", *PHASES)


def case(group: str, row: str, *marks: Any) -> Any:
    clock = ReplayClock()
    marks = (*marks, pytest.mark.benchmark(group=group, timer=clock))
    return pytest.param(group, row, clock, marks=marks, id=f"{row}-{group}".replace(" ", "_"))


def cuda_group(row: str) -> str:
    """The group of a CUDA row: arithmetic of one class only."""
    precision = ROWS[row].precision
    return "cuda" if precision == "float32" else f"cuda, {precision}"


CASES = [
    *(case("step", row) for row in CPU_ROWS),
    *(case("bf16", row) for row in BF16_ROWS),
    *(case(cuda_group(row), row) for row in CUDA_ROWS),
    *(case(part, row) for part in PARTS for row in PHASE_ROWS),
    *(case(f"step, batch {images}", row, pytest.mark.full) for images in FULL_BATCHES for row in SERIES_ROWS),
    *(case(f"step, batch {LARGEST_BATCH}", row, pytest.mark.full) for row in TORCH_ROWS),
    *(case("AVX2 only", row, pytest.mark.full) for row in TORCH_ROWS),
    *(case("step, 1 cores", row, pytest.mark.full) for row in THREAD_ROWS),
]


def found_in(report: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """The group that a test means, whatever the recipe's batch is."""
    batch, cores = report["config"]["batch"], report["cores"]
    wanted = {"step": f"step, batch {batch}"}
    kinds = ("cuda", "cuda, tf32", "cuda, bf16", "bf16", "AVX2 only")
    wanted |= {kind: f"step, batch {batch}, {kind}" for kind in kinds}
    wanted |= {"step, 1 cores": f"step, batch {batch}, 1 cores"} | {part: f"{part}, batch {batch}" for part in PARTS}
    name = wanted.get(group, group)
    for one in report["groups"]:
        if one["group"] == name:
            return one
    if group == "step, 1 cores" and cores == 1:
        pytest.skip("this machine has one core; the group is the main one")
    reasons = [one["reason"] for one in report["not_run"] if one["group"] == name]
    pytest.skip(reasons[0] if reasons else f"no group {name!r} was measured" + ", stopped" * report["stopped"])


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("group", "row", "clock"), CASES)
def test_row(benchmark: Any, report: Mapping[str, Any], group: str, row: str, clock: ReplayClock) -> None:
    found = found_in(report, group)
    for one in found["not_run"]:
        if one["row"] == row:
            pytest.skip(one["reason"])
    for one in found["refused"]:
        if one["row"] == row:
            pytest.fail(f"{row} shows no time, verdict {one['verdict']}: {one['reason']}")
    entry = next(one for one in found["rows"] if one["row"] == row)
    benchmark.extra_info |= {key: entry[key] for key in ("verdict", "reason", "threads", "peak_bytes")}
    benchmark.extra_info |= {"noisy": found["noisy"], "warmup": entry["warmup"]}
    benchmark.pedantic(clock.replay, rounds=clock.load(entry["per_step"]))
    assert entry["verdict"] == "agree"
