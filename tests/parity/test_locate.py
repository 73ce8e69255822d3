"""Where two runs part: culprits from forced steps, victims that only inherit, and the order of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from lowered import layer_of
from parity_runs import EVERYTHING, KERNEL_GRADIENT, Plant, live
from torch import nn

from pygan.parity.compare import Difference
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.judge import Judged, judge_float64
from pygan.parity.locate import (
    Diagnosis,
    agreeing,
    diagnose_step,
    local_differences,
    mode_differences,
    place_in_order,
)
from pygan.parity.sides import Live, Pair, Together
from pygan.parity.stepping import diagnose
from pygan.parity.tolerances import FLOAT64_CANCELLED
from pygan.recipes.adam import OptimisersAdam
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

PLAIN = ("logits", "gradients", "patterns", "state")


def kernel_turned(path: str) -> Plant:
    """A convolution's kernel is turned by 180 degrees in what it computes, not in the state."""

    def plant(stack: TorchStack) -> None:
        conv: Any = layer_of(stack, path)
        conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)

    return plant


def found_in(candidate: Live, reference: Live, steps: int = 2) -> Diagnosis | None:
    return diagnose(Together(candidate, reference), range(steps))


def first_pair(together: Together, capture: Sequence[str] = EVERYTHING) -> Pair:
    return next(iter(together.steps(range(1), capture)))


def outside(pair: Pair) -> list[Judged]:
    return [one for one in judge_float64(pair) if not one.ok]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_runs_have_no_diagnosis(dtype: str) -> None:
    assert found_in(live(dtype), live(dtype), 2) is None


@pytest.mark.parametrize(
    ("path", "wrong", "dtype"),
    [
        ("discriminator.conv1", "candidate", "float64"),
        ("discriminator.conv2", "candidate", "float32"),
        ("discriminator.conv1", "reference", "float32"),
        ("discriminator.conv2", "reference", "float64"),
    ],
)
def test_a_flipped_kernel_is_the_culprit_and_all_after_it_are_victims(path: str, wrong: str, dtype: str) -> None:
    """In Float32 too the search is that of the Float64 steps."""
    sides = {"candidate": live(dtype), "reference": live(dtype), wrong: live(dtype, kernel_turned(path))}
    found = found_in(sides["candidate"], sides["reference"], 1)
    assert found is not None
    assert (found.step, found.key, found.forced) == (0, f"activation/real/{path}", True)
    if wrong == "candidate":
        assert found.cause.name == "kernel not flipped"
    culprits = [one.key for one in found.culprits]
    assert set(culprits) >= {f"activation/{call}/{path}" for call in ("real", "fake", "generator")}
    assert {key.rpartition("/")[2].removesuffix(".weight").removesuffix(".bias") for key in culprits} <= {path} | {
        before for before in ("discriminator.drop1", "discriminator.input", "generator.tanh")
    }, "nothing else starts from equal inputs and differs"
    assert "logits/real" in found.victims
    assert "activation/real/discriminator.dense" in found.victims
    assert not set(found.victims) & set(culprits)
    keys = [one.key for one in found.outside]
    assert keys.index("activation/real/discriminator.dense") < keys.index("logits/real") < keys.index("logits/fake")


def test_without_layers_the_place_is_a_whole_call() -> None:
    together = Together(live(plant=kernel_turned("discriminator.conv2")), live())
    pair = first_pair(together, PLAIN)
    found = diagnose_step(together, pair, outside(pair))
    assert (found.key, found.forced) == ("logits/real", True), "the call's inputs are the same"
    assert [one.key for one in found.culprits] == ["logits/real", "logits/fake", "logits/generator"]
    assert {"loss/discriminator", "gradient/discriminator/discriminator.conv1.weight"} <= set(found.victims)
    assert [one.key for one in found.outside[:3]] == ["logits/real", "logits/fake", "loss/discriminator"]
    told = "somewhere in the calls sample/generator, real/discriminator, fake/discriminator, whose layers"
    assert told in str(found)


def test_the_step_before_a_late_fault_agrees() -> None:
    """The bug shows from the third step on: nothing is reported earlier, and the diagnosis names that step."""

    def late(stack: TorchStack) -> None:
        norm: Any = layer_of(stack, "generator.norm2")
        own, right = stack.step, norm.momentum

        def step(*arguments: Any, **how: Any) -> StepRecord:
            norm.momentum = 0.3 if int(stack.state()["step"]) == 2 else right
            return own(*arguments, **how)

        stack.step = step  # type: ignore[method-assign]

    assert found_in(live(plant=late), live(), 2) is None
    found = found_in(live(plant=late), live(), 4)
    assert found is not None
    assert (found.step, found.key) == (2, "state/buffer/generator.norm2.running_mean")
    assert {one.key for one in found.culprits} == {
        f"{kind}/generator.norm2.running_{what}"
        for kind in ("buffer/generator", "state/buffer")
        for what in ("mean", "var")
    }
    assert found.cause.name == "BatchNorm momentum"


