"""Every fast layer computes what the idiomatic one does, forwards and backwards, over the very same parameters."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.dropout import Dropout
from pygan.stacks.fast import fourier
from pygan.stacks.fast.adam import FusedAdam
from pygan.stacks.fast.fourier import FourierConvTranspose2d
from pygan.stacks.fast.layers import (
    ChannelsLastConv2d,
    ChannelsLastConvTranspose2d,
    FastDropout,
    FastSequential,
    fast_layer,
    fast_network,
)
from pygan.stacks.fast.norm import FastBatchNorm1d, FastBatchNorm2d
from pygan.stacks.fast.patches import PatchConv2d, PatchConvTranspose2d, from_patches, patches

few = settings(max_examples=40, deadline=None)
small = st.integers(1, 4)


def run(layer: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    """Output, gradient by input, gradients by parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    assert y.shape == gradient.shape
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], gradient)]


def assert_same(fast: nn.Module, plain: nn.Module, x: Tensor, tolerance: float = 1e-12) -> None:
    torch.manual_seed(0)
    gradient = torch.randn_like(plain(x))
    for memory in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=memory) if x.dim() == 4 else x
        for mine, theirs in zip(run(fast, given, gradient), run(plain, x, gradient), strict=True):
            assert (mine - theirs).norm() <= tolerance * max(1.0, theirs.norm())


@few
@given(st.integers(3, 12), st.integers(2, 5), st.integers(0, 3), small, small, st.integers(2, 4))
def test_fourier_convolution(size: int, kernel: int, padding: int, count: int, channels: int, outputs: int) -> None:
    assume(fourier.pays(size, kernel, padding))
    plain = nn.ConvTranspose2d(channels, outputs, kernel, padding=padding, bias=False, dtype=torch.float64)
    fast = fast_layer(plain)
    assert type(fast) is FourierConvTranspose2d and fast.weight is plain.weight
    x = torch.randn(count, channels, size, size, dtype=torch.float64)
    assert_same(fast, plain, x)
    with torch.no_grad():
        fast(x)
    assert fast._spectrum is not None, "it went another way"
    assert_same(fast, plain, x)


@pytest.mark.parametrize("shape", [(3, 2, 7, 9), (3, 2, 2, 2)], ids=["not square", "too small to pay"])
def test_other_maps_go_the_plain_way(shape: tuple[int, ...]) -> None:
    plain = nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False, dtype=torch.float64)
    fast = fast_layer(plain)
    x = torch.randn(shape, dtype=torch.float64)
    assert_same(fast, plain, x)
    with torch.no_grad():
        fast(x)
    assert fast._spectrum is None


def test_the_published_geometry_needs_121_products_and_both_gradients_are_right_in_float32() -> None:
    given = fourier.transforms(7, 5, 2, torch.float32, torch.device("cpu"))
    assert [tuple(one.shape) for one in (given.to_products, given.kernel_to_products, given.to_output)] == [
        (121, 49), (121, 25), (121, 49),
    ]  # fmt: skip
    plain = nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False)
    wide = nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False, dtype=torch.float64)
    wide.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    x, gradient = torch.randn(16, 256, 7, 7).relu(), torch.randn(16, 128, 7, 7)
    truth = run(wide, x.double(), gradient.double())
    for mine, direct, right in zip(run(fast_layer(plain), x, gradient), run(plain, x, gradient), truth, strict=True):
        error = ((mine - right).norm() / right.norm()).item()
        assert error < 4 * ((direct - right).norm() / right.norm()).item() and error < 1e-6


def test_the_spectrum_is_of_the_weights_until_told_to_forget() -> None:
    plain = nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False)
    fast: Any = fast_layer(plain)
    x = torch.randn(2, 2, 7, 7)
    with torch.no_grad():
        before = fast(x)
        plain.weight.mul_(2)
        assert torch.equal(fast(x), before)
        fast.forget()
        torch.testing.assert_close(fast(x), 2 * before)


def test_a_call_with_gradients_uses_the_spectrum_and_lets_it_go() -> None:
    fast: Any = fast_layer(nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False))
    x = torch.randn(2, 2, 7, 7)
    with torch.no_grad():
        before = fast(x)
    kept = [weakref.ref(part) for part in fast._spectrum]
    after = fast(x)
    assert torch.equal(after, before) and after.requires_grad
    assert fast._spectrum is None and [one() for one in kept] == [None, None], "nor does the graph hold it"


