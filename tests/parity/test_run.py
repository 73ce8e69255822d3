"""A whole comparison: every level as a row, and for each that a fault put in would turn it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lowered import layer_of
from parity_runs import (
    KERNEL,
    KERNEL_GRADIENT,
    a_little,
    altered,
    levels_that_differ,
    live,
    rows_of,
    traced,
    verdicts,
)
from torch import nn

from pygan.errors import ConfigError
from pygan.parity.run import ALL_LEVELS, checkpoints, compare_runs, same_run
from pygan.parity.sides import Recorded
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.torch_stack import TorchStack

STEPS = 2


# --- agreement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_stack_agrees_with_itself_at_every_level(dtype: str) -> None:
    watched: list[tuple[str, int, int]] = []
    report = compare_runs(live(dtype), live(dtype), STEPS, watch=lambda *told: watched.append(told))
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
    assert list(verdicts(report)) == list(ALL_LEVELS)
    assert report.diagnosis is None
    unsaid = {row.claim for row in report.rows if row.verdict == NOT_RUN}
    assert unsaid == ({"tensors over steps", "pictures of both free runs"} if dtype == "float32" else set())
    assert report.minimum == 0
    assert [told for told in watched if told[1] == told[2]] == [
        ("from the same states", STEPS, STEPS),
        ("on their own ways", STEPS, STEPS),
    ]
    assert report.seconds.keys() == {"lead", "follow", "judge", "steps", "plain lead", "plain follow"}
    assert min(report.seconds.values()) > 0
    assert report.environment["candidate"]["threads"] == 1
    learned = rows_of(report, 10)
    assert [row.reason for row in learned] == ["discriminator trained; generator trained"] * 2
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_float32_comparison_says_whose_operations_were_fed_and_that_float64_is_right() -> None:
    report = compare_runs(live("float32"), live("float32"), 1, range(3, 8))
    claims = {row.claim: row for row in report.rows}
    for claim in (
        "outputs of every layer, torch, fed the referee's values",
        "gradients of every parameter, torch, fed the referee's values",
        "gradients with respect to every layer's output, torch, fed the referee's values",
        "moments, parameters and beta powers, torch, from its own gradients",
        "gradients of the update discriminator",
        "gradients of the update generator",
        "BatchNorm running statistics",
        "correctness: the Float64 step from the same state",
    ):
        assert claims[claim].verdict == AGREE, claim
    correct = claims["correctness: the Float64 step from the same state"]
    assert correct.level == 7
    assert correct.minimum == 0
    assert report.minimum == 0, "between the two runs, not to the referee"
    rounded = claims["gradients of the update generator"]
    assert 1e-9 < rounded.measured < rounded.allowed < 1e-2  # type: ignore[operator]


def test_only_the_levels_asked_for_have_rows() -> None:
    for levels in ([1], [4, 6], [8], [2, 10]):
        assert sorted(verdicts(compare_runs(live(), live(), 1, levels))) == levels


def test_a_level_that_cannot_be_shown_is_a_row_that_says_so(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", STEPS, words=("state", "gradients"))
    report = compare_runs(live(), Recorded(trace))
    assert sorted(verdicts(report)) == list(ALL_LEVELS)
    assert verdicts(report)[3] == {NOT_RUN}
    assert all(row.reason for row in report.rows if row.verdict == NOT_RUN)


def test_a_recording_of_sketches_is_judged_at_its_first_step_and_then_run_freely(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", 3, words=("sketches",))
    report = compare_runs(live(), Recorded(trace))
    assert report.verdict == AGREE
    assert rows_of(report, 7)[0].where.endswith("@ step 0")
    assert report.curves["loss/generator"]["steps"] == [0, 1, 2]
    assert any(key.startswith("state/parameter/") for key in report.curves)


def test_a_recording_of_fewer_steps_sets_how_many_are_compared(tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", 3))
    assert compare_runs(live(), trace, 50, levels=[4]).seconds["steps"] == 3
    assert compare_runs(live(), trace, levels=[4]).seconds["steps"] == 3
    assert compare_runs(live(), trace, 2, levels=[4]).seconds["steps"] == 2


def test_two_live_sides_take_eight_steps_unless_told() -> None:
    assert compare_runs(live(), live(), levels=[6]).seconds["steps"] == 8


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
        same_run(live(), Recorded(traced(tmp_path / "t", 1, seed=3)))


def test_runs_on_other_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="14 of digits against 22 of digits"):
        compare_runs(live(), live(images=22), 1)


# --- the verdict as a whole --------------------------------------------------------------------------------------


def test_a_float32_recording_without_a_twin_proves_nothing_and_says_how_to_record_one(tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", STEPS, dtype="float32"))
    report = compare_runs(live("float32"), trace)
    assert DIFFERS not in {row.verdict for row in report.rows}
    assert report.verdict == NOT_RUN
    (row,) = [row for row in report.rows if row.claim.startswith("correctness")]
    assert row.verdict == NOT_RUN
    assert "pygan record --twin" in row.reason


@pytest.mark.parametrize("roles", ["candidate", "reference"])
def test_where_the_twin_differs_the_run_differs_and_rounding_is_not_run(roles: str, tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", 1, dtype="float32", twin=("logits", "gradients", "state", "layers")))
    sides = [live("float32", double_rate), trace]
    report = compare_runs(*(sides if roles == "candidate" else sides[::-1]), None, range(3, 8))
    assert report.verdict == DIFFERS
    assert levels_that_differ(report) == {7}
    assert report.diagnosis is not None
    assert report.diagnosis.key.startswith("state/parameter/discriminator.")


# --- faults, level by level --------------------------------------------------------------------------------------


def half_momentum(stack: TorchStack) -> None:
    layer_of(stack, "generator.norm1").momentum /= 2  # type: ignore[operator, assignment]


def double_rate(stack: TorchStack) -> None:
    stack.optimisers["discriminator"].param_groups[0]["lr"] *= 2


def eval_dropout(stack: TorchStack) -> None:
    drop = layer_of(stack, "discriminator.drop2")
    drop.train = lambda mode=True: nn.Module.train(drop, False)  # type: ignore[method-assign]


def softer_slope(stack: TorchStack) -> None:
    layer_of(stack, "discriminator.leaky1").negative_slope *= 1 + 1e-8  # type: ignore[operator, assignment]


def frozen_generator(stack: TorchStack) -> None:
    stack.optimisers["generator"].step = lambda: None


def other_pictures(stack: TorchStack) -> None:
    plain = stack.generate
    stack.generate = lambda latent: plain(latent) * (1 + 1e-9)  # type: ignore[method-assign]


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
    assert report.diagnosis is not None


def test_native_weights_of_another_law_turn_level_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare_runs(live(), live(), 1, levels=[2]).verdict == AGREE
    laws = {**FluxTutorialConfig().initial_laws(), "generator.conv1.weight": ("normal", 0.0, 0.05)}
    monkeypatch.setattr(FluxTutorialConfig, "initial_laws", lambda config: laws)
    assert compare_runs(live(), live(), 1, levels=[2]).verdict == DIFFERS


@pytest.mark.parametrize("wrong", ["candidate", "reference"])
def test_a_wrong_learning_rate_is_seen_whichever_side_has_it(wrong: str) -> None:
    sides = {"candidate": live(), "reference": live(), wrong: live(plant=double_rate)}
    report = compare_runs(sides["candidate"], sides["reference"], STEPS, levels=[6, 7])
    assert levels_that_differ(report) == {6, 7}
    assert report.diagnosis is not None
    assert report.diagnosis.key.startswith("state/parameter/discriminator.")


# --- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_degenerate_config_is_no_difference_between_two_runs(dtype: str) -> None:
    """Of one channel and one latent number: whatever the networks learn, both do."""
    sides = [live(dtype, width=1, latent_dim=1) for _ in range(2)]
    report = compare_runs(*sides, STEPS, [7, 10])
    assert report.verdict == AGREE
    assert verdicts(report)[10] == {AGREE}


def test_what_both_runs_fail_to_learn_is_told_and_what_one_does_differs() -> None:
    both = compare_runs(live(plant=frozen_generator), live(plant=frozen_generator), STEPS, [10])
    assert verdicts(both)[10] == {AGREE}
    assert all("neither run learns: generator never updated" in row.reason for row in rows_of(both, 10))
    one = compare_runs(live(plant=frozen_generator), live(), STEPS, [10])
    assert [row.verdict for row in rows_of(one, 10)] == [DIFFERS, AGREE]


# --- a live side against a recording -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return traced(tmp_path_factory.mktemp("whole") / "t", STEPS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("activation", "generator/generator.conv1"),
        ("loss", "generator"),
        ("gradient", KERNEL_GRADIENT),
        ("state", "buffer/generator.norm2.running_var"),
        ("buffer", "generator/generator.norm2.running_var"),
        ("state", f"exp_avg_sq/{KERNEL}"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_one_altered_tensor_of_the_recording_is_the_culprit(
    step: int, kind: str, name: str, whole: Any, tmp_path: Path
) -> None:
    wrong = Recorded(altered(whole, tmp_path / "a", step, kind, name, a_little))
    report = compare_runs(live(), wrong, levels=range(3, 8))
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None
    assert (report.diagnosis.step, report.diagnosis.key) == (step, f"{kind}/{name}")
    assert report.diagnosis.difference.relative == pytest.approx(1e-6, rel=1e-3)
