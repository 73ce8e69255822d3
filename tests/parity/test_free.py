"""Free runs: over the whole recording, held in Float64 to how far the referee parts from itself; grids and batches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_runs import Plant, altered, config, levels_that_differ, live, rewritten, rows_of, traced

from pygan import schedule
from pygan.data import load
from pygan.parity.free import Held, Separation, free_rows, grid_row, horizon, nudged, picture_rows
from pygan.parity.run import compare_runs
from pygan.parity.sides import Recorded
from pygan.parity.tolerances import FREE_FACTOR, FREE_LEAST, FREE_MOST
from pygan.parity.verdicts import AGREE, BEYOND, DIFFERS, NOT_RUN
from pygan.pictures.grid import grid
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.training import picture_latent

STEPS = 11
"""More than the default of two live sides."""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A Float64 run of more than eight steps, with its pictures."""
    return Recorded(traced(tmp_path_factory.mktemp("long") / "t", STEPS, words=("state", "gradients"), every=5))


def at_step(number: int, plant: Plant) -> Plant:
    """``plant`` strikes when the run comes to step ``number``."""

    def late(stack: TorchStack) -> None:
        own = stack.step

        def step(*arguments: Any, **how: Any) -> StepRecord:
            if int(stack.state()["step"]) == number:
                plant(stack)
            return own(*arguments, **how)

        stack.step = step  # type: ignore[method-assign]

    return late


def double_rate(stack: TorchStack) -> None:
    stack.optimisers["generator"].param_groups[0]["lr"] *= 2


# --- the whole recording -----------------------------------------------------------------------------------------


def test_every_recorded_step_is_stepped_and_run(long: Recorded) -> None:
    watched: list[tuple[str, int, int]] = []
    report = compare_runs(live(), long, levels=[7, 8, 9], watch=lambda *told: watched.append(told))
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
    assert watched == [
        (what, done, STEPS) for what in ("from the same states", "on their own ways") for done in range(1, STEPS + 1)
    ]
    (row,) = rows_of(report, 8)
    assert row.reason.startswith(f"{STEPS} steps; 10 times the separation of 3 referee runs, or 1e-13")
    assert report.curves["state/parameter/generator.dense.weight"]["steps"] == list(range(STEPS))
    assert report.curves["pictures"]["steps"] == [0, 5, 10, STEPS], "the closing pictures too"
    assert sorted(report.curves["separation"]) == list(range(STEPS + 1))


def test_a_fault_of_the_last_step_is_seen(long: Recorded) -> None:
    report = compare_runs(live(plant=at_step(STEPS - 1, double_rate)), long, levels=[6, 7, 8])
    assert levels_that_differ(report) == {6, 7, 8}
    assert report.diagnosis is not None
    assert report.diagnosis.step == STEPS - 1
    assert f"@ step {STEPS - 1}" in rows_of(report, 8)[0].where


def test_what_a_loaded_state_mends_shows_in_the_free_run(long: Recorded) -> None:
    """Weights that start a ten-millionth off: every forced step agrees, the free run does not."""

    def plant(stack: TorchStack) -> None:
        stack.networks["generator"].conv1.weight.data.mul_(1 + 1e-7)

    report = compare_runs(live(plant=plant), long, levels=[7, 8, 9])
    assert levels_that_differ(report) == {8, 9}
    assert rows_of(report, 8)[0].where.endswith("@ step 0")
    assert "outside" in rows_of(report, 8)[0].reason


def test_pictures_of_a_free_run_are_held_to_the_same(long: Recorded, tmp_path: Path) -> None:
    wrong = Recorded(altered(long.trace, tmp_path / "a", 5, "pictures", "values", lambda value: value * (1 + 1e-9)))
    report = compare_runs(live(), wrong, levels=[8, 9])
    differing = [(row.claim, row.where) for row in report.rows if row.verdict == DIFFERS]
    assert differing == [
        ("pictures from the same state", "pictures/values @ step 5"),
        ("pictures of both free runs", "pictures @ step 5"),
    ]


