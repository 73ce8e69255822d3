"""A whole comparison: every level as a row, and for each that a fault put in would turn it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from pygan.data import load
from pygan.errors import ConfigError
from pygan.parity.free_run import AGREE, DIFFERS, NOT_RUN
from pygan.parity.report import Report
from pygan.parity.run import ALL_LEVELS, checkpoints, compare_runs, same_run
from pygan.parity.sides import Live, Recorded
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.recording import record
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter

STEPS = 3
EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")
Change = Callable[[StepRecord], StepRecord]


def config(dtype: str = "float64", **changes: Any) -> FluxTutorialConfig:
    return FluxTutorialConfig(**{**NARROW, "threads": 1, "dtype": dtype, **changes})


def live(dtype: str = "float64", plant: Callable[[TorchStack], None] | None = None, **changes: Any) -> Live:
    """A live torch side, with a fault that outlives a fresh start."""

    class Planted(TorchStack):
        def initialise(self) -> None:
            super().initialise()
            if plant is not None:
                plant(self)

    return Live(Planted(config(dtype, **changes)), load("digits", limit=14))


def traced(folder: Path, dtype: str = "float64", words: Sequence[str] = EVERYTHING, **changes: Any) -> Trace:
    side = live(dtype, **changes)
    for _ in record(side.stack, side.dataset, STEPS, folder, picture_every=1, capture=lambda step: words):
        pass
    return Trace(folder)


def altered(trace: Trace, folder: Path, step: int, change: Change) -> Recorded:
    """The trace with one step's record changed."""
    with TraceWriter(folder, trace.header, initial=trace.initial_state()) as writer:
        for one in trace:
            writer.write(change(one) if one.step == step else one)
    return Recorded(Trace(folder))


