"""Claim: in Float32 every step from the state of Flux is its step but for rounding, and no more than that is admitted.

What rounding may do is what it does to the Float64 referee: of end results by an ensemble of shaken referee steps, of
single layers, backward passes and updates by the noise of that one operation. Correctness is judged in Float64 first.
Both runs keep their own on/off patterns: a unit with another sign than in the referee must have come within the noise
of its channel, and the numbers must be those of the referee with that unit switched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from compared_runs import (
    assert_agree,
    data_of,
    live_like,
    port_against,
    recorded,
    schedule_of,
    stepped,
    torch_like,
)

from pygan.draws import Draws
from pygan.parity.claims import CORRECTNESS, EVERY
from pygan.parity.compare import compare_tensors
from pygan.parity.float32 import END_TO_END, Float32Judge, Rounded
from pygan.parity.judge import Judged
from pygan.parity.referee import Referee
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live, Pair, Recorded, Together
from pygan.parity.tolerances import ENSEMBLE_FACTOR, FLOAT64_STEP, LOCAL_FACTOR, REFERENCE_CAP
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.records import StepRecord
from pygan.sketches import sketch
from pygan.stacks.fast.stack import FastTorchStack

NARROW = "flux-narrow-float32"
AT = 9
"""A step past the first epoch: weights, moments and statistics have moved."""


@cache
def narrow() -> tuple[dict[str, Any], list[Pair], list[dict[str, Any]], str]:
    """All steps of the narrow recording: rows by claim, pairs, flipped units, the port's title."""
    stepping, pairs = port_against(recorded(NARROW))
    return assert_agree(stepping, 30), pairs, stepping.flips, "torch"


def judge_of(candidate: Live | None = None) -> Float32Judge:
    trace = recorded(NARROW)
    together = Together(candidate or live_like(trace), Recorded(trace))
    return Float32Judge(together, Referee(torch_like(trace).config, data_of(trace)))


@cache
def one_pair() -> tuple[Pair, Rounded]:
    """One step of the port and of Flux, and what the judge says of it."""
    (pair,) = (pair for pair in narrow()[1] if pair.step == AT)
    return pair, judge_of().judge(pair)


def bad(found: Rounded) -> set[str]:
    return {one.key for one in found.every() if not one.ok}


# --- recorded steps agree ----------------------------------------------------------------------------------------


def test_every_recorded_narrow_step_agrees_in_correctness_and_rounding() -> None:
    rows, pairs, _, title = narrow()
    assert len(pairs) == recorded(NARROW).training_steps >= 10
    assert {len(pair.reference.logits["real"]) for pair in pairs} == {8, 6}, "a partial batch is among them"
    assert rows[CORRECTNESS].verdict == AGREE and rows[CORRECTNESS].compared >= 60 * len(pairs)
    assert rows[CORRECTNESS].allowed is not None and rows[CORRECTNESS].allowed <= 10 * FLOAT64_STEP
    alone = [row for claim, row in rows.items() if claim.endswith(f"{title}, fed the referee's values")]
    assert {row.level for row in alone} == {3, 4, 5, 6} and all(row.verdict == AGREE for row in alone)
    for who in (title, "recorded flux"):
        update = rows[f"moments, parameters and beta powers, {who}, from its own gradients"]
        assert update.verdict == AGREE and update.compared >= 45 * len(pairs)


def test_both_float32_stacks_are_equally_near_to_the_referee() -> None:
    """The ensemble admits either more than it needs, and the port is no further off than Flux is."""
    _, found = one_pair()
    judged = [one for one in found.ensemble if one.reference_error is not None]
    assert {one.key.partition("/")[0] for one in judged} >= {"loss", "logits", "gradient", "state", "buffer"}
    assert len(judged) >= 16 + 6 + 5
    for one in judged:
        assert one.value <= one.allowed and one.reference_error <= one.allowed, str(one)  # type: ignore[operator]
    shares = [one.value / one.allowed for one in judged], [one.reference_error / one.allowed for one in judged]  # type: ignore[operator]
    assert np.median(shares[0]) < 2 * np.median(shares[1]) + 0.05
    assert max(shares[0]) < 0.75, "ENSEMBLE_FACTOR leaves room for other processors"


def test_narrow_steps_rest_on_no_flip_or_on_admissible_ones() -> None:
    for one in narrow()[2]:
        assert one["largest"] <= one["noise"], one


def test_a_run_by_itself_is_judged_by_the_same_rule_and_nothing_is_imposed_on_it() -> None:
    """The fast step joins layers; what is judged of it is the step as it trains, patterns and all."""
    trace = recorded(NARROW)
    side = live_like(trace, FastTorchStack)
    stepping, pairs = stepped(side, Recorded(trace), [AT])
    assert_agree(stepping, 30)
    alone = FastTorchStack(side.config)
    alone.load_state(pairs[0].before)
    plain = alone.step(schedule_of(trace)[AT], Draws(side.config.seed).at(AT), ("gradients", "state"))
    for kind in ("loss", "gradient", "state"):
        for key, value in getattr(plain, kind).items():
            np.testing.assert_array_equal(getattr(pairs[0].candidate, kind)[key], value, err_msg=f"{kind}/{key}")