@few
@given(st.integers(5, 12), st.integers(5, 12), st.integers(2, 5), st.integers(1, 3), st.integers(0, 2), small, small)
def test_convolutions_of_one_channel(
    height: int, width: int, kernel: int, stride: int, padding: int, count: int, channels: int
) -> None:
    assume(padding < kernel)
    for bias in (True, False):
        plain = nn.Conv2d(1, channels, kernel, stride=stride, padding=padding, bias=bias, dtype=torch.float64)
        fast = fast_layer(plain)
        assert type(fast) is PatchConv2d and all(
            mine is theirs for mine, theirs in zip(fast.parameters(), plain.parameters(), strict=True)
        )
        assert_same(fast, plain, torch.randn(count, 1, height, width, dtype=torch.float64))
    back = nn.ConvTranspose2d(channels, 1, kernel, stride=stride, padding=padding, bias=False, dtype=torch.float64)
    assert type(fast_layer(back)) is PatchConvTranspose2d
    assert_same(fast_layer(back), back, torch.randn(count, channels, height, width, dtype=torch.float64))


def test_patches_and_their_transpose_are_adjoint() -> None:
    images = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    windows = patches(images, 4, 2, 1)
    other = torch.randn_like(windows)
    back = from_patches(other.flatten(3).flatten(1, 2).transpose(1, 2), 4, 2, 1, (9, 8))
    torch.testing.assert_close((windows * other).sum(), (images * back).sum())


@pytest.mark.parametrize(
    ("plain", "kind", "channels"),
    [
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), ChannelsLastConv2d, 2),
        (nn.Conv2d(2, 4, (3, 2), groups=2), ChannelsLastConv2d, 2),
        (nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d, 1),
        (nn.Conv2d(1, 4, 3, dilation=2), ChannelsLastConv2d, 1),
        (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), ChannelsLastConvTranspose2d, 2),
        (nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1), ChannelsLastConvTranspose2d, 2),
        (nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1, bias=False), ChannelsLastConvTranspose2d, 2),
    ],
    ids=str,
)
def test_what_has_no_special_form_only_changes_its_memory(plain: nn.Module, kind: type, channels: int) -> None:
    plain.double()
    fast = fast_layer(plain)
    assert type(fast) is kind
    assert_same(fast, plain, torch.randn(3, channels, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 2), nn.Tanh(), nn.BatchNorm2d(3, affine=False), nn.BatchNorm1d(3, momentum=None)], ids=str
)
def test_other_layers_stay_the_same_objects(layer: nn.Module) -> None:
    assert fast_layer(layer) is layer


def test_a_network_that_is_no_chain_stays_as_it_is() -> None:
    other = nn.ModuleList([nn.Linear(2, 2)])
    assert fast_network(other) is other


# --- BatchNorm ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 3)], ids=["features", "maps"])
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_batch_norm_and_its_running_statistics(shape: tuple[int, ...], train: bool) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    plain, other = (kind(5, eps=1e-3, momentum=0.3, dtype=torch.float64) for _ in range(2))
    torch.manual_seed(4)
    with torch.no_grad():
        for layer in (plain, other):
            layer.weight.copy_(torch.linspace(-1, 2, 5))
            layer.bias.copy_(torch.linspace(1, -2, 5))
    fast: Any = fast_layer(other).train(train)
    assert type(fast) in (FastBatchNorm1d, FastBatchNorm2d) and fast.running_var is other.running_var
    plain.train(train)
    for _ in range(3):
        assert_same(fast, plain, torch.randn(shape, dtype=torch.float64) * 3 + 5)
    plain(torch.zeros(shape, dtype=torch.float64))  # assert_same calls it once more
    fast(torch.zeros(shape, dtype=torch.float64))
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(fast.and_relu(x), torch.relu(plain(x)))


def test_batch_norms_sums_stay_at_rounding_where_torchs_channels_last_ones_do_not() -> None:
    torch.manual_seed(0)
    x = (torch.randn(512, 4, 14, 14) + 0.3).contiguous(memory_format=torch.channels_last)
    layers = {"fast": fast_layer(nn.BatchNorm2d(4, momentum=1.0)), "torch": nn.BatchNorm2d(4, momentum=1.0)}
    truth = x.double().mean((0, 2, 3))
    errors = {}
    for name, layer in layers.items():
        layer(x)
        errors[name] = float((layer.running_mean - truth).norm() / truth.norm())
    assert errors["fast"] < 3e-7 and errors["fast"] < errors["torch"]


