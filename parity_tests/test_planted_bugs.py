"""Planted bugs: every one is caught, none is called by a wrong name, and clean runs raise no alarm.

The Julia faults are replayed from traces of real Flux with a method redefined; the live versions draw place and
strength anew (seed in ``PLANTED_SEED``).
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from compared_runs import config, torch_like
from planted import clean_runs, julia_runs, score, torch_faults
from planted.fault import Fault
from planted.julia_faults import FAULTS as JULIA_FAULTS
from planted.julia_faults import JuliaFault

from pygan.parity.judge import judge_float32, judge_step
from pygan.parity.locate import FULL_CAPTURE, diagnose, mode_differences
from pygan.parity.sides import Live, Pair, Recorded, Together
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

SEEDS = (0, 1)
RECORDED = tuple(fault for fault in JULIA_FAULTS if fault.recorded)
LIVE_SEED = int(os.environ.get("PLANTED_SEED", "1"))
NAMED_RIGHT = {"torch": 0.81, "julia": 1.0}
"""Least share of all plantings that is called by its right name; the rest is called unknown."""


@cache
def torch_row(fault: Fault, seed: int) -> score.Row:
    return next(score.torch_rows([seed], [fault]))


@cache
def recorded_row(fault: JuliaFault) -> score.Row:
    return next(score.recorded_rows([fault]))


def judged(row: score.Row, first_step: int) -> None:
    """Caught at the first step that can show it, and not called by a wrong name."""
    assert row.verdict in (score.RIGHT, score.UNKNOWN), str(row)
    assert row.step == first_step, str(row)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", torch_faults.FAULTS, ids=str)
def test_torch_fault_is_caught(fault: Fault, seed: int) -> None:
    judged(torch_row(fault, seed), fault.first_step)


@pytest.mark.parametrize("fault", RECORDED, ids=str)
def test_recorded_julia_fault_is_caught(fault: JuliaFault) -> None:
    judged(recorded_row(fault), fault.first_step)


@pytest.mark.live
@pytest.mark.parametrize("fault", JULIA_FAULTS, ids=str)
def test_live_julia_fault_is_caught(fault: JuliaFault) -> None:
    judged(next(score.live_rows([LIVE_SEED], [fault])), fault.first_step)


def test_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [torch_row(fault, seed) for fault in torch_faults.FAULTS for seed in SEEDS]
    rows += [recorded_row(fault) for fault in RECORDED]
    with capsys.disabled():
        print(f"\n{score.summary(rows)}")
        print("\n".join(str(row) for row in rows if row.verdict != score.RIGHT))
    for side, share in NAMED_RIGHT.items():
        counts = score.totals(row for row in rows if row.side == side)
        assert counts[score.MISSED] == counts[score.WRONG] == 0
        assert counts[score.RIGHT] >= share * counts["planted"]


def test_there_are_enough_faults_and_no_two_alike() -> None:
    assert len(torch_faults.FAULTS) >= 25 and len(JULIA_FAULTS) >= 10
    for faults in (torch_faults.FAULTS, JULIA_FAULTS):
        assert len({fault.name for fault in faults}) == len(faults)


# --- clean runs ----------------------------------------------------------------------------------------------


def test_clean_torch_agrees_with_recorded_flux() -> None:
    trace = torch_faults.clean()
    mine = Live(torch_like(trace), torch_faults.data())
    assert diagnose(Together(mine, Recorded(trace)), trace.steps) is None


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_false_alarm_on_live_flux(dtype: str) -> None:
    alarms = [str(done) for done in clean_runs.flux_runs(range(20), dtype) if done.alarm]
    assert not alarms, "\n".join(alarms)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["one thread", "no SIMD beyond SSE"])
def test_no_false_alarm_at_full_width(variant: str) -> None:
    alarms = [str(done) for done in clean_runs.torch_runs([variant], steps=1) if done.alarm]
    assert not alarms, "\n".join(alarms)


# --- a comparison that cannot fail is none -------------------------------------------------------------------

KEYS = (
    "loss/discriminator",
    "logits/fake",
    "activation/generator/generator.conv2",
    "activation_gradient/real/discriminator.leaky1",
    "gradient/generator.conv1.weight",
    "state/parameter/generator.dense.weight",
    "state/exp_avg/discriminator.conv1.weight",
    "state/exp_avg_sq/discriminator.conv2.bias",
    "state/buffer/generator.norm2.running_var",
    "state/beta_power/generator",
    "state/step",
)


def changed(record: StepRecord, key: str, size: float) -> StepRecord:
    """``record`` with one element of the tensor ``kind/name`` changed by ``size`` of the tensor's norm."""
    kind, _, name = key.partition("/")
    parts = getattr(record, kind)
    value = np.array(parts[name])
    place = np.unravel_index(value.size // 2, value.shape)
    value[place] += size * np.linalg.norm(value) if value.dtype.kind == "f" else 1
    return replace(record, **{kind: {**parts, name: value}})


class Altered(Recorded):
    """A trace whose record of one step is altered on the way."""

    def __init__(self, trace: Trace, key: str, at: int) -> None:
        super().__init__(trace)
        self.key, self.at = key, at

    def step(self, number: int, *args: object, **how: object) -> StepRecord:
        record = super().step(number)
        return changed(record, self.key, 1e-9) if number == self.at else record


@pytest.mark.parametrize("candidate", [True, False], ids=["as candidate", "as reference"])
@pytest.mark.parametrize("key", KEYS)
def test_every_kind_of_tensor_is_compared_in_float64(key: str, candidate: bool) -> None:
    trace = torch_faults.clean()
    altered, torch = Altered(trace, key, at=1), Live(torch_like(trace), torch_faults.data())
    found = diagnose(Together(*((altered, torch) if candidate else (torch, altered))), trace.steps)
    assert found is not None and found.step == 1
    assert key in {one.key for one in found.outside}


@pytest.mark.parametrize("key", KEYS)
def test_every_kind_of_tensor_is_compared_in_float32(key: str) -> None:
    wanted = config("narrow")
    pair, truth = one_step(wanted), one_step(wanted.replace(dtype="float64")).reference
    assert all(one.ok for one in judge_float32(pair, truth))
    altered = replace(pair, candidate=changed(pair.candidate, key, 1e-3))
    assert [one.key for one in judge_float32(altered, truth) if not one.ok] == [key]


def one_step(wanted: object) -> Pair:
    """The first step of a torch stack, as candidate and as reference."""
    side = Live(TorchStack(wanted), torch_faults.data())  # type: ignore[arg-type]
    before = side.state_before(0)
    record = side.step(0, FULL_CAPTURE)
    return Pair(0, before, record, record, record.pattern)


def test_modes_and_patterns_are_compared() -> None:
    pair = one_step(torch_like(torch_faults.clean()).config)
    for key in pair.candidate.mode:
        flipped = replace(pair.candidate, mode={**pair.candidate.mode, key: ~pair.candidate.mode[key]})
        assert [one.key for one in mode_differences(replace(pair, candidate=flipped))] == [f"mode/{key}"]
    for key, pattern in pair.candidate.pattern.items():
        other = pattern.copy()
        other.reshape(-1)[0] ^= True
        flipped = replace(pair.candidate, pattern={**pair.candidate.pattern, key: other})
        outside = [one.key for one in judge_step(replace(pair, candidate=flipped), None) if not one.ok]
        assert outside == [f"pattern/{key}"]


def test_planted_traces_are_small() -> None:
    sizes = {folder.name: folder_bytes(folder) for folder in sorted(julia_runs.TRACES.glob("planted-*"))}
    assert set(sizes) == {julia_runs.folder_of(fault).name for fault in RECORDED}
    assert sum(sizes.values()) < 5.5e6 and folder_bytes(julia_runs.TRACES / "flux-tiny-layers") < 2e6


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
