"""Hints for norms by sample, smooth activations, pooling, upsampling and padding: every name from a planted slip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN, BackwardEvidence, Cause, Evidence, ForwardEvidence
from pygan.stacks.torch_stack import _spec

Function = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wide(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.double()


KINDS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "features": (lambda: [nn.LayerNorm(12)], (8, 12)),
    "maps": (lambda: [nn.LayerNorm((3, 5, 5))], (6, 3, 5, 5)),
    "groups": (lambda: [nn.GroupNorm(2, 6)], (5, 6, 4, 4)),
    "groups and gelu": (lambda: [nn.GroupNorm(2, 6), nn.GELU("tanh")], (5, 6, 4, 4)),
    "gelu": (lambda: [nn.GELU("tanh")], (8, 3, 5, 5)),
    "erf": (lambda: [nn.GELU()], (8, 3, 5, 5)),
    "softplus": (lambda: [nn.Softplus()], (8, 3, 5, 5)),
    "sigmoid": (lambda: [nn.Sigmoid()], (8, 3, 5, 5)),
    "mean": (lambda: [nn.AvgPool2d(2)], (6, 3, 8, 8)),
    "mean with border": (lambda: [nn.AvgPool2d(3, stride=2, padding=1)], (6, 3, 9, 9)),
    "nearest": (lambda: [nn.Upsample(scale_factor=2)], (6, 3, 5, 5)),
    "padding": (lambda: [nn.ZeroPad2d((1, 2, 1, 2))], (6, 3, 7, 7)),
    "padded": (lambda: [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(3, 4, 4, stride=2)], (6, 3, 7, 7)),
    "cropped": (lambda: [nn.ConvTranspose2d(3, 4, 4, stride=2), nn.ZeroPad2d((-1, -2, -1, -2))], (6, 3, 4, 4)),
}


class Case:
    """A chain of one or two layers, its input, and the evidence that an altered one leaves."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        make, shape = KINDS[kind]
        self.layers = [wide(layer) for layer in make()]
        self.x = torch.randn(shape, dtype=torch.float64) + 0.3
        if len(shape) == 4 and kind not in ("softplus", "gelu", "erf"):
            self.x *= 10 ** (-2 * torch.rand(shape[0], shape[1], 1, 1, dtype=torch.float64))

    def right(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def with_(self, place: int, **numbers: Any) -> Function:
        """The chain with other numbers in one of its layers."""
        layers = [deepcopy(layer) for layer in self.layers]
        for name, value in numbers.items():
            setattr(layers[place], name, value)
        return nn.Sequential(*layers)

    def after(self, first: Function) -> Function:
        """The chain with another function for its first layer."""
        return lambda x: nn.Sequential(*self.layers[1:])(first(x))

    def before(self, last: Function) -> Function:
        """The chain with another function for its last layer."""
        return lambda x: last(nn.Sequential(*self.layers[:-1])(x))

    def by_hand(self, root: Callable[[Tensor, int], Tensor]) -> Function:
        """A norm by another root of the variance."""
        norm: Any = self.layers[0]

        def apply(x: Tensor) -> Tensor:
            rows = x.reshape(len(x), norm.num_groups, -1) if isinstance(norm, nn.GroupNorm) else x.flatten(1)
            var, mean = torch.var_mean(rows, -1, correction=0, keepdim=True)
            y = ((rows - mean) / root(var, rows.shape[-1])).reshape(x.shape)
            shape = (1, -1, 1, 1) if isinstance(norm, nn.GroupNorm) else norm.weight.shape
            return y * norm.weight.view(shape) + norm.bias.view(shape)

        return self.after(apply)

    def evidence(self, wrong: Function, gradient: bool = False, mirrored: Function | None = None) -> Evidence:
        """``mirrored`` is a chain that gives the numbers in place of the reference: the slip's own."""
        source: Any = self.layers if mirrored is None else mirrored
        layers = [(f"net.l{place}", _spec(layer)) for place, layer in enumerate(source)]
        tensors = {f"net.l{i}.{name}": p.detach().numpy() for i, layer in enumerate(self.layers) for name, p in
                   layer.named_parameters()}  # fmt: skip
        x = self.x.clone().requires_grad_(gradient)
        mine, theirs = wrong(x), self.right(x)
        common: dict[str, Any] = {"x": self.x.numpy(), "layers": layers, "train": True, "tensors": tensors}
        if not gradient:
            values = mine.detach().numpy(), theirs.detach().numpy()
            return ForwardEvidence("activation/a/net.l0", 3, *values, 1e-10, **common)
        g = torch.randn(theirs.shape, dtype=torch.float64)
        values = [torch.autograd.grad(y, x, g)[0].numpy() for y in (mine, theirs)]
        return BackwardEvidence("activation_gradient/a/net.l0", 3, *values, 1e-10, output_gradient=g.numpy(), **common)


def shifted(sides: tuple[int, ...]) -> Callable[[Case], Function]:
    return lambda c: c.with_(0, padding=sides)


def dealt(c: Case) -> Function:
    norm: Any = c.layers[0]

    def apply(x: Tensor) -> Tensor:
        y = x.reshape(len(x), 3, 2, -1)
        y = (y - y.mean((1, 3), keepdim=True)) / (y.var((1, 3), correction=0, keepdim=True) + norm.eps).sqrt()
        return y.reshape(x.shape) * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)

    return c.after(apply)