def with_array(kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def changed(one: StepRecord) -> StepRecord:
        part = getattr(one, kind)
        return replace(one, **{kind: {**part, name: change(part[name])}})

    return changed


def verdicts(report: Report) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for row in report.rows:
        found.setdefault(row.level, set()).add(row.verdict)
    return found


def levels_that_differ(report: Report) -> set[int]:
    return {level for level, words in verdicts(report).items() if DIFFERS in words}


# --- agreement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_stack_agrees_with_itself_at_every_level(dtype: str) -> None:
    watched: list[tuple[str, int, int]] = []
    report = compare_runs(live(dtype), live(dtype), STEPS, watch=lambda *told: watched.append(told))
    assert report.verdict == AGREE
    assert list(verdicts(report)) == list(ALL_LEVELS)
    assert report.minimum == 0
    assert report.diagnosis is None
    unsaid = {row.claim for row in report.rows if row.verdict == NOT_RUN}
    assert not unsaid - {"tensors over steps", "pictures of both free runs"}, "only free Float32 runs have no band"
    assert [told for told in watched if told[1] == told[2]] == [
        ("from the same states", STEPS, STEPS),
        ("on their own ways", STEPS, STEPS),
    ]
    assert report.seconds.keys() == {"lead", "follow", "judge", "steps", "plain lead", "plain follow"}
    assert min(report.seconds.values()) > 0
    assert report.environment["candidate"]["threads"] == 1
    json.dumps(report.to_dict(), allow_nan=False)


def test_only_the_levels_asked_for_have_rows() -> None:
    for levels in ([1], [4, 6], [8], [2, 10]):
        assert sorted(verdicts(compare_runs(live(), live(), 2, levels))) == levels


def test_a_level_that_cannot_be_shown_is_a_row_that_says_so(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", words=("state", "gradients"))
    report = compare_runs(live(), Recorded(trace), STEPS)
    assert sorted(verdicts(report)) == list(ALL_LEVELS)
    assert verdicts(report)[3] == {NOT_RUN}
    assert all(row.reason for row in report.rows if row.verdict == NOT_RUN)


def test_a_recording_without_states_is_compared_as_a_free_run_and_the_rest_says_not_run(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", "float32", words=("sketches",))
    report = compare_runs(live("float32"), Recorded(trace), STEPS)
    found = verdicts(report)
    assert found[7] == {NOT_RUN}
    assert report.curves["loss/generator"]["steps"] == [0, 1, 2]
    assert any(key.startswith("state/parameter/") for key in report.curves)


def test_a_recording_of_fewer_steps_sets_how_many_are_compared(tmp_path: Path) -> None:
    report = compare_runs(live(), Recorded(traced(tmp_path / "t")), 50, levels=[7, 8])
    assert report.seconds["steps"] == STEPS
    assert report.verdict == AGREE


def test_checkpoints_are_dense_at_first_and_hold_the_last_step() -> None:
    assert checkpoints(1) == [0]
    assert checkpoints(3) == [0, 1, 2]
    assert checkpoints(469) == [0, 1, 2, 5, 10, 20, 40, 80, 160, 320, 468]


def test_runs_of_another_config_are_refused_by_field(tmp_path: Path) -> None:
    for changes, words in (
        ({"seed": 1}, "seed = 0 against 1"),
        ({"batch": 4}, "batch = 8 against 4"),
        ({"dropout": 0.2}, "dropout = 0.3 against 0.2"),
        ({"dtype": "float32"}, "dtype = 'float64' against 'float32'"),
    ):
        with pytest.raises(ConfigError, match=f"not of one config: {words}"):
            compare_runs(live(), live(**changes), 1)
    same_run(live(), live(threads=2, epochs=1, picture_every=7))
    with pytest.raises(ConfigError, match="seed = 0 against 3"):
        same_run(live(), Recorded(traced(tmp_path / "t", seed=3)))


# --- faults, level by level --------------------------------------------------------------------------------------


def half_momentum(stack: TorchStack) -> None:
    stack.networks["generator"].norm1.momentum /= 2


def double_rate(stack: TorchStack) -> None:
    stack.optimisers["discriminator"].param_groups[0]["lr"] *= 2


def eval_dropout(stack: TorchStack) -> None:
    drop = stack.networks["discriminator"].drop2
    drop.train = lambda mode=True: nn.Module.train(drop, False)


def softer_slope(stack: TorchStack) -> None:
    stack.networks["discriminator"].leaky1.negative_slope *= 1 + 1e-8


def frozen_generator(stack: TorchStack) -> None:
    stack.optimisers["generator"].step = lambda: None


def other_pictures(stack: TorchStack) -> None:
    plain = stack.generate
    stack.generate = lambda latent: plain(latent) * (1 + 1e-9)


PLANTED = [
    (eval_dropout, {1, 3}),
    (softer_slope, {3, 4, 5, 7}),
    (half_momentum, {6, 7, 8, 9}),
    (double_rate, {6, 7, 8}),
    (frozen_generator, {6, 7, 8, 10}),
    (other_pictures, {9}),
]


@pytest.mark.parametrize(("plant", "levels"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_turns_the_levels_that_it_touches(plant: Any, levels: set[int]) -> None:
    report = compare_runs(live(plant=plant), live(), STEPS)
    assert report.verdict == DIFFERS
    assert levels_that_differ(report) >= levels
    assert report.minimum is not None
    assert (report.diagnosis is None) == (plant is other_pictures)


def test_native_weights_of_another_law_turn_level_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare_runs(live(), live(), 1, levels=[2]).verdict == AGREE
    laws = {**FluxTutorialConfig().initial_laws(), "generator.conv1.weight": ("normal", 0.0, 0.05)}
    monkeypatch.setattr(FluxTutorialConfig, "initial_laws", lambda config: laws)
    assert compare_runs(live(), live(), 1, levels=[2]).verdict == DIFFERS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("wrong", ["candidate", "reference"])
def test_a_wrong_learning_rate_is_seen_whichever_side_has_it(wrong: str, dtype: str) -> None:
    sides = {"candidate": live(dtype), "reference": live(dtype), wrong: live(dtype, double_rate)}
    report = compare_runs(sides["candidate"], sides["reference"], 2, levels=[6, 7])
    assert levels_that_differ(report) == {6, 7}
    assert report.diagnosis is not None
    assert report.diagnosis.key.startswith("state/parameter/discriminator.")


# --- two recordings ----------------------------------------------------------------------------------------------


def test_a_trace_agrees_with_itself_without_any_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Recorded(traced(tmp_path / "t"))
    monkeypatch.setattr(TorchStack, "__init__", None)
    report = compare_runs(one, one, STEPS)
    assert (report.verdict, report.minimum) == (AGREE, 0)
    assert {4, 5, 6, 8, 9} <= verdicts(report).keys()


KERNEL = "generator.conv2.weight"
ALTERED = [
    ("gradient", KERNEL, 0, 5),
    ("logits", "real", 0, 4),
    ("state", f"parameter/{KERNEL}", 0, 6),
    ("state", f"parameter/{KERNEL}", 2, 8),
    ("gradient", KERNEL, 2, 5),
    ("pictures", "values", 1, 9),
]


@pytest.mark.parametrize(("kind", "name", "step", "level"), ALTERED)
def test_one_altered_tensor_of_a_trace_differs(kind: str, name: str, step: int, level: int, tmp_path: Path) -> None:
    trace = traced(tmp_path / "t")
    wrong = altered(trace, tmp_path / "a", step, with_array(kind, name, lambda value: value * (1 + 1e-6)))
    report = compare_runs(Recorded(trace), wrong, STEPS)
    assert report.verdict == DIFFERS
    assert level in levels_that_differ(report)
    (row, *_) = [row for row in report.rows if row.level == level and row.verdict == DIFFERS]
    assert f"step {step}" in row.where


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "change", [lambda value: value * np.nan, lambda value: value[:-1]], ids=["not finite", "another shape"]
)
def test_a_fault_in_a_free_run_differs_whatever_bands_there_are(change: Any, dtype: str, tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", dtype)
    wrong = altered(trace, tmp_path / "a", 1, with_array("state", f"parameter/{KERNEL}", change))
    report = compare_runs(Recorded(trace), wrong, STEPS)
    assert 8 in levels_that_differ(report)
    assert any(f"parameter/{KERNEL} @ step 1" in row.where for row in report.rows if row.level == 8)


def test_two_recordings_without_a_common_step_are_refused(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t")
    for name, kept in (("a", [0]), ("b", [1, 2])):
        with TraceWriter(tmp_path / name, trace.header, initial=trace.initial_state()) as writer:
            for step in kept:
                writer.write(trace.record(step))
    with pytest.raises(ConfigError, match="no step in common"):
        compare_runs(Recorded(Trace(tmp_path / "a")), Recorded(Trace(tmp_path / "b")), 3)


def test_two_recordings_of_other_images_are_refused(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t")
    header = replace(trace.header, data={**trace.header.data, "sha256": "0" * 64})
    with TraceWriter(tmp_path / "a", header, initial=trace.initial_state()) as writer:
        for one in trace:
            writer.write(one)
    with pytest.raises(ConfigError, match="other images"):
        compare_runs(Recorded(trace), Recorded(Trace(tmp_path / "a")), 3)


# --- a live side against a recording -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        ("activation", "generator/generator.conv1", "activation/generator/generator.conv1"),
        ("loss", "generator", "loss/generator"),
        ("gradient", KERNEL, f"gradient/{KERNEL}"),
        ("state", "buffer/generator.norm2.running_var", "state/buffer/generator.norm2.running_var"),
        ("state", f"exp_avg_sq/{KERNEL}", f"state/exp_avg_sq/{KERNEL}"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_one_altered_tensor_of_the_recording_is_the_culprit(
    step: int, kind: str, name: str, key: str, tmp_path: Path
) -> None:
    trace = traced(tmp_path / "t")
    wrong = altered(trace, tmp_path / "a", step, with_array(kind, name, lambda value: value * (1 + 1e-6)))
    report = compare_runs(live(), wrong, STEPS, levels=range(3, 8))
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None
    assert (report.diagnosis.step, report.diagnosis.key) == (step, key)
    assert report.diagnosis.difference.relative == pytest.approx(1e-6, rel=1e-3)
