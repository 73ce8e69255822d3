"""Where two runs part: culprits from forced steps, victims that only inherit, and the order of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

from pygan.data import load
from pygan.parity.locate import Diagnosis, diagnose, diagnose_step, local_differences, mode_differences, place_in_order
from pygan.parity.sides import Live, Together
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")
PLAIN = ("logits", "gradients", "patterns", "state")


def side(dtype: str = "float64") -> Live:
    return Live(TorchStack(FluxTutorialConfig(**NARROW, threads=1, dtype=dtype)), load("digits", limit=22))


def layer(one: Live, path: str) -> Any:
    network, _, name = path.partition(".")
    return one.stack.networks[network].get_submodule(name)


def flip_kernel(one: Live, path: str) -> Live:
    """Turn a convolution's kernel by 180 degrees in what it computes, not in the state."""
    conv = layer(one, path)
    assert isinstance(conv, nn.Conv2d)
    conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)
    return one


def found_in(candidate: Live, reference: Live, steps: int = 2, referee: Live | None = None) -> Diagnosis | None:
    return diagnose(Together(candidate, reference), range(steps), referee)


def test_equal_runs_have_no_diagnosis() -> None:
    assert found_in(side(), side(), 3) is None
    assert found_in(side("float32"), side("float32"), 3, side()) is None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("wrong", ["candidate", "reference"])
@pytest.mark.parametrize("path", ["discriminator.conv1", "discriminator.conv2"])
def test_a_flipped_kernel_is_the_culprit_and_all_after_it_are_victims(path: str, wrong: str, dtype: str) -> None:
    sides = {"candidate": side(dtype), "reference": side(dtype)}
    flip_kernel(sides[wrong], path)
    found = found_in(*sides.values(), referee=side() if dtype == "float32" else None)
    assert found is not None
    assert (found.step, found.key, found.forced) == (0, f"activation/real/{path}", True)
    if wrong == "candidate":
        assert found.cause.name == "kernel not flipped"
    culprits = [one.key for one in found.culprits]
    assert set(culprits) >= {f"activation/{call}/{path}" for call in ("real", "fake", "generator")}
    own = {path} if dtype == "float64" else {path, "discriminator.dense"}  # whose gradients cancel
    assert {key.rpartition("/")[2].removesuffix(".weight").removesuffix(".bias") for key in culprits} <= own | {
        before for before in ("discriminator.drop1", "discriminator.input", "generator.tanh")
    }, "nothing else starts from equal inputs and differs"
    assert "logits/real" in found.victims
    assert "activation/real/discriminator.dense" in found.victims
    assert not set(found.victims) & set(culprits)
    assert found.minimum > 1e-3
    keys = [one.key for one in found.outside]
    assert keys.index("activation/real/discriminator.dense") < keys.index("logits/real") < keys.index("logits/fake")


def test_without_layers_the_first_differing_tensor_stands_for_the_culprit() -> None:
    together = Together(flip_kernel(side(), "discriminator.conv2"), side())
    (pair,) = together.steps(range(1), PLAIN)
    found = diagnose_step(together, pair)
    assert found is not None
    assert (found.key, found.forced) == ("pattern/real/discriminator.leaky2", False)
    assert found.victims == ()
    assert found.outside[1].key == "pattern/fake/discriminator.leaky2"
    assert "first in execution order" in str(found)


def test_the_step_before_a_late_fault_agrees() -> None:
    """The bug shows from the third step on: nothing is reported earlier, and the diagnosis names that step."""
    candidate = side()
    step = candidate.stack.step

    def late(*arguments: Any, **how: Any) -> StepRecord:
        if int(candidate.stack.state()["step"]) == 2:
            layer(candidate, "generator.norm2").momentum = 0.3
        record: StepRecord = step(*arguments, **how)
        return record

    candidate.stack.step = late
    assert found_in(candidate, side(), 2) is None
    candidate.stack.initialise()
    found = found_in(candidate, side(), 4)
    assert found is not None
    assert (found.step, found.key) == (2, "state/buffer/generator.norm2.running_mean")
    assert {one.key for one in found.culprits} == {
        f"state/buffer/generator.norm2.running_{what}" for what in ("mean", "var")
    }