def test_free_float32_runs_are_shown_and_not_judged(tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", 2, dtype="float32", words=("state",)))
    report = compare_runs(live("float32"), trace, levels=[8])
    (row,) = rows_of(report, 8)
    assert (row.verdict, row.reason.partition(";")[0]) == (NOT_RUN, "free Float32 runs part by rounding")
    assert row.reason.endswith("--dtype float64 judges them")
    assert report.curves["state/parameter/generator.dense.weight"]["steps"] == [0, 1]
    broken = altered(trace.trace, tmp_path / "a", 1, "state", "parameter/generator.dense.weight", lambda v: v * np.nan)
    (row,) = rows_of(compare_runs(live("float32"), Recorded(broken), levels=[8]), 8)
    assert row.verdict == DIFFERS
    assert "not finite" in row.reason


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "separation", "verdict"),
    [
        (0.9 * FREE_LEAST, 0.0, AGREE),
        (1.1 * FREE_LEAST, 0.0, DIFFERS),
        (1.1 * FREE_LEAST, FREE_LEAST, AGREE),
        (0.9 * FREE_FACTOR * 1e-12, 1e-12, AGREE),
        (1.1 * FREE_FACTOR * 1e-12, 1e-12, DIFFERS),
        (0.9 * FREE_MOST, FREE_MOST / FREE_FACTOR, AGREE),
        (0.0, 1.1 * FREE_MOST / FREE_FACTOR, BEYOND),
        (math.inf, 0.0, DIFFERS),
    ],
)
def test_a_free_run_is_held_to_ten_separations_at_least_1e_13_and_not_beyond_1e_8(
    value: float, separation: float, verdict: str
) -> None:
    held = Held()
    held.add("state/x", 7, value, separation)
    row = held.row(8, "tensors over steps", 8)
    assert row.verdict == verdict
    if verdict == BEYOND:
        assert row.reason == "the referee's own runs have parted by more than 1e-8"
        return
    assert (row.compared, row.where) == (1, "state/x @ step 7")
    assert row.allowed == pytest.approx(max(FREE_FACTOR * separation, FREE_LEAST))


def test_the_first_step_outside_is_told_and_what_is_beyond_the_horizon_is_said() -> None:
    held = Held()
    for step, value, separation in ((0, 0.0, 0.0), (3, 1e-9, 1e-13), (2, 1e-11, 1e-13), (9, 1.0, 1e-8), (8, 1.0, 1e-8)):
        held.add("state/x", step, value, separation)
    row = held.row(8, "x", 10)
    assert (row.verdict, row.where, row.compared) == (DIFFERS, "state/x @ step 2", 3)
    assert row.reason.startswith("2 of 3 outside; ")
    assert row.reason.endswith("tensors beyond the horizon from step 8 on are not judged")


def run(*values: float) -> list[StepRecord]:
    """A made-up run of one tensor; where the value is negative, of the batch only."""
    return [StepRecord(step, state={"parameter/x": np.array([1.0, value])}) for step, value in enumerate(values)]


def test_two_free_runs_are_compared_tensor_by_tensor_over_the_spread() -> None:
    spread = {step: {"state/parameter/x": 1e-12} for step in range(3)}
    rows, curves = free_rows(run(1, 1, 1 + 1e-12), run(1, 1, 1), spread)
    assert [row.verdict for row in rows] == [AGREE]
    assert curves["state/parameter/x"]["steps"] == [0, 1, 2]
    assert curves["state/parameter/x"]["relative"][2] == pytest.approx(1e-12 / math.sqrt(2), rel=1e-3)
    (row,), _ = free_rows(run(1, 1 + 1e-10, 1), run(1, 1, 1), spread)
    assert (row.verdict, row.where) == (DIFFERS, "state/parameter/x @ step 1")
    (row,), _ = free_rows(run(1, np.nan), run(1, 1), spread)
    assert (row.verdict, row.where) == (DIFFERS, "state/parameter/x @ step 1")
    (row,), curves = free_rows(run(), run(1), spread)
    assert (row.verdict, row.reason) == (NOT_RUN, "no step has states or sketches in both runs")
    (row,), _ = free_rows(run(1, 5), run(1, 1), None)
    assert row.verdict == NOT_RUN