SLIPS: list[tuple[str, str, Callable[[Case], Function], str]] = [
    ("norm eps", "features", lambda c: c.with_(0, eps=1e-3), "eps 0.001 instead of 1e-05"),
    ("norm eps", "maps", lambda c: c.with_(0, eps=1e-10), "one is the square of the other"),
    ("norm eps", "groups", lambda c: c.with_(0, eps=1e-3), "eps 0.001 instead of 1e-05"),
    ("norm eps", "groups and gelu", lambda c: c.with_(0, eps=1e-4), "eps 0.0001 instead of 1e-05"),
    ("norm eps outside the root", "maps", lambda c: c.by_hand(lambda var, n: var.sqrt() + 1e-5), ""),
    ("norm eps outside the root", "groups", lambda c: c.by_hand(lambda var, n: var.sqrt() + 1e-5), ""),
    ("norm unbiased variance", "features", lambda c: c.by_hand(lambda v, n: (v * n / (n - 1) + 1e-5).sqrt()), ""),
    ("norm unbiased variance", "groups", lambda c: c.by_hand(lambda v, n: (v * n / (n - 1) + 1e-5).sqrt()), ""),
    ("number of groups", "groups", lambda c: c.with_(0, num_groups=3), "groups 3 instead of 2"),
    ("number of groups", "groups", lambda c: c.with_(0, num_groups=6), "groups 6 instead of 2"),
    ("number of groups", "groups and gelu", lambda c: c.with_(0, num_groups=1), "groups 1 instead of 2"),
    ("norm over other axes", "groups", dealt, "in turn"),
    (
        "norm over other axes",
        "groups",
        lambda c: lambda x: F.batch_norm(x, None, None, c.layers[0].weight, c.layers[0].bias, True),
        "samples, y, x",
    ),
    (
        "norm over other axes",
        "maps",
        lambda c: lambda x: F.instance_norm(x) * c.layers[0].weight + c.layers[0].bias,
        "over y, x",
    ),
    ("norm affine missing", "maps", lambda c: lambda x: F.layer_norm(x, x.shape[1:]), ""),
    (
        "norm affine missing",
        "groups",
        lambda c: lambda x: F.group_norm(x, 2, None, c.layers[0].bias),
        "only the weight",
    ),
    ("other activation", "gelu", lambda c: F.gelu, "gelu by erf instead of gelu by tanh"),
    ("other activation", "groups and gelu", lambda c: c.before(F.gelu), "gelu by erf instead of gelu by tanh"),
    (
        "other activation",
        "erf",
        lambda c: lambda x: F.gelu(x, approximate="tanh"),
        "gelu by tanh instead of gelu by erf",
    ),
    ("other activation", "gelu", lambda c: F.silu, "silu instead of gelu by tanh"),
    ("other activation", "sigmoid", lambda c: F.hardsigmoid, "hardsigmoid instead of sigmoid"),
    ("activation missing", "gelu", lambda c: lambda x: x * 1, ""),
    ("softplus", "softplus", lambda c: lambda x: F.softplus(x, 2.5), "beta 2.5 instead of 1"),
    ("softplus", "softplus", lambda c: lambda x: F.softplus(x, 0.7), "beta 0.7 instead of 1"),
    ("other activation", "softplus", lambda c: torch.relu, "relu instead of softplus"),
    ("other pooling", "mean", lambda c: lambda x: F.max_pool2d(x, 2), "the largest of 2, stride 2 instead of the mean"),
    ("other pooling", "mean", lambda c: lambda x: x[..., ::2, ::2] * 1, "of 1, stride 2"),
    ("other pooling", "mean with border", lambda c: c.with_(0, count_include_pad=False), "border not counted"),
    ("scaled output", "mean", lambda c: lambda x: 4 * F.avg_pool2d(x, 2), "times 4"),
    ("other upsampling", "nearest", lambda c: lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "bilinear"),
    (
        "other upsampling",
        "nearest",
        lambda c: lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        "bilinear, corners aligned",
    ),
    ("stride or padding", "padding", shifted((2, 1, 2, 1)), "(2, 1, 2, 1) instead of (1, 2, 1, 2)"),
    ("stride or padding", "padded", shifted((2, 1, 2, 1)), "(2, 1, 2, 1) instead of (1, 2, 1, 2)"),
    ("stride or padding", "padded", shifted((1, 2, 2, 1)), "(1, 2, 2, 1) instead of (1, 2, 1, 2)"),
    (
        "stride or padding",
        "padded",
        lambda c: c.after(lambda x: F.pad(x, (1, 2, 1, 2), "replicate")),
        "border replicate",
    ),
    ("stride or padding", "cropped", lambda c: c.with_(1, padding=(-2, -1, -2, -1)), "(-2, -1, -2, -1) instead of"),
]