def test_a_wrong_update_is_told_from_a_wrong_gradient() -> None:
    found = found_in(live(plant=double_rate), live())
    assert found is not None
    assert found.key.startswith("state/parameter/generator.")
    assert {one.key.rpartition("/")[0] for one in found.culprits} == {"state/parameter"}
    assert not any(key.startswith("gradient/") for key in found.victims)
    assert found.cause.name == "learning rate"


def double_rate(stack: TorchStack) -> None:
    stack.optimisers["generator"].param_groups[0]["lr"] *= 2


def in_eval(stack: TorchStack) -> None:
    drop = layer_of(stack, "discriminator.drop1")
    drop.train = lambda mode=True: nn.Module.train(drop, False)  # type: ignore[method-assign]


def test_a_layer_in_the_wrong_mode_is_named_first() -> None:
    found = found_in(live(plant=in_eval), live())
    assert found is not None
    assert found.cause.name == "train or eval mode"
    assert found.cause.detail == "eval mode against train mode"
    assert found.key == "mode/real/discriminator.drop1"


def test_modes_are_compared_where_both_sides_say_them() -> None:
    pair = first_pair(Together(live(), live()))
    assert mode_differences(pair) == []
    other = {key: ~value if "drop1" in key else value for key, value in pair.candidate.mode.items()}
    wrong = mode_differences(replace(pair, candidate=replace(pair.candidate, mode=other)))
    assert {one.key for one in wrong} == {f"mode/{key}" for key in other if "drop1" in key}
    assert mode_differences(replace(pair, candidate=replace(pair.candidate, mode={}))) == []


def test_a_difference_without_a_culprit_is_still_reported() -> None:
    """Both sides compute equally from equal values: what differed is reported, and no layer is blamed."""
    together = Together(live(), live())
    pair = first_pair(together)
    gradient = {**pair.candidate.gradient, KERNEL_GRADIENT: 2 * pair.candidate.gradient[KERNEL_GRADIENT]}
    pair = replace(pair, candidate=replace(pair.candidate, gradient=gradient))
    found = diagnose_step(together, pair, outside(pair))
    assert (found.key, found.forced, found.culprits) == (f"gradient/{KERNEL_GRADIENT}", False, ())


# --- operations that are no modules ------------------------------------------------------------------------------


def with_factor(factor: float) -> Plant:
    """A product without a module of its own after the second convolution."""

    def plant(stack: TorchStack) -> None:
        discriminator: Any = stack.networks["discriminator"]

        def forward(x: Any) -> Any:
            for layer in discriminator.children():
                x = layer(x)
                x = x * factor if layer is discriminator.conv2 else x
            return x

        discriminator.forward = forward

    return plant


def test_between_modules_the_span_is_named_and_no_layer_is_blamed() -> None:
    found = found_in(live(plant=with_factor(1.001)), live(plant=with_factor(1.0)), 1)
    assert found is not None
    assert found.key == "activation/real/discriminator.leaky2"
    assert "between real/discriminator.conv2 and real/discriminator.leaky2" in found.span
    assert found.span in str(found)
    plain = found_in(live(plant=kernel_turned("discriminator.conv2")), live(), 1)
    assert plain is not None
    assert plain.span == ""


# --- what counts as a layer's own difference ---------------------------------------------------------------------


@cache
def taken() -> StepRecord:
    return live().step(0, EVERYTHING)