# --- the referee's own separation --------------------------------------------------------------------------------


def test_a_nudge_is_one_unit_in_the_last_place_of_every_parameter_that_is_not_zero() -> None:
    state = live().stack.state()
    one, same, other = nudged(state, 0), nudged(state, 0), nudged(state, 1)
    for key, value in state.items():
        if not key.startswith("parameter/"):
            np.testing.assert_array_equal(one[key], value)
            continue
        gaps = np.abs(one[key] - value)
        unit = np.spacing(np.abs(value[value != 0]))
        assert ((gaps[value != 0] == unit) | (gaps[value != 0] == unit / 2)).all(), "half below a power of two"
        assert not gaps[value == 0].any()
        np.testing.assert_array_equal(one[key], same[key])
    key = "parameter/generator.dense.weight"
    up = (one[key] > state[key]).mean()
    assert 0.4 < up < 0.6
    assert not np.array_equal(one[key], other[key])


def test_the_referees_runs_part_slowly_and_their_separation_is_that_of_pairs() -> None:
    wanted, data = config(), load("digits", limit=14)
    separation = Separation(wanted, data, live().stack.state())
    for number in range(3):
        separation.step(number, ("state",), picture_latent(wanted, 0) if number != 1 else None)
    spread = separation.spread
    assert sorted(spread) == [0, 1, 2]
    key = "state/parameter/generator.dense.weight"
    assert all(1e-17 < spread[step][key] < 1e-12 for step in spread)
    assert "pictures/values" in spread[0]
    assert "pictures/values" not in spread[1]
    assert all(stack.levels is stack.generator is None for stack in separation._stacks)
    silent = Separation(wanted, data, live().stack.state())
    silent.step(0, (), None)
    assert {step: sorted(held) for step, held in silent.spread.items()} == {0: ["loss/discriminator", "loss/generator"]}
    assert silent.at_checkpoints == {}


def test_growth_that_doubles_is_told_from_growth_by_a_power() -> None:
    spread = {step: {"pictures/values": 1e-15 * (1 + 2 ** (step / 100))} for step in (0, 1, 2, 5, 10, 500, 1000, 1500)}
    found = horizon(spread)
    assert found["doubling"] == pytest.approx(100, rel=0.1)
    assert found["horizon"] == pytest.approx(100 * math.log2(FREE_MOST / FREE_FACTOR / 1e-15), rel=0.1)


def test_the_growth_of_the_separation_is_fitted_as_a_power() -> None:
    spread = {step: {"pictures/values": 1e-15 * step**2} for step in (0, 1, 2, 5, 10)}
    found = horizon(spread)
    assert found["power"] == pytest.approx(2)
    assert found["horizon"] == pytest.approx(math.sqrt(FREE_MOST / FREE_FACTOR / 1e-15))
    assert horizon({0: {"pictures/values": 1.0}}) == {}
    flat = horizon({step: {"pictures/values": 1e-15} for step in (1, 2, 3)})
    assert "horizon" not in flat


# --- batches -----------------------------------------------------------------------------------------------------


def one_order(own: Any) -> Any:
    return lambda self, epoch: own(self, 0)


def over_256(images: np.ndarray, how: str = "") -> np.ndarray:
    return (images[:, None].astype(np.float32) / np.float32(256)) * np.float32(2) - np.float32(1)


def standardised(images: np.ndarray, how: str = "") -> np.ndarray:
    return (images[:, None].astype(np.float32) / np.float32(255) - np.float32(0.13)) / np.float32(0.31)


