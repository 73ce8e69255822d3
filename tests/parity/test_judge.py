"""The judge of one Float64 step: what is let through, and that a fault in any shape never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from parity_runs import EVERYTHING, KERNEL, KERNEL_GRADIENT, live

from pygan.files import sha256
from pygan.parity.compare import compare_arrays
from pygan.parity.judge import (
    KINDS,
    Cancelling,
    Judged,
    batch_difference,
    common,
    judge_float64,
    judge_patterns,
    relative,
)
from pygan.parity.sides import Pair
from pygan.parity.tolerances import ENSEMBLE_FACTOR, FLOAT64_CANCELLED, FLOAT64_STEP
from pygan.recording import digested
from pygan.records import StepRecord
from pygan.sketches import sketch

CANCELLED = "discriminator/discriminator.dense.bias"
RELU = "generator/discriminator.leaky1"
Change = Callable[[np.ndarray], np.ndarray]


@cache
def taken() -> Pair:
    """One step against itself: every difference is one that a test puts in."""
    side = live()
    before = side.stack.state()
    record = side.step(0, [*EVERYTHING, "sketches"])
    return Pair(0, before, record, record)


def changed(record: StepRecord, kind: str, name: str, change: Change | None) -> StepRecord:
    """``record`` with one array changed; None takes it away."""
    part = dict(getattr(record, kind))
    value = part.pop(name)
    return replace(record, **{kind: part if change is None else {**part, name: change(value)}})


def bad(judged: list[Judged]) -> dict[str, Judged]:
    return {one.key: one for one in judged if not one.ok}


def test_a_step_against_itself_agrees() -> None:
    judged = judge_float64(taken())
    assert not bad(judged)
    assert {one.key.partition("/")[0] for one in judged} == set(KINDS) - {"updated"}
    assert len(judged) > 200


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
    "gradient": KERNEL_GRADIENT,
    "buffer": "generator/generator.norm2.running_var",
    "state": f"parameter/{KERNEL}",
    "activation": "fake/discriminator.conv1",
    "activation_gradient": "generator/generator.conv1",
    "sketch": f"gradient/{KERNEL_GRADIENT}",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("change", "words"), FAULTS, ids=["nan", "inf", "shape", "dtype", "missing"])
def test_a_fault_on_either_side_is_never_inside(change: Change | None, words: str, kind: str) -> None:
    pair, name = taken(), NAMES[kind]
    for role in ("candidate", "reference"):
        found = bad(
            judge_float64(replace(pair, **{role: changed(getattr(pair, role), kind, name, change)}), noise=all_noise)
        )
        if change is None and kind.startswith("activation"):
            assert not found, "a stack that fuses a layer has one tap less"
            continue
        assert found.keys() == {f"{kind}/{name}"}
        assert words in str(found[f"{kind}/{name}"])


def all_noise() -> dict[str, float]:
    """As if everything were noise."""
    return {key: 1e9 for key in taken().candidate.to_arrays()}


def test_what_only_one_side_records_is_not_compared_but_one_missing_gradient_is() -> None:
    pair = taken()
    mine, theirs = common(replace(pair.candidate, activation={}, logits={}), pair.reference)
    assert not [key for key in theirs if key.startswith(("activation/", "logits/"))]
    assert mine.keys() == theirs.keys()
    mine, theirs = common(changed(pair.candidate, "gradient", KERNEL_GRADIENT, None), pair.reference)
    assert theirs.keys() - mine.keys() == {f"gradient/{KERNEL_GRADIENT}"}


@pytest.mark.parametrize(("size", "inside"), [(0.9, True), (1.1, False)])
@pytest.mark.parametrize("kind", NAMES)
def test_every_kind_is_held_to_the_same_relative_norm(kind: str, size: float, inside: bool) -> None:
    factor = 1 + size * FLOAT64_STEP
    pair = taken()
    wrong = replace(pair, candidate=changed(pair.candidate, kind, NAMES[kind], lambda value: value * factor))
    found = bad(judge_float64(wrong))
    assert found.keys() == (set() if inside else {f"{kind}/{NAMES[kind]}"})
    for one in found.values():
        assert one.value == pytest.approx(size * FLOAT64_STEP, rel=1e-3)
        assert one.allowed == FLOAT64_STEP


# --- sums that cancel --------------------------------------------------------------------------------------------

TINY, GAP = 1e-15, 1e-17
"""What is left of a cancelling gradient, and how far two runs are apart in it."""


def cancelled(gap: float = GAP, left: float = TINY) -> Pair:
    pair = taken()
    right = changed(pair.reference, "gradient", CANCELLED, lambda value: np.array([left]))
    wrong = changed(pair.candidate, "gradient", CANCELLED, lambda value: np.array([left + gap]))
    return replace(pair, candidate=replace(wrong, sketch={}), reference=replace(right, sketch={}))


@pytest.mark.parametrize(("share", "inside"), [(0.9, True), (1.1, False)])
def test_what_is_left_of_a_cancelling_sum_is_held_to_the_noise_of_its_terms(share: float, inside: bool) -> None:
    noise = {f"gradient/{CANCELLED}": GAP / (ENSEMBLE_FACTOR * share)}
    (judged,) = [one for one in judge_float64(cancelled(), noise=lambda: noise) if one.key == f"gradient/{CANCELLED}"]
    assert judged.difference.relative > FLOAT64_STEP
    assert judged.ok == inside
    assert ("sums that cancel" in judged.reason) == inside


def test_without_noise_nothing_is_said_to_cancel_and_noise_is_asked_for_only_where_it_matters() -> None:
    assert bad(judge_float64(cancelled())).keys() == {f"gradient/{CANCELLED}"}
    asked = []

    def noise() -> dict[str, float]:
        asked.append(1)
        return {}

    judge_float64(taken(), noise=noise)
    assert asked == []
    judge_float64(cancelled(), noise=noise)
    assert asked == [1]


def test_exactly_zero_on_one_side_is_weighed_too() -> None:
    noise = {f"gradient/{CANCELLED}": GAP}
    for gap, inside in ((GAP, True), (10 * GAP, False)):
        found = bad(judge_float64(cancelled(gap, left=0.0), noise=lambda: noise))
        assert (not found) == inside


@pytest.mark.parametrize(("factor", "inside"), [(0.5, True), (2.0, False)])
def test_no_noise_excuses_a_difference_that_is_not_small_beside_others_of_its_kind(factor: float, inside: bool) -> None:
    largest = max(float(np.linalg.norm(value)) for value in taken().reference.gradient.values())
    gap = factor * FLOAT64_CANCELLED * largest
    found = bad(judge_float64(cancelled(gap, left=gap), noise=lambda: {f"gradient/{CANCELLED}": 1.0}))
    assert (not found) == inside


def may_cancel(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, bool]:
    differences = compare_arrays(mine, theirs)
    rule = Cancelling(differences, theirs)
    return {one.key: rule(one) for one in differences}


def test_a_difference_is_small_beside_others_of_its_own_family_alone() -> None:
    """Moments are far smaller than parameters: what is nothing beside these may be all of a moment."""
    theirs = {
        "state/parameter/net.a": np.full(3, 1e3),
        "state/exp_avg/net.a": np.full(3, 1e-6),
        "state/exp_avg/net.b": np.full(3, 1e-20),
        "gradient/net/net.b": np.full(3, 1e-20),
    }
    found = may_cancel({**theirs, "state/exp_avg/net.b": np.full(3, 2e-20)}, theirs)
    assert found["state/exp_avg/net.b"]
    assert not may_cancel({**theirs, "state/exp_avg/net.b": np.full(3, 2e-18)}, theirs)["state/exp_avg/net.b"]
    assert not may_cancel({**theirs, "gradient/net/net.b": np.full(3, 2e-20)}, theirs)["gradient/net/net.b"]
    assert not any(may_cancel({}, theirs).values()), "a missing tensor is a fault"
    assert not any(may_cancel({key: value * np.nan for key, value in theirs.items()}, theirs).values())


def test_a_parameter_follows_its_moment() -> None:
    """Adam makes a whole step of a gradient that is nothing but rounding: then alone a parameter may differ."""
    theirs = {
        "state/parameter/net.a": np.full(3, 1.0),
        "state/exp_avg/net.a": np.full(3, 1e-20),
        "state/exp_avg/net.b": np.full(3, 1e-3),
    }
    key, moved = "state/parameter/net.a", np.full(3, 1 + 1e-12)
    assert may_cancel({**theirs, key: moved, "state/exp_avg/net.a": np.full(3, 2e-20)}, theirs)[key]
    assert not may_cancel({**theirs, key: moved}, theirs)[key], "its moment agrees"
    assert not may_cancel({**theirs, key: moved, "state/exp_avg/net.a": np.full(3, 1e-3)}, theirs)[key]
    assert not may_cancel({**theirs, key: np.full(3, 1.1), "state/exp_avg/net.a": np.full(3, 2e-20)}, theirs)[key]


# --- batches and patterns ----------------------------------------------------------------------------------------


def test_another_batch_is_a_difference_of_its_own() -> None:
    pair = taken()
    assert [one.ok for one in batch_difference(pair)] == [True]
    other = replace(pair, candidate=replace(pair.candidate, batch_sha256="0" * 64))
    (found,) = batch_difference(other)
    assert not found.ok
    assert "scaled" in found.difference.fault
    assert batch_difference(replace(pair, candidate=replace(pair.candidate, batch_sha256=""))) == []


def flip(value: np.ndarray) -> np.ndarray:
    other = value.copy()
    other[1, 0, 2, 3:5] ^= True
    return other


def test_a_switched_unit_is_counted() -> None:
    pair = taken()
    assert all(one.ok for one in judge_patterns(pair))
    assert len(judge_patterns(pair)) == 9
    found = bad(judge_patterns(replace(pair, candidate=changed(pair.candidate, "pattern", RELU, flip))))
    assert {key: one.difference.fault for key, one in found.items()} == {
        f"pattern/{RELU}": "2 units are on in one run and off in the other"
    }
    short = replace(pair, candidate=changed(pair.candidate, "pattern", RELU, lambda value: value[:-1]))
    assert bad(judge_patterns(short))[f"pattern/{RELU}"].difference.fault == "shapes differ"


def test_a_digest_stands_for_a_pattern() -> None:
    pair = taken()
    kept = digested(pair.reference)
    assert not kept.pattern
    assert kept.digest[f"pattern/{RELU}"].tobytes().hex() == sha256(pair.reference.pattern[RELU].tobytes())
    held = replace(pair, reference=kept)
    assert len(judge_patterns(held)) == 9
    assert not bad(judge_patterns(held))
    wrong = replace(held, candidate=changed(pair.candidate, "pattern", RELU, flip))
    assert bad(judge_patterns(replace(wrong, candidate=wrong.reference, reference=wrong.candidate))).keys() == {
        f"pattern/{RELU}"
    }, "whichever side has the digests"
    found = bad(judge_patterns(wrong))
    assert {key: one.difference.fault for key, one in found.items()} == {
        f"pattern/{RELU}": "other units are on in one run than in the other (digests differ)"
    }


def test_an_error_is_relative_to_the_truth() -> None:
    assert relative(0.5, np.array([3.0, 4.0])) == pytest.approx(0.1)
    assert relative(0.0, np.zeros(2)) == 0
    assert relative(1e-30, np.zeros(2)) == np.inf
    assert relative(1.0, np.full(2, 1e300)) == pytest.approx(1 / np.sqrt(2) * 1e-300)


def test_a_sketch_is_compared_like_a_tensor() -> None:
    pair = taken()
    name = NAMES["sketch"]
    swapped = pair.reference.gradient[KERNEL_GRADIENT][..., ::-1]
    wrong = replace(pair, candidate=changed(pair.candidate, "sketch", name, lambda _: sketch(swapped)))
    (found,) = bad(judge_float64(wrong)).values()
    assert found.key == f"sketch/{name}"
    assert found.value > 1e-3