# --- dropout, and layers computed together -------------------------------------------------------------------


def chain(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 6, 3, stride=2, padding=1),
            norm=nn.BatchNorm2d(6),
            relu=nn.ReLU(),
            mix=nn.Conv2d(6, 4, 3, padding=1),
            leaky=nn.LeakyReLU(0.2),
            drop=Dropout(0.3, 1 / 0.7),
            flatten=nn.Flatten(),
            dense=nn.Linear(4 * 4 * 4, 3),
        )
    ).to(dtype)


def with_masks(network: nn.Sequential) -> nn.Sequential:
    generator = torch.Generator().manual_seed(5)
    keep = torch.rand((5, 4, 4, 4), generator=generator) >= 0.3
    next(layer for layer in network if isinstance(layer, Dropout)).source = lambda shape, rate: keep.double()
    return network


def test_a_chain_is_the_same_watched_or_not() -> None:
    x = torch.randn(5, 2, 8, 8, dtype=torch.float64)
    plain, fast, watched = with_masks(chain()), with_masks(fast_network(chain())), with_masks(fast_network(chain()))
    assert isinstance(fast, FastSequential) and [*fast._modules] == [*plain._modules]
    seen = []
    for name, layer in watched.named_children():
        layer.register_forward_hook(lambda _, __, y, name=name: seen.append((name, y.shape)))
    for other in (fast, watched):
        assert_same(other, plain, x)
    assert [name for name, _ in seen[:8]] == [*plain._modules]


def test_layers_are_computed_together_only_where_nobody_interferes() -> None:
    x = torch.randn(5, 2, 8, 8, dtype=torch.float64)
    network = with_masks(fast_network(chain()))
    right = network(x)
    called = []
    own = network.relu.forward
    network.relu.forward = lambda y: called.append(1) or own(y)
    torch.testing.assert_close(network(x), right)
    assert called, "a forward that was put in its place is not passed over"


def test_dropout_follows_the_memory_of_what_it_drops() -> None:
    x = torch.randn(5, 4, 4, 4).contiguous(memory_format=torch.channels_last)
    keep = torch.rand(5, 4, 4, 4) >= 0.3
    fast, plain = FastDropout(0.3, 1 / 0.7), Dropout(0.3, 1 / 0.7)
    fast.source = plain.source = lambda shape, rate: keep.float()
    assert torch.equal(fast(x), plain(x)) and fast(x).is_contiguous(memory_format=torch.channels_last)
    assert fast(x.contiguous()).is_contiguous()
    fast.eval()
    assert fast(x) is x


# --- Adam ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])
def test_the_fused_adam_takes_the_same_steps_over_the_same_state(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    start = torch.randn(50, 40, dtype=dtype)
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    plain, base = (OptimisersAdam([x], 2e-4, (0.9, 0.999), 1e-8) for x in (one, two))
    fused = FusedAdam.over(base)
    assert type(fused) is FusedAdam and fused.state is base.state
    for step in range(30):
        gradient = torch.randn_like(start) * 10.0 ** (step % 5 - 3)
        one.grad, two.grad = gradient.clone(), gradient.clone()
        plain.step()
        fused.step()
    moved = (one - start).norm()
    assert (one - two).norm() <= tolerance * moved
    for key, value in plain.state[one].items():
        assert (value - fused.state[two][key]).norm() <= (1e-15 if dtype == torch.float64 else 2e-7) * value.norm()
    assert torch.equal(plain.state[one]["beta_power"], fused.state[two]["beta_power"])


def test_a_parameter_without_gradient_is_left_alone_and_other_optimisers_stay() -> None:
    x = nn.Parameter(torch.ones(3))
    fused = FusedAdam.over(OptimisersAdam([x], 1e-3, (0.9, 0.999), 1e-8))
    fused.step()
    assert torch.equal(x, torch.ones(3)) and not fused.state[x]["exp_avg"].any()
    other = torch.optim.SGD([x], lr=0.1)
    assert FusedAdam.over(other) is other