BATCHES: dict[str, tuple[Any, str, Any, int, tuple[str, ...]]] = {
    "one shuffle for all epochs": (
        schedule.Schedule, "_order", one_order(schedule.Schedule._order), 2, ("other batch",),
    ),
    "over 256": (schedule, "scale", over_256, 0, ("other batch", "images scaled otherwise")),
    "mean and deviation": (schedule, "scale", standardised, 0, ("other batch", "images scaled otherwise")),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("what", BATCHES)
def test_another_order_or_scaling_of_the_images_is_caught_and_named(
    what: str, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner, name, wrong, at, names = BATCHES[what]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrong)
        trace = traced(tmp_path / "t", 4, dtype=dtype, twin=("logits",) if dtype == "float32" else ())
    report = compare_runs(live(dtype), Recorded(trace), levels=[4, 7])
    assert report.verdict == DIFFERS
    (own,) = [row for row in rows_of(report, 4) if row.claim.startswith("batches of two epochs")]
    assert own.verdict == DIFFERS
    assert f"first at step {at}" in own.reason
    (seen,) = [
        row
        for row in report.rows
        if row.claim
        == ("batches as scaled" if dtype == "float64" else "correctness: the Float64 step from the same state")
    ]
    assert seen.verdict == DIFFERS
    assert f"batch @ step {at}" in seen.where
    assert report.diagnosis is not None
    assert report.diagnosis.step == at
    if dtype == "float64":
        assert report.diagnosis.key == "activation/real/discriminator.input"
        assert report.diagnosis.cause.name in names


def test_each_live_stacks_own_order_of_two_epochs_is_compared() -> None:
    class Unshuffled(TorchStack):
        def batch_hashes(self, images: np.ndarray, steps: Any) -> list[str]:
            epoch = -(-len(images) // self.config.batch)
            return super().batch_hashes(images, [step % epoch for step in steps])

    report = compare_runs(live(base=Unshuffled), live(), 1, levels=[4])
    (row,) = [row for row in report.rows if row.claim.startswith("batches of two epochs")]
    assert (row.verdict, row.compared) == (DIFFERS, 4)
    told = "2 batches of torch are not those of torch, first at step 2; torch's step 2 sees what torch's step 0 does"
    assert row.reason == told
    assert report.diagnosis is not None
    assert (report.diagnosis.step, str(report.diagnosis.cause)) == (2, f"other batch ({told})")
    (row,) = [row for row in compare_runs(live(), live(), 1, levels=[4]).rows if row.claim.startswith("batches of two")]
    assert (row.verdict, row.compared) == (AGREE, 4), "two epochs, though one step was taken"


# --- grids -------------------------------------------------------------------------------------------------------


class RowMajor(TorchStack):
    """Lays its pictures out row by row."""

    def grid(self, pictures: np.ndarray) -> np.ndarray:
        side = math.isqrt(len(pictures))
        turned = pictures.reshape(side, side, *pictures.shape[1:]).swapaxes(0, 1).reshape(pictures.shape)
        return grid(np.ascontiguousarray(turned), side)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("wrong", ["live", "recorded"])
def test_pictures_laid_out_row_by_row_are_caught_by_the_references_own_grid(
    wrong: str, dtype: str, tmp_path: Path
) -> None:
    base = {wrong: RowMajor}
    trace = traced(tmp_path / "t", 1, dtype=dtype, words=("state",), base=base.get("recorded", TorchStack))
    report = compare_runs(live(dtype, base=base.get("live", TorchStack)), Recorded(trace), levels=[9])
    found = {row.claim: row for row in report.rows}
    assert found["pictures from the same state"].verdict == AGREE, "their values are right"
    row = found["grids as users see them, from the same state"]
    assert row.verdict == DIFFERS, "though a network that was hardly trained draws all in two grey levels"
    assert row.measured == 1
    assert "another layout" in row.reason
    if dtype == "float64":
        assert found["grids as users see them, free runs"].verdict == DIFFERS


def test_a_recording_without_a_grid_of_its_own_shows_nothing_of_the_layout(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", 1, words=("state",))

    def without(one: StepRecord) -> StepRecord:
        return replace(one, pictures={name: value for name, value in one.pictures.items() if name != "grid"})

    bare = Recorded(rewritten(trace, tmp_path / "a", without))
    found = {row.claim: row for row in compare_runs(live(), bare, levels=[9]).rows}
    row = found["grids as users see them, from the same state"]
    told = "no step has a grid of both stacks' own making; record with --every 10"
    assert (row.verdict, row.reason) == (NOT_RUN, told)


def drawn(levels: np.ndarray) -> StepRecord:
    return StepRecord(3, pictures={"grid": levels.astype(np.uint8)})


def test_a_grid_may_be_one_grey_level_off_where_rounding_falls_and_no_more() -> None:
    own = np.full((4, 6), 100)
    near, far = own.copy(), own.copy()
    near[1, 2], far[1, 2] = 101, 102
    row = grid_row([(drawn(own), drawn(own))], "x")
    assert (row.verdict, row.reason, row.compared) == (AGREE, "every byte", 1)
    row = grid_row([(drawn(near), drawn(own))], "x")
    assert (row.verdict, row.compared) == (AGREE, 1)
    assert "1 of 24 pixels differ by one grey level" in row.reason
    row = grid_row([(drawn(own), drawn(own)), (drawn(far), drawn(own))], "x")
    assert (row.verdict, row.where, row.measured) == (DIFFERS, "grid @ step 3", 2)
    row = grid_row([(drawn(own[:2]), drawn(own))], "x")
    assert (row.verdict, row.reason) == (DIFFERS, "grid (2, 6) against (4, 6)")
    row = grid_row([(drawn(np.full((4, 6), 0)), drawn(np.full((4, 6), 255)))], "x")
    assert row.measured == 255, "grey levels do not wrap"


def test_a_pixel_may_be_off_only_where_the_values_lie_on_both_sides_of_a_rounding() -> None:
    values = np.zeros((4, 1, 2, 3), np.float32)
    near = values.copy()
    near[2, 0, 1, 1] = 1 / 255 * 0.9  # 127.95 in place of 127.5
    own, other = (StepRecord(0, pictures={"values": one, "grid": grid(one, 2)}) for one in (values, near))
    assert grid_row([(own, own)], "x").verdict == AGREE
    shifted = StepRecord(0, pictures={"values": values, "grid": own.pictures["grid"] - 1})
    row = grid_row([(shifted, own)], "x")
    assert (row.verdict, row.measured) == (DIFFERS, 1)
    assert row.reason.startswith(
        "24 of 24 pixels differ by one grey level, rounding falls between the values of 0 alone"
    )
    tie = np.full_like(values, np.nextafter(np.float32(0), np.float32(-1)))
    assert (grid(tie, 2) == grid(values, 2)).all()
    assert grid_row([(other, own)], "x").verdict == AGREE


def test_free_pictures_without_exact_values_are_not_judged() -> None:
    rows = picture_rows([drawn(np.zeros((4, 4)))], [drawn(np.zeros((4, 4)))], {3: {}})
    assert [row.verdict for row in rows] == [NOT_RUN]


def test_free_runs_alone_look_into_the_first_steps_only_and_still_judge_the_last() -> None:
    watched: list[str] = []
    steps = 6
    report = compare_runs(live(), live(), steps, levels=[8, 9], watch=lambda what, done, total: watched.append(what))
    assert report.verdict == AGREE
    told = {what: watched.count(what) for what in watched}
    assert told == {"from the same states": 2, "the reference's own way": steps - 2, "on their own ways": steps}
    report = compare_runs(live(plant=at_step(steps - 1, double_rate)), live(), steps, levels=[8, 9])
    assert levels_that_differ(report) == {8, 9}
