"""On/off patterns come from the code that trains: asking for them neither changes a bit nor takes joined layers apart,
and a fault in the code of joined layers shows in a step whose patterns are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from static_runs import assert_same_state, batches, config
from torch import Tensor, nn

from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks.fast import LAYER_CHANGES, layers, norm
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.fast.static import StaticTorchStack
from pygan.stacks.torch_stack import TorchStack

CAPTURE = ("logits", "gradients", "patterns", "state")
STACKS = [FastTorchStack, StaticTorchStack]
KEYS = {
    *(f"{call}/discriminator.leaky{number}" for call in ("real", "fake", "generator") for number in (1, 2)),
    *(f"generator/generator.relu{number}" for number in (1, 2, 3)),
}
"""Every relu and leaky relu of a call in train mode; the sample is drawn in eval mode."""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often layers were computed together, by the function that does it."""
    counts: Counter[str] = Counter()

    def counted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            counts[function.__name__] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(layers, "_JOINED", {pair: counted(function) for pair, function in layers._JOINED.items()})
    return counts


def assert_same_bits(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert mine.keys() == theirs.keys() and mine
    for key, value in theirs.items():
        assert mine[key].dtype == value.dtype and mine[key].tobytes() == value.tobytes(), key


# --- nothing changes where patterns are asked for ------------------------------------------------------------


@pytest.mark.parametrize("capture", [CAPTURE, ("patterns",), ("patterns:fake", "state")], ids=",".join)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", STACKS)
def test_steps_with_patterns_are_those_without_to_the_last_bit(
    kind: type[FastTorchStack], dtype: str, capture: tuple[str, ...]
) -> None:
    trained, judged = kind(config(dtype)), kind(config(dtype))
    for step, batch in enumerate(batches()[:4]):
        bare, kept = trained.step(batch, Draws(0, step)), judged.step(batch, Draws(0, step), capture)
        assert_same_bits(kept.loss, bare.loss)
        assert_same_state(judged, trained)
        assert kept.pattern.keys() == {key for key in KEYS if "patterns" in capture or key.startswith("fake/")}


@pytest.mark.parametrize("kind", STACKS)
def test_so_are_those_in_bfloat16(kind: type[FastTorchStack]) -> None:
    trained, judged = (kind(config("float32"), precision="bf16") for _ in range(2))
    bare, kept = trained.step(batches()[0], Draws(0)), judged.step(batches()[0], Draws(0), CAPTURE)
    assert_same_bits(kept.loss, bare.loss)
    assert_same_state(judged, trained)
    assert kept.pattern.keys() == KEYS


@pytest.mark.parametrize("changes", [{"semantics": "as_printed"}, {"randomness": "native"}], ids=str)
def test_so_are_those_of_other_configs(changes: dict[str, str]) -> None:
    """With native randomness leaky relu and dropout have no joined form; the pattern is then the leaky relu's."""
    trained = FastTorchStack(config("float32", **changes))  # seeds torch's own generator
    bare = [trained.step(batch, Draws(0, step)) for step, batch in enumerate(batches()[:3])]
    judged = FastTorchStack(config("float32", **changes))
    kept = [judged.step(batch, Draws(0, step), CAPTURE) for step, batch in enumerate(batches()[:3])]
    for one, other in zip(kept, bare, strict=True):
        assert_same_bits(one.loss, other.loss)
        own = "generator/generator" if changes.get("semantics") else "none"  # whose call in train mode is left out
        assert one.pattern.keys() == {key for key in KEYS if not key.startswith(own)}
    assert_same_state(judged, trained)


def test_so_are_those_at_the_published_size() -> None:
    trained, judged = (FastTorchStack(FluxTutorialConfig(threads=2)) for _ in range(2))
    images = np.random.default_rng(0).uniform(-1, 1, (128, 1, 28, 28)).astype(np.float32)
    bare, kept = trained.step(images, Draws(0)), judged.step(images, Draws(0), CAPTURE)
    assert_same_bits(kept.loss, bare.loss)
    assert_same_state(judged, trained)
    assert kept.pattern.keys() == KEYS


def test_so_are_those_in_which_something_else_is_watched() -> None:
    """Imposed patterns, looked-at inputs and forced values take apart the layers that they concern, and patterns no
    others; those are what the layer did before another pattern was imposed or another value forced on it."""
    other = TorchStack(config(seed=9)).step(batches()[1], Draws(9), (*CAPTURE, "layers"))
    turned = {key: -value if key in other.pattern else value for key, value in other.activation.items()}
    places = {key: np.argwhere(value)[:3] for key, value in other.pattern.items()}
    some = {key: value for key, value in other.pattern.items() if key.startswith("real/")}
    free = TorchStack(config()).step(batches()[0], Draws(0), CAPTURE)
    for how in (
        {"impose": some},
        {"impose": other.pattern},
        {"look": places},
        {"force": replace(other, activation=turned)},
    ):
        for more in ((), ("layers",)):
            stacks = [FastTorchStack(config()), FastTorchStack(config()), TorchStack(config())]
            captures = [("gradients", "state", *more), (*CAPTURE, *more), (*CAPTURE, *more)]
            bare, kept, plain = (
                stack.step(batches()[0], Draws(0), capture, **how)  # type: ignore[arg-type]
                for stack, capture in zip(stacks, captures, strict=True)
            )
            assert_same_bits({**kept.loss, **kept.gradient}, {**bare.loss, **bare.gradient})
            assert_same_state(stacks[0], stacks[1])
            assert_same_bits(kept.pattern, plain.pattern)
            assert kept.order == plain.order
            if "impose" in how:
                key = "real/discriminator.leaky1"
                assert (kept.pattern[key] == free.pattern[key]).all() and (free.pattern[key] != some[key]).any()


@pytest.mark.parametrize("kind", STACKS)
def test_joined_layers_stay_joined_while_patterns_are_kept(kind: type[FastTorchStack], joined: Counter[str]) -> None:
    kind(config()).step(batches()[0], Draws(0, 0, {"noise": np.ones((8, 5), np.float32)}))  # a plain step of both
    bare = dict(joined)
    joined.clear()
    kind(config()).step(batches()[0], Draws(0), CAPTURE)
    assert dict(joined) == bare == {"_leaky_dropout": 6, "_norm_relu": 6, "_flatten_dense": 3}
    joined.clear()
    kind(config()).step(batches()[0], Draws(0), (*CAPTURE, "layers"))
    assert not joined, "every layer is watched"


# --- they are the right ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
def test_patterns_are_those_of_the_idiomatic_stack(semantics: str, joined: Counter[str]) -> None:
    plain, fast = (kind(config(semantics=semantics)) for kind in (TorchStack, FastTorchStack))
    for step, batch in enumerate(batches()):
        mine, theirs = (stack.step(batch, Draws(0, step), CAPTURE) for stack in (fast, plain))
        assert_same_bits(mine.pattern, theirs.pattern)
        assert mine.order == theirs.order
        on = np.concatenate([value.ravel() for value in mine.pattern.values()])
        assert 0.2 < on.mean() < 0.8
    assert joined["_leaky_dropout"] == 36


@pytest.mark.parametrize(
    "changes", [(), ("memory",), ("joined",), ("joined", "memory"), ("joined", "norm"), LAYER_CHANGES], ids=str
)
def test_patterns_are_complete_whatever_is_joined(changes: tuple[str, ...]) -> None:
    mine = FastTorchStack(config(), changes).step(batches()[0], Draws(0), CAPTURE).pattern
    assert_same_bits(mine, TorchStack(config()).step(batches()[0], Draws(0), CAPTURE).pattern)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1 / 0.7], ids=["scale 1", "published"])
