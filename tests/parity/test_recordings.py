"""Two recordings without any live stack: their starts and first steps are judged, their later steps shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_runs import (
    EVERYTHING,
    KERNEL,
    KERNEL_GRADIENT,
    a_little,
    altered,
    levels_that_differ,
    rewritten,
    rows_of,
    traced,
    verdicts,
)

from pygan.data import load
from pygan.errors import ConfigError
from pygan.parity.run import ALL_LEVELS, compare_runs
from pygan.parity.sides import Recorded
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return traced(tmp_path_factory.mktemp("whole") / "t", 2)


@pytest.fixture(scope="module")
def narrow_one(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """In Float32, with twins."""
    return traced(tmp_path_factory.mktemp("narrow") / "t", 2, dtype="float32", twin=EVERYTHING)


def test_a_trace_agrees_with_itself_without_any_stack(
    whole: Trace, narrow_one: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchStack, "__init__", None)
    for trace in (whole, narrow_one):
        report = compare_runs(Recorded(trace), Recorded(trace))
        assert report.verdict == AGREE
        assert list(verdicts(report)) == list(ALL_LEVELS)
        assert all(row.reason for row in report.rows if row.verdict == NOT_RUN)
        assert verdicts(report)[8] == {NOT_RUN}, "later steps of two recordings are shown"
        assert report.curves[f"state/parameter/{KERNEL}"]["steps"] == [0, 1]
    assert report.candidate == "recorded torch (t)"


def test_float64_recordings_are_judged_at_the_first_step_level_by_level(whole: Trace) -> None:
    report = compare_runs(Recorded(whole), Recorded(whole))
    assert {level for level, words in verdicts(report).items() if AGREE in words} == {1, 2, 3, 4, 5, 6}
    assert {row.where.rpartition(" ")[2] for row in report.rows if row.where} == {"0"}


def test_with_the_images_at_hand_free_runs_and_rounding_are_judged(
    whole: Trace, narrow_one: Trace, tmp_path: Path
) -> None:
    data = load("digits", limit=whole.header.data["images"])
    report = compare_runs(Recorded(whole), Recorded(whole), dataset=data)
    assert report.verdict == AGREE
    assert AGREE in verdicts(report)[8]
    wrong = altered(whole, tmp_path / "wrong", 1, "state", f"parameter/{KERNEL}", a_little)
    report = compare_runs(Recorded(wrong), Recorded(whole), dataset=data)
    assert report.verdict == DIFFERS
    (row,) = rows_of(report, 8)
    assert row.where == f"state/parameter/{KERNEL} @ step 1"
    report = compare_runs(Recorded(narrow_one), Recorded(narrow_one), dataset=data)
    assert report.verdict == AGREE
    assert {level for level, words in verdicts(report).items() if AGREE in words} >= {4, 5, 6, 7}
    off = altered(narrow_one, tmp_path / "off", 0, "gradient", KERNEL_GRADIENT, lambda value: value * (1 + 1e-3))
    assert compare_runs(Recorded(off), Recorded(narrow_one), dataset=data).verdict == DIFFERS


def test_float32_recordings_are_judged_by_their_twins(narrow_one: Trace) -> None:
    report = compare_runs(Recorded(narrow_one), Recorded(narrow_one))
    (row,) = rows_of(report, 7)
    assert (row.claim, row.verdict) == ("correctness: the Float64 step from the same state", AGREE)
    assert row.compared > 100
    for level in (3, 4, 5, 6):
        assert verdicts(report)[level] == {NOT_RUN}, "rounding has no referee without a live torch side"


def test_float32_recordings_without_twins_prove_nothing(narrow_one: Trace, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a", narrow_one.header, initial=narrow_one.initial()) as writer:
        for one in narrow_one:
            writer.write(one)
    for sides in ((narrow_one, Trace(tmp_path / "a")), (Trace(tmp_path / "a"), narrow_one)):
        report = compare_runs(*(Recorded(trace) for trace in sides))
        assert report.verdict == NOT_RUN
        assert rows_of(report, 7)[0].reason.startswith("the recordings hold no common first step in Float64; ")


ALTERED = [
    ("activation", "fake/discriminator.conv2", 3),
    ("logits", "real", 4),
    ("gradient", KERNEL_GRADIENT, 5),
    ("state", f"parameter/{KERNEL}", 6),
    ("buffer", "generator/generator.norm1.running_mean", 6),
]


@pytest.mark.parametrize("side", ["candidate", "reference"])
@pytest.mark.parametrize(("kind", "name", "level"), ALTERED)
def test_one_altered_tensor_of_the_first_step_differs(
    kind: str, name: str, level: int, side: str, whole: Trace, tmp_path: Path
) -> None:
    wrong = Recorded(altered(whole, tmp_path / "a", 0, kind, name, a_little))
    sides = (wrong, Recorded(whole)) if side == "candidate" else (Recorded(whole), wrong)
    report = compare_runs(*sides)
    assert report.verdict == DIFFERS
    assert levels_that_differ(report) == {level}
    (row,) = [row for row in report.rows if row.verdict == DIFFERS]
    assert row.where == f"{kind}/{name} @ step 0"


def test_an_altered_twin_differs(narrow_one: Trace, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a", narrow_one.header, initial=narrow_one.initial()) as writer:
        for one in narrow_one:
            twin = narrow_one.twin(one.step)  # none beside the closing pictures
            if twin is not None:
                wrong = {**twin.gradient, KERNEL_GRADIENT: a_little(twin.gradient[KERNEL_GRADIENT])}
                twin = replace(twin, gradient=wrong)
            writer.write(one, twin)
    report = compare_runs(Recorded(narrow_one), Recorded(Trace(tmp_path / "a")))
    assert report.verdict == DIFFERS
    assert rows_of(report, 7)[0].where == f"gradient/{KERNEL_GRADIENT} @ step 0"


def test_later_steps_are_free_runs_that_are_shown(whole: Trace, tmp_path: Path) -> None:
    wrong = altered(whole, tmp_path / "a", 1, "state", f"parameter/{KERNEL}", a_little)
    report = compare_runs(Recorded(whole), Recorded(wrong))
    assert report.verdict == AGREE
    assert report.curves[f"state/parameter/{KERNEL}"]["relative"] == [0, pytest.approx(1e-6, rel=1e-3)]


@pytest.mark.parametrize("change", [lambda value: value * np.nan, lambda value: value[:-1]], ids=["nan", "shape"])
def test_a_fault_in_a_free_run_differs(change: Any, whole: Trace, tmp_path: Path) -> None:
    wrong = altered(whole, tmp_path / "a", 1, "state", f"parameter/{KERNEL}", change)
    report = compare_runs(Recorded(whole), Recorded(wrong))
    assert levels_that_differ(report) == {8}
    assert rows_of(report, 8)[0].where == f"state/parameter/{KERNEL} @ step 1"


def test_another_start_differs_and_is_the_diagnosis(whole: Trace, tmp_path: Path) -> None:
    initial = whole.initial()
    assert initial is not None
    state = {**initial.state, f"parameter/{KERNEL}": 2 * initial.state[f"parameter/{KERNEL}"]}
    with TraceWriter(tmp_path / "a", whole.header, initial=replace(initial, state=state)) as writer:
        for one in whole:
            writer.write(one)
    report = compare_runs(Recorded(Trace(tmp_path / "a")), Recorded(whole))
    assert levels_that_differ(report) == {2}
    assert report.diagnosis is not None
    assert (report.diagnosis.key, report.diagnosis.cause.name) == (
        f"initial/parameter/{KERNEL}",
        "initial weights scaled",
    )


def test_two_recordings_without_a_common_step_are_refused(whole: Trace, tmp_path: Path) -> None:
    for name, kept in (("a", 0), ("b", 1)):
        with TraceWriter(tmp_path / name, whole.header, initial=whole.initial()) as writer:
            writer.write(whole.record(kept))
    with pytest.raises(ConfigError, match="no step in common"):
        compare_runs(Recorded(Trace(tmp_path / "a")), Recorded(Trace(tmp_path / "b")), 3)


def test_recordings_that_have_only_a_later_step_in_common_are_not_judged_by_it(whole: Trace, tmp_path: Path) -> None:
    """It came from each run's own state."""
    with TraceWriter(tmp_path / "a", whole.header, initial=whole.initial()) as writer:
        writer.write(whole.record(1))
    report = compare_runs(Recorded(Trace(tmp_path / "a")), Recorded(whole))
    assert rows_of(report, 7)[0].reason.startswith("the recordings hold no common first step in Float64; ")


def test_two_recordings_of_other_images_are_refused(whole: Trace, tmp_path: Path) -> None:
    data = {**whole.header.data, "sha256": "0" * 64}
    other = rewritten(whole, tmp_path / "a", lambda one: one, data=data)
    with pytest.raises(ConfigError, match="other images"):
        compare_runs(Recorded(whole), Recorded(other), 3)
