"""Units with another sign than in the referee: admitted where their input is noise, and nowhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float32_runs import against, words
from parity_runs import EVERYTHING, altered, live, stepped

from pygan.parity.float32 import _flip, patterns_of
from pygan.parity.sides import Recorded
from pygan.parity.tolerances import KINK_FACTOR
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

UNIT_AT = (3, 0, 4, 5)
LEAKY = "real/discriminator.leaky1"


def near_zero(stack: TorchStack) -> None:
    """One unit's input of the first leaky relu is nothing but rounding: its channel's bias takes it away."""
    stack.networks["discriminator"].conv1.bias.data[0] = -float(first_input())


@cache
def first_input() -> np.float32:
    record = live("float32").step(0, EVERYTHING)
    return np.float32(record.activation["real/discriminator.conv1"][UNIT_AT])


def switched(stack: TorchStack) -> None:
    """The same start, and the unit's input has the other sign in Float32."""
    near_zero(stack)
    conv: Any = stack.networks["discriminator"].conv1
    own = conv.forward

    def other_sign(x: torch.Tensor) -> torch.Tensor:
        y = own(x)
        if y.dtype is torch.float32 and abs(float(y.detach()[UNIT_AT])) < 1e-6:
            gap = torch.zeros_like(y)
            gap[UNIT_AT] = torch.copysign(torch.tensor(1e-9), -right_input()) - y.detach()[UNIT_AT]
            y = y + gap
        return y

    conv.forward = other_sign


@cache
def right_input() -> torch.Tensor:
    """What enters that unit in Float64."""
    side = live("float32", near_zero)
    record = side.in_float64.step(0, EVERYTHING, side.stack.state())
    return torch.tensor(float(record.activation["real/discriminator.conv1"][UNIT_AT]))


def test_a_unit_switched_within_the_noise_is_admitted_and_its_numbers_explained() -> None:
    stepping = stepped(live("float32", switched), live("float32", near_zero))
    mine = [one for one in stepping.flips if "(candidate)" in one["where"]]
    assert [(one["where"], one["units"]) for one in mine] == [(f"pattern/{LEAKY} (candidate)", 1)]
    assert mine[0]["largest"] == pytest.approx(abs(float(right_input())), rel=1e-6)
    assert mine[0]["largest"] < mine[0]["noise"] < 1e-5
    assert words(stepping) == {AGREE}
    (row,) = [row for row in stepping.rows() if row.claim == "ReLU sign flips"]
    assert row.compared >= 1


def test_a_unit_switched_far_from_zero_is_refused_and_named() -> None:
    def plant(stack: TorchStack) -> None:
        leaky: Any = stack.networks["discriminator"].leaky1
        own = leaky.forward

        def forward(x: torch.Tensor) -> torch.Tensor:
            if x.dtype is not torch.float32:
                return own(x)
            scale = torch.ones_like(x)
            place = x.detach().abs().argmax()
            scale.view(-1)[place] = leaky.negative_slope if x.view(-1)[place] > 0 else 1 / leaky.negative_slope
            return own(x) * scale

        leaky.forward = forward

    stepping = stepped(live("float32", plant), live("float32"))
    assert DIFFERS in words(stepping)
    found = stepping.diagnosis()
    assert found is not None
    assert found.key == f"activation/{LEAKY}", "fed the referee's values, the leaky relu is off by itself"


def test_a_pattern_that_no_number_follows_is_refused(clean, tmp_path: Path) -> None:
    """A recording that says another unit was on than was, far from zero: its own numbers contradict it."""

    def flip(places: np.ndarray) -> np.ndarray:
        return np.array([[0, 0, 0, 0]], np.int64)

    wrong = Recorded(altered(clean(0).trace, tmp_path / "a", 0, "flip", LEAKY, flip))
    stepping = against(live("float32"), wrong)
    assert [one["where"] for one in stepping.flips] == [f"pattern/{LEAKY} (reference)"]
    (row,) = [row for row in stepping.rows() if row.claim == "ReLU sign flips"]
    assert (row.verdict, row.reason) == (DIFFERS, "1 of 1 outside the tolerance")
    assert row.measured is not None
    assert row.allowed is not None
    assert row.measured > 1000 * row.allowed
    found = stepping.diagnosis()
    assert found is not None
    assert any(one.key == f"pattern/{LEAKY} (reference)" for one in found.outside)


def test_each_unit_is_weighed_by_the_noise_of_its_channel() -> None:
    places, noise = np.array([[0, 0, 1, 1], [5, 1, 2, 2]]), np.array([1e-3, 1e-6])
    for inputs, worst, ok in (
        ([7e-3, 7e-6], 0, True),
        ([7e-3, -9e-6], 1, False),
        ([9e-3, 1e-6], 0, False),
        ([1e-3, 1e-3], 1, False),
    ):
        judged = _flip("call/net.relu", places, np.array(inputs), noise)
        assert judged.ok == ok
        assert judged.difference.worst == tuple(places[worst])
        assert judged.allowed == pytest.approx(KINK_FACTOR * noise[worst])
        assert judged.value == abs(inputs[worst])
        assert judged.key == "pattern/call/net.relu"
        assert judged.difference.shape == (2,)
    assert _flip("dense", np.array([[3]]), np.array([1e-7]), noise).ok, "without channels the largest noise counts"
    assert not _flip("x", places, np.array([np.nan, 0.0]), noise).ok


def test_patterns_come_in_full_or_as_flips_of_the_true_ones() -> None:
    truth = StepRecord(0, pattern={"a": np.array([[True, False], [False, False]]), "b": np.zeros(3, bool)})
    whole = StepRecord(0, pattern={"a": ~truth.pattern["a"], "b": np.zeros(4, bool), "other": np.ones(1, bool)})
    assert patterns_of(whole, truth).keys() == {"a"}, "another shape is told elsewhere"
    flips = StepRecord(0, flip={"a": np.array([[0, 0], [1, 1]]), "b": np.empty((0, 1), np.int64)})
    (name, made), *rest = patterns_of(flips, truth).items()
    assert (name, rest) == ("a", [])
    assert made.tolist() == [[False, False], [False, True]]
    assert truth.pattern["a"].tolist() == [[True, False], [False, False]], "the referee's own stays"
    assert patterns_of(StepRecord(0), truth) == {}
