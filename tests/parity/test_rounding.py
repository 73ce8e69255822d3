"""The level of noise of each kind of layer: what torch's own Float32 operation leaves is below it, and not far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from pygan.parity.rounding import (
    UNIT,
    Noise,
    backward_noise,
    elementwise_backward,
    forward_noise,
    plain,
    update_levels,
)
from pygan.parity.tolerances import LOCAL_FACTOR
from pygan.recipes.dropout import Dropout

NO_BLANK_CHEQUE = 1 / 200
"""Least share of its level that a real error must reach."""
SEEDS = range(3)
Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], Shape]

PRODUCTS: dict[str, Case] = {
    "dense narrow": (lambda: nn.Linear(5, 40), (8, 5)),
    "dense long": (lambda: nn.Linear(1500, 30), (16, 1500)),
    "dense bare": (lambda: nn.Linear(100, 3, bias=False), (6, 100)),
    "conv first": (lambda: nn.Conv2d(1, 4, 4, stride=2, padding=1), (8, 1, 28, 28)),
    "conv wide": (lambda: nn.Conv2d(24, 16, 3, padding=1), (4, 24, 9, 9)),
    "conv of one": (lambda: nn.Conv2d(6, 5, 1, bias=False), (3, 6, 7, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1, bias=False), (8, 8, 7, 7)),
    "transposed wide": (lambda: nn.ConvTranspose2d(24, 12, 5, padding=2), (4, 24, 7, 7)),
}
NORMS: dict[str, Case] = {
    "norm of features": (lambda: nn.BatchNorm1d(30), (16, 30)),
    "norm of few samples": (lambda: nn.BatchNorm1d(50), (3, 50)),
    "norm of maps": (lambda: nn.BatchNorm2d(4), (8, 4, 14, 14)),
    "norm without affine": (lambda: nn.BatchNorm2d(3, affine=False), (4, 3, 9, 7)),
}
ELEMENTS: dict[str, Case] = {
    "tanh": (nn.Tanh, (8, 3, 14, 14)),
    "leaky": (lambda: nn.LeakyReLU(0.2), (8, 3, 14, 14)),
}
BY_SAMPLE: dict[str, Case] = {
    "norm of samples": (lambda: nn.LayerNorm(200), (8, 200)),
    "norm of whole maps": (lambda: nn.LayerNorm((4, 7, 7)), (8, 4, 7, 7)),
    "norm of rows": (lambda: nn.LayerNorm((7,), elementwise_affine=False), (8, 4, 7, 7)),
    "norm of groups": (lambda: nn.GroupNorm(2, 6), (4, 6, 9, 9)),
    "norm of one group": (lambda: nn.GroupNorm(1, 4), (3, 4, 14, 14)),
    "norm of groups without affine": (lambda: nn.GroupNorm(3, 6, affine=False), (4, 6, 5, 7)),
}
SMOOTH: dict[str, Case] = {
    "gelu by tanh": (lambda: nn.GELU("tanh"), (8, 3, 14, 14)),
    "gelu by erf": (nn.GELU, (8, 3, 14, 14)),
    "softplus": (nn.Softplus, (8, 3, 14, 14)),
    "sigmoid": (nn.Sigmoid, (8, 3, 14, 14)),
}
POOLS: dict[str, Case] = {
    "mean of windows": (lambda: nn.AvgPool2d(3), (8, 3, 12, 12)),
    "mean of windows that overlap": (lambda: nn.AvgPool2d(5, stride=2, padding=1), (8, 3, 14, 14)),
    "nearest": (lambda: nn.Upsample(scale_factor=3), (8, 3, 7, 7)),
}
ALL = {
    **PRODUCTS,
    **{f"{name}, {mode}": case for name, case in NORMS.items() for mode in ("train", "eval")},
    **ELEMENTS,
    **BY_SAMPLE,
    **SMOOTH,
    **POOLS,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name: str, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer of Float32 numbers held as Float64, its input, and the gradient of its output; not all of one size."""
    torch.manual_seed(seed)
    make, shape = ALL[name]
    layer = make()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.1 * seed, 0.3)
    shift = 0.5 * seed if "norm" in name else 0.0
    x = (torch.randn(shape) + shift) * 10.0 ** (seed - 1)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
        layer.train("train" in name)
    like = deepcopy(layer)(x).detach()
    return layer.double(), x.double(), torch.randn(like.shape).double()


def taken(layer: nn.Module, x: Tensor, gradient: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Everything that one call makes in ``dtype``, and the statistics that it leaves."""
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer = layer.to(dtype)
    x = x.detach().to(dtype, copy=True).requires_grad_()
    y = layer(x)
    y.backward(gradient.to(dtype))
    found = {"output": y.detach(), "input": x.grad}
    for name, parameter in layer.named_parameters():
        found[name] = parameter.grad.clone()
        parameter.grad = None
    if layer.training:
        found |= {name: value.clone() for name, value in layer.named_buffers() if name.startswith("running")}
    layer.double().load_state_dict(before)
    return {name: value.double() for name, value in found.items()}


def levels(layer: nn.Module, x: Tensor, gradient: Tensor, right: dict[str, Tensor]) -> dict[str, float]:
    """The level of each result, as a 2-norm."""
    noise = forward_noise(layer, x, right["output"])
    backward_noise(layer, x, gradient, noise)
    by_input = (
        noise.input_gradient if noise.input_gradient.parts else elementwise_backward(layer, gradient, right["input"])
    )
    found = {
        "output": noise.output.square(torch.zeros_like(right["output"])) ** 0.5,
        "input": by_input.square(x) ** 0.5,
    }
    found |= {name: float(square.sum()) ** 0.5 for name, square in noise.parameters.items()}
    return found | {name: float(level.norm()) for name, level in noise.buffers.items()}


def shares(name: str, seed: int) -> dict[str, float]:
    """Float32's actual error of each result over its level."""
    layer, x, gradient = made(name, seed)
    right = taken(layer, x, gradient, torch.float64)
    mine = taken(layer, x, gradient, torch.float32)
    level = levels(layer, x, gradient, right)
    assert level.keys() == right.keys(), "every result has a level"
    return {key: float((mine[key] - right[key]).norm()) / level[key] for key in right if level[key] > 0}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALL)