def named(case: Case, evidence: Evidence) -> Cause:
    cause = name_cause(evidence)
    assert cause.name in CAUSES
    return cause


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("name", "kind", "slip", "detail"), SLIPS)
def test_planted_slip_is_named(
    name: str, kind: str, slip: Callable[[Case], Function], detail: str, gradient: bool
) -> None:
    if gradient and name == "scaled output":
        name, detail = "gradient scaled", ""
    if gradient and name == "norm affine missing":  # a bias does not show there
        detail = ""
    case = Case(kind)
    cause = named(case, case.evidence(slip(case), gradient))
    assert cause.name == name, cause
    assert detail in cause.detail


MIRRORED: list[tuple[str, str, int, dict[str, Any], str]] = [
    ("norm eps", "maps", 0, {"eps": 1e-3}, "eps 0.001 instead of 1e-05"),
    ("norm eps", "groups", 0, {"eps": 1e-3}, "eps 0.001 instead of 1e-05"),
    ("number of groups", "groups", 0, {"num_groups": 3}, "groups 3 instead of 2"),
    ("other activation", "gelu", 0, {"approximate": "none"}, "gelu by erf instead of gelu by tanh"),
    ("softplus", "softplus", 0, {"beta": 2.0}, "beta 2 instead of 1"),
    ("other upsampling", "nearest", 0, {"mode": "bilinear"}, "bilinear instead of nearest"),
    ("stride or padding", "padded", 0, {"padding": (2, 1, 2, 1)}, "(2, 1, 2, 1) instead of (1, 2, 1, 2)"),
    ("stride or padding", "cropped", 1, {"padding": (-2, -1, -2, -1)}, "(-2, -1, -2, -1) instead of (-1, -2, -1, -2)"),
]


@pytest.mark.parametrize(("name", "kind", "place", "numbers", "detail"), MIRRORED)
def test_numbers_that_are_the_candidates_are_turned_round(
    name: str, kind: str, place: int, numbers: dict[str, Any], detail: str
) -> None:
    """The layers' numbers come from the stack that is led, which may be the one with the slip."""
    case = Case(kind)
    wrong = case.with_(place, **numbers)
    cause = named(case, case.evidence(wrong, mirrored=wrong))
    assert cause.name == name and cause.detail.endswith(detail)


def test_the_largest_in_place_of_the_mean_is_named_from_the_other_side_too() -> None:
    case = Case("mean")
    wrong = nn.Sequential(nn.MaxPool2d(2))
    cause = named(case, case.evidence(wrong, mirrored=wrong))
    assert str(cause) == "other pooling (the largest of 2, stride 2 instead of the mean of 2, stride 2)"


def test_a_threshold_of_softplus_shows_where_inputs_are_beyond_it() -> None:
    case = Case("softplus")
    case.x = torch.linspace(-5, 24, 600, dtype=torch.float64).reshape(2, 3, 10, 10)
    evidence = replace(case.evidence(lambda x: F.softplus(x, threshold=1e4)), tolerance=1e-13)
    assert str(name_cause(evidence)) == "softplus (threshold 10000 instead of 20)"


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1e-15, 1e-6])
def test_no_slip_is_read_into_agreement_or_noise(kind: str, noise: float, gradient: bool) -> None:
    case = Case(kind)
    evidence = case.evidence(case.right, gradient)
    spread = noise * np.random.default_rng(9).standard_normal(evidence.reference.shape)
    spread *= np.abs(evidence.reference).max()
    assert name_cause(replace(evidence, candidate=evidence.candidate + spread)) == UNKNOWN