def test_leaky_relu_with_dropout_tells_the_sign_of_what_it_got(dtype: torch.dtype, scale: float) -> None:
    """At every unit, dropped or not, and at either zero."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, float("nan")])
    keep = (torch.rand(4, 3, 5, 5) >= 0.3).to(torch.uint8)
    dropout, leaky = layers.FastDropout(0.3, scale), nn.LeakyReLU(0.2)
    dropout.source = lambda shape, rate: keep
    given: list[Tensor] = []
    y = layers._leaky_dropout(leaky, dropout, x.clone().requires_grad_() * 1, given.append)
    (pattern,) = given
    assert pattern.dtype is torch.bool and torch.equal(pattern, x > 0)
    whole = torch.full((), scale, dtype=dtype)
    factor = torch.where(x > 0, whole, 0.2 * whole) * keep
    assert torch.equal(y.nan_to_num(), (x * factor).nan_to_num())


# --- a fault in the code of joined layers shows --------------------------------------------------------------

OFFSET = 1e-6
"""A threshold that is off by so much goes unseen unless units lie that near to zero."""


def near_zero(stack: TorchStack) -> None:
    """Inputs of relus and leaky relus of the order of 1e-6, so that many lie within :data:`OFFSET` of zero."""
    with torch.no_grad():
        for one in stack.networks["generator"].modules():
            if hasattr(one, "running_var"):
                one.weight.mul_(2e-6)
        for name in ("conv1", "conv2"):
            stack.networks["discriminator"].get_submodule(name).weight.mul_(3e-5)


Patch = Callable[[pytest.MonkeyPatch], None]
Normalise, LeakyDropout, leaky_factor = norm._Normalise, layers._LeakyDropout, layers._leaky_factor
"""The right code, beside which the faulty one stands."""


def leaky(slope: float = 1.0, threshold: float = 0.0) -> Patch:
    """A joined leaky relu with a slope that is so many times too large, or with a threshold other than 0."""
    return lambda patch: patch.setattr(
        layers, "_leaky_factor", lambda whole, x, own: leaky_factor(whole, x - threshold, slope * own)
    )


class SlopeOneBackwards(LeakyDropout):
    """A leaky relu that lets the gradients of all units through in full."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return gradient * factor.max() * (factor > 0), None, None, None, None


