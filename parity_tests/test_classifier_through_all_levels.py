"""A recipe that is no GAN and lives outside the package goes through every level, unchanged code and all."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_classifier import TinyClassifierConfig

from pygan.data import load
from pygan.parity.report import Report
from pygan.parity.run import ALL_LEVELS, compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.recipes import config_from_dict
from pygan.stacks import Stack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

STEPS = 3
TRACE = Path(__file__).with_name("traces") / "flux-tiny-classifier"


def side(stack: Stack) -> Live:
    return Live(stack, load("digits", limit=2 * stack.config.batch - 2))


def assert_agrees(report: Report, also_not_run: tuple[str, ...] = ()) -> None:
    bad = [
        f"level {row.level}, {row.claim}: {row.where}; {row.reason}" for row in report.rows if row.verdict == DIFFERS
    ]
    assert not bad, "\n".join(bad)
    assert report.verdict == AGREE
    assert {row.level for row in report.rows} == set(ALL_LEVELS)
    unsaid = {row.claim for row in report.rows if row.verdict == NOT_RUN}
    assert unsaid == {"pictures from the same state", "pictures of both free runs", *also_not_run}, "it draws none"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch_agrees_with_itself_at_every_level(dtype: str) -> None:
    wanted = TinyClassifierConfig(dtype=dtype, threads=1)
    report = compare_runs(side(TorchStack(wanted)), side(TorchStack(wanted)), STEPS)
    assert_agrees(report, ("tensors over steps",) if dtype == "float32" else ())
    assert report.minimum == 0


def test_torch_agrees_with_recorded_flux() -> None:
    trace = Trace(TRACE)
    torch = TorchStack(config_from_dict(trace.header.config))
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    report = compare_runs(Live(torch, data), Recorded(trace), STEPS)
    assert_agrees(report, ("native initial weights, dropout and noise of recorded flux",))
    assert {row.level for row in report.rows if row.verdict == AGREE} == set(ALL_LEVELS) - {9}


class Misled(TorchStack):
    """The port with a BatchNorm that forgets half as fast."""

    def initialise(self) -> None:
        super().initialise()
        self.networks["classifier"].norm1.momentum /= 2


def test_a_wrong_classifier_is_told_where_it_is_wrong() -> None:
    trace = Trace(TRACE)
    wrong = Misled(config_from_dict(trace.header.config))
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    report = compare_runs(Live(wrong, data), Recorded(trace), STEPS)
    assert report.verdict == DIFFERS
    assert {6, 7, 8} <= {row.level for row in report.rows if row.verdict == DIFFERS}
    assert report.diagnosis is not None
    assert (report.diagnosis.step, report.diagnosis.key) == (0, "state/buffer/classifier.norm1.running_mean")


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch_agrees_with_live_flux_at_every_level(dtype: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = TinyClassifierConfig(dtype=dtype, threads=1)
    report = compare_runs(side(TorchStack(wanted)), side(live_flux(wanted)), STEPS)
    assert_agrees(report, ("tensors over steps",) if dtype == "float32" else ())
    assert report.diagnosis is None