# --- more than rounding would be seen ----------------------------------------------------------------------------


def moved(record: StepRecord, key: str, size: float) -> StepRecord:
    """``record`` with the tensor ``kind/name`` off by ``size``, a 2-norm, in one element."""
    kind, _, name = key.partition("/")
    value = np.array(getattr(record, kind)[name])
    value.reshape(-1)[value.size // 2] += size
    return replace(record, **{kind: {**getattr(record, kind), name: value}})


def ends() -> list[str]:
    pair = narrow()[1][AT]
    return [key for key, value in pair.reference.to_arrays().items() if key.startswith(END_TO_END) and value.size]


def test_a_tensor_off_by_more_than_the_ensemble_admits_is_outside_and_no_other() -> None:
    """Half as much again as is admitted, for every end result; what is admitted stays what it was."""
    pair, clean = one_pair()
    assert not bad(clean)
    by_key = {one.key: one for one in clean.ensemble}
    judge, tried = judge_of(), 0
    for key in ends()[::4]:
        one = by_key[key]
        size = 1.5 * one.allowed * float(np.linalg.norm(pair.reference.to_arrays()[key].astype(np.float64)))
        found = judge.judge(replace(pair, candidate=moved(pair.candidate, key, size)))
        own = {one.key: one for one in found.ensemble}[key]
        assert not own.ok, str(own)
        assert own.allowed == pytest.approx(one.allowed, rel=1e-9), "the candidate never sets its own tolerance"
        assert {other.key for other in found.ensemble if not other.ok} == {key}
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("slot", ["parameter", "exp_avg", "exp_avg_sq"])
def test_an_update_that_is_off_by_a_thousandth_of_its_movement_is_outside(slot: str) -> None:
    pair, _ = one_pair()
    judge = judge_of()
    for path in ("discriminator.conv2.weight", "generator.dense.weight"):
        key = f"{slot}/{path}"
        movement = np.linalg.norm(pair.candidate.state[key].astype(np.float64) - pair.before[key])
        found = judge.judge(replace(pair, candidate=moved(pair.candidate, f"state/{key}", 1e-3 * float(movement))))
        assert bad(found) == {f"state/{key}"}


def test_a_reference_that_is_no_float32_run_of_the_recipe_admits_nothing() -> None:
    """Its own distance from the referee is held to a cap, so that a bad reference cannot excuse a bad candidate."""
    pair, clean = one_pair()
    key = "gradient/generator/generator.conv2.weight"
    one = next(one for one in clean.ensemble if one.key == key)
    noise = one.allowed / ENSEMBLE_FACTOR * float(np.linalg.norm(pair.reference.gradient[key.partition("/")[2]]))
    wrong = moved(pair.reference, key, 2 * REFERENCE_CAP * noise)
    found = judge_of().judge(
        replace(pair, reference=wrong, candidate=moved(pair.candidate, key, 2 * REFERENCE_CAP * noise))
    )
    own = next(one for one in found.ensemble if one.key == key)
    assert not own.ok and own.reason.startswith("the reference's own distance")


# --- kinks -------------------------------------------------------------------------------------------------------

KINK = "generator/discriminator.leaky2"


def with_flip(record: StepRecord, place: tuple[int, ...]) -> StepRecord:
    """``record`` that says of one unit that it had the other sign."""
    pattern = record.pattern[KINK].copy()
    pattern[place] ^= True
    return replace(record, pattern={**record.pattern, KINK: pattern})


@cache
def inputs() -> np.ndarray:
    """What enters the kink in the referee's step."""
    pair, trace = one_pair()[0], recorded(NARROW)
    shape = pair.candidate.pattern[KINK].shape
    every = np.argwhere(np.ones(shape, bool))
    found = Referee(torch_like(trace).config, data_of(trace)).step(AT, pair.before, (), look={KINK: every})
    return found.kink[KINK].reshape(shape)


def test_a_flip_far_from_zero_is_not_admissible_and_one_at_zero_is() -> None:
    pair, _ = one_pair()
    order = np.argsort(np.abs(inputs()), axis=None)
    judged: dict[str, Judged] = {}
    for what, flat in (("nearest", order[0]), ("middle", order[len(order) // 2])):
        place = tuple(int(i) for i in np.unravel_index(flat, inputs().shape))
        (judged[what],) = judge_of().judge(replace(pair, candidate=with_flip(pair.candidate, place))).flips
        assert judged[what].difference.worst == place
        assert judged[what].value == pytest.approx(abs(float(inputs()[place])), rel=1e-6)
    assert not judged["middle"].ok
    assert judged["nearest"].allowed < judged["middle"].value


def test_a_flip_is_no_excuse_for_numbers_that_it_does_not_explain() -> None:
    """The run says that a unit was switched; its gradients are those of a run in which it was not."""
    pair, _ = one_pair()
    near = np.unravel_index(int(np.argmin(np.abs(inputs()))), inputs().shape)
    found = judge_of().judge(replace(pair, candidate=with_flip(pair.candidate, tuple(int(i) for i in near))))
    outside = {one.key for one in found.ensemble if not one.ok}
    assert any(key.startswith("gradient/generator/") for key in outside)


# --- correctness comes first -------------------------------------------------------------------------------------


class Twinned(Recorded):
    """A recording whose Float64 twins are changed on the way, or left out."""

    def __init__(self, change: Callable[[StepRecord], StepRecord | None]) -> None:
        super().__init__(recorded(NARROW))
        self.change = change

    def twin_step(self, number: int, *_: object) -> StepRecord | None:
        twin = super().twin_step(number)
        assert twin is not None
        return self.change(twin)


def test_a_float64_twin_that_differs_leaves_rounding_unjudged() -> None:
    def other(twin: StepRecord) -> StepRecord:
        return replace(twin, loss={name: value * (1 + 1e-9) for name, value in twin.loss.items()})

    trace = recorded(NARROW)
    report = compare_runs(live_like(trace), Twinned(other), 2, levels=(3, 4, 5, 6, 7))
    rows = {row.claim: row for row in report.rows}
    assert report.verdict == rows[CORRECTNESS].verdict == DIFFERS
    assert report.diagnosis is not None and report.diagnosis.step == 0
    assert rows[EVERY].verdict == NOT_RUN if EVERY in rows else True
    assert not [row.claim for row in report.rows if row.verdict == AGREE and row.level in (3, 5, 6)]


def test_without_float64_twins_nothing_is_said_to_agree() -> None:
    trace = recorded(NARROW)
    report = compare_runs(live_like(trace), Twinned(lambda _: None), 2, levels=(3, 4, 5, 6, 7))
    assert report.verdict == NOT_RUN
    row = next(row for row in report.rows if row.claim == CORRECTNESS)
    assert row.verdict == NOT_RUN and "no Float64 step" in row.reason


# --- published width ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux-full-digits", "flux-full-mnist"])
def test_the_first_step_at_full_width_agrees_by_its_sketches(name: str) -> None:
    trace = recorded(name)
    report = compare_runs(live_like(trace), Recorded(trace), 1, levels=(1, 3, 4, 5, 6, 7))
    assert report.verdict == AGREE, "\n".join(f"{row.claim}: {row.where} {row.reason}" for row in report.rows)
    rows = {row.claim: row for row in report.rows}
    assert rows[CORRECTNESS].compared >= 60 and rows[CORRECTNESS].verdict == AGREE
    assert sum(row.compared for row in report.rows if row.level == 5) >= 16


@pytest.mark.parametrize("name", ["flux-full-digits", "flux-full-mnist"])
def test_the_first_batch_at_full_width_is_that_of_flux(name: str) -> None:
    trace = recorded(name)
    torch = torch_like(trace)
    assert torch.batch_hashes(data_of(trace).images, [0]) == [trace.record(0).batch_sha256]


def test_a_planted_flip_or_permutation_shows_in_the_recorded_sketch() -> None:
    """The state after the first step: torch's own, wrongly laid out, against what Flux recorded of it."""
    trace = recorded("flux-full-digits")
    torch = torch_like(trace)
    torch.step(schedule_of(trace)[0], Draws(0))
    weight = torch.state()["parameter/generator.conv1.weight"]
    good = trace.record(0).sketch["state/parameter/generator.conv1.weight"]
    assert compare_tensors("x", sketch(weight), good).relative < 1e-3
    for wrong in (weight[:, :, ::-1, ::-1], weight[::-1], weight.swapaxes(2, 3), np.roll(weight, 1, axis=1)):
        assert compare_tensors("x", sketch(wrong), good).relative > 1e-2
        assert abs(sketch(wrong)[0] - good[0]) < 1e-3 * good[0], "the norm alone sees nothing"


def test_the_factors_are_what_the_measured_shares_leave_room_for() -> None:
    """Right runs were found inside 0.6 of the ensemble's factor and 0.8 of the local one; neither may grow unseen."""
    assert (ENSEMBLE_FACTOR, LOCAL_FACTOR) == (4.0, 3.0)
    _, found = one_pair()
    (rows,) = found.alone.values()
    assert len(rows) > 60
    assert max(one.value / one.allowed for one in rows) < 0.9