def test_the_error_of_torchs_own_operation_is_inside_its_level_and_not_far_from_it(name: str, seed: int) -> None:
    found = shares(name, seed)
    assert {"output", "input"} <= found.keys() | ({"output"} if name == "nearest" else set()), "copies are exact"
    for key, share in found.items():
        assert share < LOCAL_FACTOR, (key, share)
        assert share > NO_BLANK_CHEQUE, (key, share)


@pytest.mark.parametrize(
    "name",
    [*("dense long", "conv wide", "transposed", "norm of maps, train", "tanh"), "norm of whole maps", "norm of groups"],
)
def test_an_operation_on_factors_of_11_bits_is_outside(name: str) -> None:
    """TF32 keeps so many: the level tells it from Float32."""
    layer, x, gradient = made(name, 1)
    right = taken(layer, x, gradient, torch.float64)
    level = levels(layer, x, gradient, right)
    short = taken(layer, shortened(x), gradient, torch.float64)
    assert float((short["output"] - right["output"]).norm()) > LOCAL_FACTOR * level["output"]
    back = taken(layer, x, shortened(gradient), torch.float64)
    for key in back.keys() - {"output", "running_mean", "running_var"}:
        assert float((back[key] - right[key]).norm()) > LOCAL_FACTOR * level[key], key


def shortened(x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent)


# --- noise by itself ---------------------------------------------------------------------------------------------


def test_a_sample_of_noise_has_the_size_that_it_claims() -> None:
    like = torch.zeros(6, 5, 4, dtype=torch.float64)
    channel = torch.rand(1, 5, 1, dtype=torch.float64)
    parts = ((torch.full_like(like, 2.0), (6, 5, 4)), (channel, (1, 5, 1)))
    noise, generator = Noise(parts), torch.Generator().manual_seed(0)
    assert noise.square(like) == pytest.approx(4 * 120 + 24 * float(channel.square().sum()))
    drawn = [noise.draw(like, generator).square().sum().item() for _ in range(400)]
    assert sum(drawn) / len(drawn) == pytest.approx(noise.square(like), rel=0.1)
    common = Noise(parts[1:]).draw(like, generator)
    assert float((common - common[:1, :, :1]).abs().max()) == 0, "a statistic's error is that of all its elements"


def test_the_same_seed_gives_the_same_sample() -> None:
    noise, like = plain(torch.ones(50)), torch.zeros(50)
    one, same, other = (noise.draw(like, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_layers_that_only_move_values_leave_no_noise() -> None:
    x = torch.randn(4, 6)
    for layer in (nn.Flatten(), nn.Identity(), nn.Unflatten(1, (2, 3)), nn.ZeroPad2d((0, 1, 0, 0))):
        assert forward_noise(layer, x, layer(x)).output.parts == ()
        assert elementwise_backward(layer, x, x).parts == ()


def test_a_kept_unit_of_dropout_is_an_element_and_an_unknown_layer_is_a_sum_over_its_sample() -> None:
    x = torch.randn(4, 6, dtype=torch.float64)
    dropped = forward_noise(Dropout(0.3, 1 / 0.7), x, x / 0.7).output.square(x)
    assert dropped == pytest.approx((4 * UNIT) ** 2 * float((x / 0.7).square().sum()))
    odd = nn.Bilinear(6, 6, 3).double()
    y = odd(x, x).detach()
    assert forward_noise(odd, x, y).output.square(y) > 6 * UNIT**2 * float(y.square().sum())


def test_noise_grows_with_the_root_of_the_number_of_terms() -> None:
    sizes = []
    for count in (100, 400, 1600):
        layer = nn.Linear(count, 50, bias=False).double()
        nn.init.normal_(layer.weight)
        x = torch.randn(20, count, dtype=torch.float64)
        y = layer(x).detach()
        sizes.append((forward_noise(layer, x, y).output.square(y) / float(y.square().sum())) ** 0.5)
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.15)
    assert sizes[2] / sizes[1] == pytest.approx(2, rel=0.15)


def test_an_updates_level_follows_the_larger_of_what_was_there_and_what_is() -> None:
    before = {"a": torch.tensor([3.0, 0.0]), "b": torch.zeros(2)}
    after = {"a": torch.tensor([0.0, 4.0]), "b": torch.zeros(2)}
    found = update_levels(before, after)
    assert found == {"a": pytest.approx(4 * UNIT * 5), "b": 0.0}