def scaled(record: StepRecord, kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> StepRecord:
    part = getattr(record, kind)
    return replace(record, **{kind: {**part, name: change(part[name])}})


PLACES = (
    ("activation", "real/discriminator.conv1"),
    ("activation_gradient", "generator/generator.conv1"),
    ("gradient", KERNEL_GRADIENT),
    ("buffer", "generator/generator.norm1.running_mean"),
    ("state", "parameter/generator.conv2.weight"),
)


@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_a_layers_own_rounding_is_no_culprit_and_ten_times_more_is(kind: str, name: str) -> None:
    for factor, keys in ((0.5, []), (10, [f"{kind}/{name}"])):
        wrong = scaled(taken(), kind, name, lambda value, by=factor: value * (1 + by * 1e-11))
        assert [one.key for one in local_differences(wrong, taken())] == keys, factor


def test_a_fault_is_always_a_culprit() -> None:
    for change in (lambda value: value[:-1], lambda value: value * np.nan, lambda value: value.astype("f4")):
        wrong = scaled(taken(), "gradient", KERNEL_GRADIENT, change)
        (found,) = local_differences(wrong, taken(), noise=lambda: {f"gradient/{KERNEL_GRADIENT}": 1e9})
        assert found.key == f"gradient/{KERNEL_GRADIENT}"
        assert found.fault


@pytest.mark.parametrize(("share", "excused"), [(0.5, True), (2.0, False)])
def test_noise_excuses_only_what_is_small_beside_the_rest(share: float, excused: bool) -> None:
    name = "discriminator/discriminator.dense.bias"
    largest = max(float(np.linalg.norm(value)) for value in taken().gradient.values())
    wrong = scaled(taken(), "gradient", name, lambda value: value + share * FLOAT64_CANCELLED * largest)
    found = local_differences(wrong, taken(), noise=lambda: {f"gradient/{name}": largest})
    assert [one.key for one in found] == ([] if excused else [f"gradient/{name}"])


# --- one step's formula at another -------------------------------------------------------------------------------


def diagnosis(cause: Cause, key: str = "state/parameter/x", step: int = 0) -> Diagnosis:
    return Diagnosis(step, key, cause, Difference(key, relative=0.5), forced=True)


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        (None, True),
        (diagnosis(Cause("learning rate", "2 instead of 1"), step=1), True),
        (diagnosis(Cause("learning rate", "3 instead of 1"), step=1), False),
        (diagnosis(Cause("Adam eps", "2 instead of 1"), step=1), False),
        (diagnosis(UNKNOWN, step=1), False),
        (diagnosis(Cause("Adam eps"), key="gradient/y", step=1), True),
    ],
    ids=["none", "the same", "another value", "another name", "unknown", "another place"],
)
def test_a_name_that_explains_one_step_only_is_taken_back(second: Diagnosis | None, kept: bool) -> None:
    first = diagnosis(Cause("learning rate", "2 instead of 1"))
    found = agreeing(first, second, frozenset({"learning rate"}))
    assert (found.cause == first.cause) == kept
    assert found.key == first.key
    if not kept:
        assert found.cause == UNKNOWN
        assert "step 0 alone looks like learning rate" in found.note
        assert found.note in str(found)


class NAdam(OptimisersAdam):
    @staticmethod
    def _update(x: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        m, v, power = state["exp_avg"], state["exp_avg_sq"], state["beta_power"]
        (b1, b2), (p1, p2) = group["betas"], power.tolist()
        m.mul_(b1).add_((1 - b1) * g)
        v.mul_(b2).add_((1 - b2) * g * g)
        ahead = b1 * m / (1 - p1 * b1) + (1 - b1) * g / (1 - p1)
        x.sub_(group["lr"] * ahead / ((v / (1 - p2)).sqrt() + group["eps"]))
        power.mul_(power.new_tensor([b1, b2]))


class RMSprop(OptimisersAdam):
    @staticmethod
    def _update(x: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        m, v, power = state["exp_avg"], state["exp_avg_sq"], state["beta_power"]
        b1, b2 = group["betas"]
        m.mul_(b1).add_((1 - b1) * g)
        v.mul_(b2).add_((1 - b2) * g * g)
        x.sub_(group["lr"] * g / (v.sqrt() + group["eps"]))
        power.mul_(power.new_tensor([b1, b2]))


@pytest.mark.parametrize("kind", [NAdam, RMSprop])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_optimiser_is_not_called_by_what_its_first_step_looks_like(
    kind: type[OptimisersAdam], network: str, dtype: str
) -> None:
    def plant(stack: TorchStack) -> None:
        stack.optimisers[network].__class__ = kind

    found = found_in(live(dtype, plant), live(dtype), 2)
    assert found is not None
    assert (found.step, str(found.cause)) == (0, f"other optimiser ({kind.__name__})")
    assert found.key.startswith(f"state/parameter/{network}.")
    assert {one.key.rpartition("/")[0] for one in found.culprits} == {"state/parameter"}


# --- order -------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_step_and_not_of_the_alphabet() -> None:
    place = place_in_order(taken().order)
    expected = [
        "activation/sample/generator.conv3",
        "activation/real/discriminator.conv1",
        "loss/discriminator",
        "gradient/discriminator/discriminator.conv1.weight",
        "state/parameter/discriminator.conv1.weight",
        "activation/generator/generator.dense",
        "loss/generator",
        "state/parameter/generator.dense.weight",
        "unknown/a",
        "unknown/b",
    ]
    assert sorted(reversed(expected), key=place) == expected
    assert sorted(expected) != expected


def test_what_only_the_other_run_computed_comes_after_what_it_computed_before_it() -> None:
    place = place_in_order(["a", "b", "c"], ["a", "only", "b", "late", "c"])
    assert sorted(["c", "late", "only", "b", "a"], key=place) == ["a", "only", "b", "late", "c"]
    assert place("sketch/b") == (1.0, "sketch/b"), "a sketch stands where its tensor does"
    assert place("batch") < place("a")
