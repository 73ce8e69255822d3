"""Claim: the layout table is right, proven by pushing one-hot weights through real layers of both stacks.

Without Julia the same is proven against Flux's formulas, written down in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flux_formulas
import numpy as np
import pytest
import torch
from compared_runs import config
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.draws import Draws
from pygan.layouts import rule

EPS = flux_formulas.EPS
Tensors = dict[str, Tensor]
Apply = Callable[[dict[str, np.ndarray], np.ndarray, "Case"], tuple[np.ndarray, dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Case:
    """A layer: rows of the table, shapes of its tensors and input in PyTorch's order, what PyTorch computes, and the
    numbers that Flux is given."""

    row: str
    x: tuple[int, ...]
    torch: Callable[[Tensor, Tensors], Tensor]
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    def places(self) -> int:
        """How many one-hot weights there are; 1 for a layer without."""
        return int(np.prod(self.tensors.get("weight", ())))


def both(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"weight": shape, "bias": shape}


KERNEL, TURNED = {"weight": (3, 2, 4, 3)}, {"weight": (2, 3, 4, 3)}
SAME = (2, 1, 2, 1)
CASES = {
    "dense": Case("dense", (2, 4), lambda x, t: F.linear(x, t["weight"]), {"weight": (3, 4)}),
    "conv": Case(
        "conv", (2, 2, 6, 7), lambda x, t: F.conv2d(x, t["weight"], None, 2, 1), KERNEL, {"stride": 2, "pad": 1}
    ),
    "conv padded more on one side": Case(
        "conv",
        (2, 2, 6, 7),
        lambda x, t: F.conv2d(nn.ZeroPad2d((1, 2, 0, 3))(x), t["weight"], None, 2),
        KERNEL,
        {"stride": 2, "pad": (1, 2, 0, 3)},
    ),
    "conv with SamePad": Case(
        "conv",
        (2, 2, 6, 7),
        lambda x, t: F.conv2d(nn.ZeroPad2d(SAME)(x), t["weight"]),
        {"weight": (3, 2, 4, 4)},
        {"stride": 1, "pad": "same"},
    ),
    "conv_transpose": Case(
        "conv_transpose",
        (2, 2, 5, 6),
        lambda x, t: F.conv_transpose2d(x, t["weight"], None, 2, 1),
        TURNED,
        {"stride": 2, "pad": 1},
    ),
    "conv_transpose cropped more on one side": Case(
        "conv_transpose",
        (2, 2, 5, 6),
        lambda x, t: nn.ZeroPad2d((-1, -2, 0, -3))(F.conv_transpose2d(x, t["weight"], None, 2)),
        TURNED,
        {"stride": 2, "pad": (1, 2, 0, 3)},
    ),
    "layer_norm": Case(
        "layer_norm", (3, 5), lambda x, t: F.layer_norm(x, (5,), t["weight"], t["bias"], EPS**2), both(5)
    ),
    "layer_norm_2d": Case(
        "layer_norm_2d",
        (2, 3, 4, 5),
        lambda x, t: F.layer_norm(x, (4, 5), t["weight"], t["bias"], EPS**2),
        both(4, 5),
    ),
    "layer_norm_3d": Case(
        "layer_norm_3d",
        (2, 3, 4, 5),
        lambda x, t: F.layer_norm(x, (3, 4, 5), t["weight"], t["bias"], EPS**2),
        both(3, 4, 5),
    ),
    "group_norm": Case(
        "group_norm",
        (2, 6, 4, 5),
        lambda x, t: F.group_norm(x, 2, t["weight"], t["bias"], EPS),
        both(6),
        {"groups": 2},
    ),
    "mean_pool": Case(
        "mean_pool", (2, 3, 7, 8), lambda x, _: F.avg_pool2d(x, 3, 2, 1), {}, {"size": 3, "stride": 2, "pad": 1}
    ),
    "upsample": Case("upsample", (2, 3, 4, 5), lambda x, _: nn.Upsample(scale_factor=3)(x), {}, {"scale": 3}),
    "pad": Case("pad", (2, 3, 4, 5), lambda x, _: nn.ZeroPad2d((1, 2, 0, 3))(x), {}, {"pad": (1, 2, 0, 3)}),
    "gelu": Case("gelu", (4, 6), lambda x, _: F.gelu(x, approximate="tanh")),
    "sigmoid": Case("sigmoid", (4, 6), lambda x, _: torch.sigmoid(x)),
    "softplus": Case("softplus", (4, 6), lambda x, _: F.softplus(x)),
}


def by_formula(tensors: dict[str, np.ndarray], x: np.ndarray, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Through the table to Flux's order, its formula, and back."""
    kind = case.row.removesuffix("_2d").removesuffix("_3d")
    moved = {name: rule(f"{case.row}.{name}").to_flux(value) for name, value in tensors.items()}
    taps = rule("activation.image" if x.ndim == 4 else "activation.features")
    y = getattr(flux_formulas, kind)(taps.to_flux(x), moved, **case.numbers)
    return taps.to_torch(y), {name: rule(f"{case.row}.{name}").to_torch(value) for name, value in moved.items()}