class WithoutTheMeansTerm(Normalise):
    """A backward pass, of BatchNorm with relu only, that takes the batch's mean for a constant."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *more: Any) -> tuple[Tensor | None, ...]:
        by_x, by_weight, by_bias, *others = Normalise.backward(ctx, gradient, *more)
        if ctx.relu:
            _, inverse, weight, _, _ = ctx.saved_tensors
            term = weight * inverse * by_bias / (by_x.numel() // by_x.shape[1])
            by_x = by_x + term.view(1, -1, *(1,) * (by_x.dim() - 2))
        return by_x, by_weight, by_bias, *others


class ReluThreshold(Normalise):
    """A relu, within BatchNorm with relu only, that lets through only what exceeds the offset."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool) -> Any:
        y, *others = Normalise.forward(ctx, x, weight, bias, eps, relu)
        if relu:
            y[y <= OFFSET] = 0
        return y, *others


class ReluThresholdBackwards(Normalise):
    """Such a threshold in the backward pass alone: the pattern that is kept is right, the gradients are not."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *more: Any) -> tuple[Tensor | None, ...]:
        if ctx.relu:
            centred, inverse, weight, bias, _ = ctx.saved_tensors
            y = torch.addcmul(bias, centred, weight * inverse)
            y = y if gradient.dim() == 2 else y.view(len(gradient), *gradient.shape[2:], -1).permute(0, 3, 1, 2)
            gradient = torch.where(y > OFFSET, gradient, 0)
        return Normalise.backward(ctx, gradient, *more)


def put(module: Any, name: str, fault: Any) -> Patch:
    """The faulty code in the place of the right one."""
    return lambda patch: patch.setattr(module, name, fault)


LEAKY, RELU = {"leaky1", "leaky2"}, {"relu1", "relu2", "relu3"}
FAULTS: dict[str, tuple[Patch, set[str]]] = {
    "leaky slope 1 % too large": (leaky(slope=1.01), set()),
    "leaky slope 1 backwards": (put(layers, "_LeakyDropout", SlopeOneBackwards), set()),
    "leaky threshold 1e-6": (leaky(threshold=OFFSET), LEAKY),
    "leaky threshold -1e-6": (leaky(threshold=-OFFSET), LEAKY),
    "BatchNorm backwards without the mean's term": (put(norm, "_Normalise", WithoutTheMeansTerm), set()),
    "relu threshold 1e-6": (put(norm, "_Normalise", ReluThreshold), RELU),
    "relu threshold 1e-6 backwards": (put(norm, "_Normalise", ReluThresholdBackwards), set()),
}
"""How each is put in, and the layers whose own patterns it changes."""


def record(kind: type[TorchStack], capture: tuple[str, ...]) -> StepRecord:
    stack = kind(config())
    near_zero(stack)
    return stack.step(batches()[0], Draws(0), capture)


def flips(mine: StepRecord, theirs: StepRecord) -> dict[str, int]:
    """Units with another sign, by layer that has any."""
    found: Counter[str] = Counter()
    for key, value in theirs.pattern.items():
        found[key.rpartition(".")[2]] += int(np.sum(mine.pattern[key] != value))
    return {layer: count for layer, count in found.items() if count}


def distance(mine: StepRecord, theirs: StepRecord) -> float:
    """The largest relative distance of a gradient from the other record's."""
    return max(
        float(np.linalg.norm(mine.gradient[key] - value) / np.linalg.norm(value))
        for key, value in theirs.gradient.items()
    )


def test_no_fault_no_difference() -> None:
    right, kept = record(TorchStack, CAPTURE), record(FastTorchStack, CAPTURE)
    assert distance(kept, right) < 1e-11 and not flips(kept, right)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_joined_layers_shows_where_patterns_are_kept(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = record(TorchStack, CAPTURE)
    put_in, changed = FAULTS[fault]
    put_in(monkeypatch)
    kept, watched = record(FastTorchStack, CAPTURE), record(FastTorchStack, (*CAPTURE, "layers"))
    assert distance(kept, right) > 1e-3
    found = flips(kept, right)
    assert all(found.get(layer, 0) > 100 for layer in changed), (
        f"the kernel tells another pattern than its own: {found}"
    )
    assert distance(watched, right) < 1e-11 and not flips(watched, right), "the fault is in joined layers alone"