def test_a_wrong_update_is_told_from_a_wrong_gradient() -> None:
    candidate = side()
    candidate.stack.optimisers["generator"].param_groups[0]["lr"] *= 2
    found = found_in(candidate, side())
    assert found is not None
    assert found.key.startswith("state/parameter/generator.")
    assert {one.key.rpartition("/")[0] for one in found.culprits} == {"state/parameter"}
    assert not any(key.startswith("gradient/") for key in found.victims)


def test_a_layer_in_the_wrong_mode_is_named_first() -> None:
    candidate = side()
    drop = layer(candidate, "discriminator.drop1")
    drop.train = lambda mode=True: nn.Module.train(drop, False)
    found = found_in(candidate, side())
    assert found is not None
    assert found.cause.name == "train or eval mode"
    assert found.cause.detail == "eval mode against train mode"
    assert found.key == "mode/real/discriminator.drop1"


def test_modes_are_compared_where_both_sides_say_them() -> None:
    together = Together(side(), side())
    (pair,) = together.steps(range(1), EVERYTHING)
    assert mode_differences(pair) == []
    other = {key: ~value if "drop1" in key else value for key, value in pair.candidate.mode.items()}
    wrong = mode_differences(replace(pair, candidate=replace(pair.candidate, mode=other)))
    assert {one.key for one in wrong} == {f"mode/{key}" for key in other if "drop1" in key}
    assert mode_differences(replace(pair, candidate=replace(pair.candidate, mode={}))) == []


def test_a_difference_without_a_culprit_is_still_reported() -> None:
    """Both sides compute equally from equal values, but one never got the pattern it should have had."""
    together = Together(side(), side())
    (pair,) = together.steps(range(1), EVERYTHING)
    pattern = {key: value.copy() for key, value in pair.candidate.pattern.items()}
    pattern["real/discriminator.leaky1"][0, 0, 0, 0] ^= True
    found = diagnose_step(together, replace(pair, candidate=replace(pair.candidate, pattern=pattern)))
    assert found is not None
    assert found.key == "pattern/real/discriminator.leaky1"
    assert found.cause.name == "on/off pattern"
    assert "1 units with another sign" in found.cause.detail


# --- what counts as a layer's own difference ---------------------------------------------------------------------


def taken(dtype: str) -> StepRecord:
    return side(dtype).step(0, EVERYTHING)


def scaled(record: StepRecord, kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> StepRecord:
    part = getattr(record, kind)
    return replace(record, **{kind: {**part, name: change(part[name])}})


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 3e-5)])
def test_a_layers_own_rounding_is_no_culprit_and_ten_times_more_is(dtype: str, tolerance: float) -> None:
    record = taken(dtype)
    for kind, name in (
        ("activation", "real/discriminator.conv1"),
        ("activation_gradient", "generator/generator.conv1"),
        ("gradient", "generator.conv2.weight"),
        ("state", "parameter/generator.conv2.weight"),
    ):
        for factor, keys in ((0.5, []), (10, [f"{kind}/{name}"])):
            wrong = scaled(record, kind, name, lambda value, by=factor: value * (1 + by * tolerance))
            assert [one.key for one in local_differences(wrong, record)] == keys, (kind, factor)


def test_a_fault_is_always_a_culprit() -> None:
    record = taken("float64")
    name = "generator.conv2.weight"
    for change in (lambda value: value[:-1], lambda value: value * np.nan, lambda value: value.astype("f4")):
        (found,) = local_differences(scaled(record, "gradient", name, change), record)
        assert found.key == f"gradient/{name}"
        assert found.fault


# --- order -------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_step_and_not_of_the_alphabet() -> None:
    order = taken("float64").order
    place = place_in_order(order)
    expected = [
        "activation/sample/generator.conv3",
        "activation/real/discriminator.conv1",
        "loss/discriminator",
        "gradient/discriminator.conv1.weight",
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
