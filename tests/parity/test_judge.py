"""The judge of one step: what is rounding, what is not, and that a fault in any shape is never let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from pygan.data import load
from pygan.parity.bands import FLOAT64_ABSOLUTE, FORWARD_NOISE, REFEREE_FACTOR, group_of, referee_floor
from pygan.parity.judge import (
    CANCELLING,
    Judged,
    common,
    error,
    judge_float32,
    judge_float64,
    judge_step,
    network_scales,
)
from pygan.parity.sides import Live, Pair
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")
KERNEL, CANCELLED = "generator.conv2.weight", "discriminator.dense.bias"
Change = Callable[[np.ndarray], np.ndarray]


def side(dtype: str) -> Live:
    return Live(TorchStack(FluxTutorialConfig(**NARROW, threads=1, dtype=dtype)), load("digits", limit=22))


@cache
def taken(dtype: str) -> Pair:
    """One step against itself: every difference is one that a test puts in."""
    stack = side(dtype)
    before = stack.stack.state()
    record = stack.step(0, EVERYTHING)
    return Pair(0, before, record, record, record.pattern)


def changed(record: StepRecord, kind: str, name: str, change: Change | None) -> StepRecord:
    """``record`` with one array changed; None takes it away."""
    part = dict(getattr(record, kind))
    value = part.pop(name)
    return replace(record, **{kind: part if change is None else {**part, name: change(value)}})


def bad(judged: list[Judged]) -> dict[str, Judged]:
    return {one.key: one for one in judged if not one.ok}


def test_a_step_against_itself_agrees_in_both_dtypes() -> None:
    for dtype, referee in (("float64", None), ("float32", side("float64"))):
        judged = judge_step(taken(dtype), referee)
        assert not bad(judged)
        assert len({one.key.partition("/")[0] for one in judged}) == 6
        assert len(judged) > 150


def to_nan(value: np.ndarray) -> np.ndarray:
    broken = value.copy()
    broken.reshape(-1)[0] = np.nan
    return broken


FAULTS: list[tuple[Change | None, str]] = [
    (to_nan, "not finite at ["),
    (lambda value: np.full_like(value, np.inf), "not finite"),
    (lambda value: value[..., None], "shape"),
    (lambda value: value.astype(np.float16), "float16"),
    (None, "missing in the"),
]
NAMES = {
    "logits": "real",
    "loss": "generator",
    "gradient": KERNEL,
    "state": f"parameter/{KERNEL}",
    "activation": "fake/discriminator.conv1",
    "activation_gradient": "generator/generator.conv1",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("change", "words"), FAULTS, ids=["nan", "inf", "shape", "dtype", "missing"])
def test_a_fault_on_either_side_is_never_inside(change: Change | None, words: str, kind: str, dtype: str) -> None:
    pair = taken(dtype)
    name = NAMES[kind]
    for role in ("candidate", "reference"):
        wrong = replace(pair, **{role: changed(getattr(pair, role), kind, name, change)})
        found = bad(judge_float64(wrong) if dtype == "float64" else judge_float32(wrong, taken("float64").reference))
        if change is None and kind.startswith("activation"):
            assert not found, "a stack that fuses a layer has one tap less"
            continue
        assert found.keys() == {f"{kind}/{name}"}
        assert words in str(found[f"{kind}/{name}"])


def test_what_only_one_side_records_is_not_compared_but_one_missing_gradient_is() -> None:
    pair = taken("float64")
    mine, theirs = common(replace(pair.candidate, activation={}, logits={}), pair.reference)
    assert not [key for key in theirs if key.startswith(("activation/", "logits/"))]
    assert mine.keys() == theirs.keys()
    mine, theirs = common(changed(pair.candidate, "gradient", KERNEL, None), pair.reference)
    assert theirs.keys() - mine.keys() == {f"gradient/{KERNEL}"}


# --- Float64 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "inside"), [(0.9e-11, True), (1.1e-11, False)])
def test_float64_holds_every_kind_to_1e_11(size: float, inside: bool) -> None:
    pair = taken("float64")
    for kind, name in NAMES.items():
        wrong = replace(pair, candidate=changed(pair.candidate, kind, name, lambda value: value * (1 + size)))
        found = bad(judge_float64(wrong))
        absolute = FLOAT64_ABSOLUTE.get(kind, 0.0)
        norm = float(np.linalg.norm(getattr(pair.candidate, kind)[name].reshape(-1)))
        assert size * norm > absolute, "the relative norm decides"
        assert (not found) == inside, kind


@pytest.mark.parametrize(("share", "inside"), [(0.9, True), (1.1, False)])
def test_a_cancelled_float64_gradient_is_held_in_absolute_norm(share: float, inside: bool) -> None:
    gap, tiny = share * FLOAT64_ABSOLUTE["gradient"], np.array([1e-9])
    pair = taken("float64")
    pair = replace(pair, reference=changed(pair.reference, "gradient", CANCELLED, lambda value: tiny))
    pair = replace(pair, candidate=changed(pair.candidate, "gradient", CANCELLED, lambda value: tiny + gap))
    (judged,) = [one for one in judge_float64(pair) if one.key == f"gradient/{CANCELLED}"]
    assert judged.difference.relative > 1e-11
    assert judged.ok == inside
    assert ("cancels" in judged.reason) == inside
    name = f"parameter/{CANCELLED}"
    sides = [changed(taken("float64").reference, "state", name, lambda value, at=at: at) for at in (tiny + gap, tiny)]
    found = bad(judge_float64(replace(pair, candidate=sides[0], reference=sides[1])))
    assert f"state/{name}" in found, "a parameter has no such allowance"


# --- Float32 and its referee -------------------------------------------------------------------------------------


def errors(size: float) -> dict[str, Any]:
    """A candidate ``size`` times as far from the referee as the reference, which is five floors from it."""
    truth, pair = taken("float64").reference, taken("float32")
    right = truth.gradient[KERNEL]
    noise = np.random.default_rng(0).standard_normal(right.shape)
    noise *= 5 * referee_floor(f"gradient/{KERNEL}") * np.linalg.norm(right) / np.linalg.norm(noise)

    def at(factor: float) -> Change:
        return lambda value: (right + factor * noise).astype(np.float32)

    wrong = replace(
        pair,
        candidate=changed(pair.candidate, "gradient", KERNEL, at(-size)),
        reference=changed(pair.reference, "gradient", KERNEL, at(1)),
    )
    return bad(judge_float32(wrong, truth))


def test_a_float32_candidate_may_be_three_times_as_far_from_the_referee_and_no_further() -> None:
    assert not errors(0.95 * REFEREE_FACTOR)
    found = errors(1.05 * REFEREE_FACTOR)
    assert found.keys() == {f"gradient/{KERNEL}"}
    (judged,) = found.values()
    assert judged.reference_error is not None
    assert judged.value == pytest.approx(1.05 * REFEREE_FACTOR * judged.reference_error, rel=1e-2)


def test_a_float32_reference_that_is_wrong_is_seen_too() -> None:
    """The referee is not only there to excuse the candidate: a reference far from it differs, whoever is right."""
    truth, pair = taken("float64").reference, taken("float32")
    for kind, name in NAMES.items():
        wrong = replace(pair, reference=changed(pair.reference, kind, name, lambda value: value * np.float32(1.5)))
        assert bad(judge_float32(wrong, truth)).keys() == {f"{kind}/{name}"}


def test_the_step_count_must_be_equal() -> None:
    pair = taken("float32")
    wrong = replace(pair, candidate=changed(pair.candidate, "state", "step", lambda value: value + 1))
    assert bad(judge_float32(wrong, taken("float64").reference)).keys() == {"state/step"}


def test_a_cancelled_float32_gradient_is_weighed_against_its_network() -> None:
    """The same error passes in what is left of a cancelling sum, and not in a gradient of ordinary size."""
    truth, pair = taken("float64").reference, taken("float32")
    scale = network_scales({f"gradient/{name}": value for name, value in truth.gradient.items()})
    whole = scale[group_of(f"gradient/{CANCELLED}")] / CANCELLING
    others = [value for name, value in truth.gradient.items() if name.startswith("discriminator.")]
    assert whole == pytest.approx(np.sqrt(sum(np.sum(value**2) for value in others)))

    for size, norm, inside in ((0.5, 1e-3, True), (2.0, 1e-3, False), (0.5, 1.0, True), (2.0, 1.0, False)):
        right = np.array([norm * whole])
        off = size * referee_floor(f"gradient/{CANCELLED}") * max(norm, CANCELLING) * whole
        exact = changed(truth, "gradient", CANCELLED, lambda value, right=right: right)
        wrong = replace(
            pair,
            candidate=changed(pair.candidate, "gradient", CANCELLED, lambda v, r=right, o=off: (r + o).astype("f4")),
            reference=changed(pair.reference, "gradient", CANCELLED, lambda v, r=right: r.astype("f4")),
        )
        assert (f"gradient/{CANCELLED}" not in bad(judge_float32(wrong, exact))) == inside, (size, norm)


def test_error_is_relative_to_the_truth_or_to_a_larger_scale() -> None:
    truth = np.array([3.0, 4.0])
    assert error(np.array([3.0, 4.5], np.float32), truth) == pytest.approx(0.1)
    assert error(np.array([3.0, 4.5], np.float32), truth, 50.0) == pytest.approx(0.01)
    assert error(np.zeros(2, np.float32), np.zeros(2)) == 0
    assert error(np.ones(2, np.float32), np.zeros(2)) == np.inf
    assert not error(np.array([np.nan, 4.0], np.float32), truth) <= 1


# --- on/off patterns ---------------------------------------------------------------------------------------------

RELU = "generator/discriminator.leaky1"


def flipped(pair: Pair, place: tuple[int, ...]) -> Pair:
    def flip(value: np.ndarray) -> np.ndarray:
        other = value.copy()
        other[place] = ~other[place]
        return other

    return replace(pair, candidate=changed(pair.candidate, "pattern", RELU, flip))


def test_no_flip_is_admissible_in_float64() -> None:
    found = bad(judge_step(flipped(taken("float64"), (1, 0, 2, 3)), None))
    assert found.keys() == {f"pattern/{RELU}"}
    assert found[f"pattern/{RELU}"].difference.worst == (1, 0, 2, 3)


def test_a_float32_flip_is_admissible_within_forward_noise_of_zero_and_nowhere_else() -> None:
    referee, pair = side("float64"), taken("float32")
    every = {RELU: np.argwhere(np.ones_like(pair.reference.pattern[RELU]))}
    inputs = referee.step(0, (), pair.before, impose=pair.imposed, look=every).kink[RELU]
    near, far = (tuple(int(i) for i in every[RELU][pick(np.abs(inputs))]) for pick in (np.argmin, np.argmax))
    judged = {one.key: one for one in judge_step(flipped(pair, far), referee)}[f"pattern/{RELU}"]
    assert not judged.ok
    assert judged.value == pytest.approx(np.max(np.abs(inputs)))
    assert judged.value > 1 > judged.allowed == FORWARD_NOISE
    judged = {one.key: one for one in judge_step(flipped(pair, near), referee)}[f"pattern/{RELU}"]
    assert judged.value == pytest.approx(np.min(np.abs(inputs)))
    assert judged.ok == (judged.value <= FORWARD_NOISE)
    assert judged.value < 1e-2, "a unit near zero is told from one far from it"


def test_of_many_flips_the_one_furthest_from_zero_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    referee, pair = side("float64"), taken("float32")
    monkeypatch.setattr("pygan.parity.judge.FORWARD_NOISE", 0.5)
    every = {RELU: np.argwhere(np.ones_like(pair.reference.pattern[RELU]))}
    inputs = np.abs(referee.step(0, (), pair.before, impose=pair.imposed, look=every).kink[RELU])
    near, far = (tuple(int(i) for i in every[RELU][pick(inputs)]) for pick in (np.argmin, np.argmax))
    assert not bad(judge_step(flipped(pair, near), referee)), "admissible alone"
    found = bad(judge_step(flipped(flipped(pair, near), far), referee))
    assert found[f"pattern/{RELU}"].difference.shape == (2,)
    assert found[f"pattern/{RELU}"].difference.worst == far


def test_a_pattern_of_another_shape_is_told_as_the_shape_of_its_layers_output() -> None:
    pair, name = taken("float64"), RELU
    wrong = changed(pair.candidate, "pattern", name, lambda value: value[:-1])
    wrong = changed(wrong, "activation", name, lambda value: value[:-1])
    found = bad(judge_step(replace(pair, candidate=wrong), None))
    assert found.keys() == {f"activation/{name}"}
    assert "shape (7, 2, 14, 14) against (8, 2, 14, 14)" in str(found[f"activation/{name}"])