def check(case: Case, apply: Apply) -> None:
    """PyTorch's output for every one-hot weight, and the tensors as they come back."""
    x = Draws(1).normal(f"x/{case.row}", case.x).astype(np.float64)
    for place in range(case.places()):
        tensors = {name: np.zeros(shape) for name, shape in case.tensors.items()}
        for offset, value in enumerate(tensors.values()):  # the bias is hot beside the weight's place
            value.flat[(place + offset) % value.size] = 1.0
        y, back = apply(tensors, x, case)
        mine = case.torch(torch.from_numpy(x), {name: torch.from_numpy(value) for name, value in tensors.items()})
        np.testing.assert_allclose(y, mine.numpy(), rtol=0, atol=2e-14, err_msg=f"{case.row}, weight {place}")
        for name, value in tensors.items():
            np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize("name", CASES)
def test_one_hot_weights_give_the_same_output_by_fluxs_formulas(name: str) -> None:
    check(CASES[name], by_formula)


@pytest.mark.live
@pytest.mark.parametrize("name", CASES)
def test_one_hot_weights_give_the_same_output_in_both_stacks(name: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    worker = live_flux(config("narrow", "float64")).worker

    def apply(tensors: dict[str, np.ndarray], x: np.ndarray, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        _, answer = worker.ask("apply_layer", {**tensors, "x": x}, kind=case.row, **case.numbers)
        return answer["y"], {key.removeprefix("round_trip/"): value for key, value in answer.items()}

    check(CASES[name], apply)


@pytest.mark.live
def test_an_unflipped_kernel_would_be_seen(live_flux) -> None:  # type: ignore[no-untyped-def]
    worker = live_flux(config("narrow", "float64")).worker
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    x = Draws(1).normal("x", (1, 1, 5, 5)).astype(np.float64)
    weight = layer.weight.detach().numpy()
    flipped = np.ascontiguousarray(weight[:, :, ::-1, ::-1])
    _, answer = worker.ask("apply_layer", {"weight": flipped, "x": x}, kind="conv", stride=1, pad=1)
    assert np.abs(answer["y"] - layer(torch.from_numpy(x)).detach().numpy()).max() > 1e-3


WRONG = {
    "conv padded more on one side": {"pad": (2, 1, 3, 0)},
    "conv_transpose cropped more on one side": {"pad": (2, 1, 3, 0)},
    "conv with SamePad": {"pad": (1, 2, 1, 2)},
    "group_norm": {"groups": 3},
}


@pytest.mark.parametrize("name", WRONG)
def test_other_numbers_would_be_seen(name: str) -> None:
    case = CASES[name]
    wrong = Case(case.row, case.x, case.torch, case.tensors, {**case.numbers, **WRONG[name]})
    with pytest.raises(AssertionError):
        check(wrong, by_formula)
