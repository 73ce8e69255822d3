"""Hints for parameter gradients and for running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN, BackwardEvidence, BufferEvidence, GradientEvidence
from pygan.stacks import LayerSpec

SEEDS = range(3)
CONV = LayerSpec("conv", {"stride": (2, 2), "padding": (1, 1)})
LEAKY = LayerSpec("leakyrelu", {"negative_slope": 0.2})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The arrays are too small to be worth a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gradient_of(x: Tensor, weight: Tensor, og: Tensor, bend: Callable[[Tensor], Tensor]) -> np.ndarray:
    w = weight.clone().requires_grad_()
    return torch.autograd.grad(bend(F.conv2d(x, w, stride=2, padding=1)), w, og)[0].numpy()


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def evidence_of(seed: int, bend: Callable[[Tensor], Tensor] = leaky) -> GradientEvidence:
    """The gradient of a convolution's weight through a leaky relu; the candidate's through ``bend``."""
    r = np.random.default_rng(seed)
    x, w, og = (torch.tensor(r.standard_normal(shape)) for shape in ((6, 3, 8, 8), (3, 3, 4, 4), (6, 3, 4, 4)))
    reference, candidate = (gradient_of(x, w, og, how) for how in (leaky, bend))
    return GradientEvidence(
        "gradient/net.conv.weight",
        2,
        candidate,
        reference,
        1e-10,
        x=x.numpy(),
        layers=[("net.conv", CONV), ("net.leaky", LEAKY)],
        train=True,
        tensors={"net.conv.weight": w.numpy()},
        output_gradient=og.numpy(),
        path="net.conv.weight",
        weight=w.numpy(),
        previous=r.standard_normal(reference.shape),
    )


def clip_norm(g: np.ndarray, bound: float) -> np.ndarray:
    return g * bound / np.linalg.norm(g)


SLIPS: list[tuple[str, Callable[[GradientEvidence], np.ndarray]]] = [
    ("gradient missing", lambda e: 0 * e.reference),
    ("gradient scaled", lambda e: 0.37 * e.reference),
    ("gradient scaled", lambda e: 8 * e.reference),
    ("sign flipped", lambda e: -e.reference),
    ("gradients not reset", lambda e: e.reference + e.previous),
    ("gradient clipped", lambda e: np.clip(e.reference, -1, 1)),
    ("gradient clipped", lambda e: clip_norm(e.reference, 1.0)),
    ("gradient clipped", lambda e: clip_norm(e.reference, 0.5)),
    ("kernel not flipped", lambda e: e.reference[..., ::-1, ::-1]),
    ("kernel transposed", lambda e: e.reference.swapaxes(2, 3)),
    ("weight transposed", lambda e: e.reference.swapaxes(0, 1)),
    ("channels permuted", lambda e: e.reference[[2, 0, 1]]),
    ("channels permuted", lambda e: e.reference[:, [2, 0, 1]]),
    ("weight decay in the gradient", lambda e: e.reference + 1e-4 * e.weight),
    ("elements permuted", lambda e: np.random.default_rng(0).permutation(e.reference.ravel()).reshape(e.weight.shape)),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "slip"), SLIPS)
def test_planted_slip_is_named(name: str, slip: Callable[[GradientEvidence], np.ndarray], seed: int) -> None:
    evidence = evidence_of(seed)
    assert name_cause(evidence) == UNKNOWN
    cause = name_cause(replace(evidence, candidate=slip(evidence)))
    assert cause.name == name, cause
    assert cause.name in CAUSES


@pytest.mark.parametrize(("name", "slip"), SLIPS)
def test_noise_beside_a_slip(name: str, slip: Callable[[GradientEvidence], np.ndarray]) -> None:
    evidence = evidence_of(0)
    slipped = slip(evidence)
    noise = np.random.default_rng(3).standard_normal(slipped.shape)
    noise *= 0.2 * np.linalg.norm(slipped - evidence.reference) / np.linalg.norm(noise)
    assert name_cause(replace(evidence, candidate=slipped + noise)) == UNKNOWN


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "bend"),
    [
        ("on/off pattern", lambda x: torch.where(x > 0.7, x, 0.2 * x)),
        ("on/off pattern", lambda x: torch.where(x > -2, x, 0.2 * x)),
        ("activation missing", lambda x: x * 1.0),
        ("leaky slope", lambda x: F.leaky_relu(x, 0.01)),
        ("constant in the wrong width", lambda x: F.leaky_relu(x, float(np.float32(0.2)))),
    ],
)
def test_a_wrong_activation_behind_the_weight(name: str, bend: Callable[[Tensor], Tensor], seed: int) -> None:
    cause = name_cause(evidence_of(seed, bend))
    assert cause.name == name, cause


def test_a_few_units_switched_anywhere_are_not_a_threshold() -> None:
    switched = torch.tensor(np.random.default_rng(1).uniform(size=(6, 3, 4, 4)) < 0.1)
    assert name_cause(evidence_of(0, lambda x: torch.where((x > 0) ^ switched, x, 0.2 * x))) == UNKNOWN


def test_terms_of_a_loss() -> None:
    evidence = evidence_of(1)
    other = evidence.previous
    assert other is not None
    both = evidence.reference + other
    terms = {"real": evidence.reference, "fake": other}
    named = replace(evidence, reference=both, candidate=other, previous=None, loss_terms=terms)
    assert str(name_cause(named)) == "loss term missing (without real)"
    # without the terms, the call at hand is one of them
    assert str(name_cause(replace(named, loss_terms={}))) == "loss term missing (without this call)"
    only_this = replace(named, loss_terms={}, candidate=evidence.reference)
    assert str(name_cause(only_this)) == "loss term missing (without the other calls)"
    assert name_cause(replace(named, candidate=other + 0.1 * both**2)) == UNKNOWN


def test_relu_with_units_switched_backwards() -> None:
    r = np.random.default_rng(0)
    x, og = r.standard_normal((2, 8, 3, 4, 4))
    evidence = BackwardEvidence(
        "activation_gradient/real/net.relu",
        0,
        og * ((x > 0) ^ (r.uniform(size=x.shape) < 0.05)),
        og * (x > 0),
        1e-10,
        x=x,
        layers=[("net.relu", LayerSpec("relu", {}))],
        train=True,
        tensors={},
        output_gradient=og,
    )
    assert name_cause(evidence).name == "on/off pattern"
    near = np.where(np.arange(x.size).reshape(x.shape) == 5, 1e-9, x)  # one unit that rounding may switch
    switched = replace(evidence, x=near, reference=og * (near > 0), candidate=og * ((near > 0) & (near != 1e-9)))
    assert name_cause(switched) == UNKNOWN


# --- running statistics ------------------------------------------------------------------------------------------


def buffer(seed: int, which: str, m: float = 0.1) -> tuple[BufferEvidence, np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    x, before = r.standard_normal((6, 5, 3, 3)) * r.uniform(0.5, 2, (1, 5, 1, 1)), r.uniform(0.5, 1.5, 5)
    new = {"running_mean": x.mean((0, 2, 3)), "running_var": x.var((0, 2, 3), ddof=1)}[which]
    reference = (1 - m) * before + m * new
    spec = LayerSpec("batch_norm", {"eps": 1e-5, "momentum": m})
    key = f"state/buffer/net.norm.{which}"
    return BufferEvidence(key, 0, reference, reference, 1e-10, layer=spec, x=x, before=before), before, new


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", ["running_mean", "running_var"])
def test_running_statistics(which: str, seed: int) -> None:
    evidence, before, new = buffer(seed, which)

    def named(candidate: np.ndarray, of: BufferEvidence = evidence) -> str:
        cause = name_cause(replace(of, candidate=candidate))
        assert cause.name in CAUSES
        return str(cause)

    def moved(m: float) -> np.ndarray:
        return (1 - m) * before + m * new

    assert named(evidence.reference) == str(UNKNOWN)
    assert named(moved(0.9)) == "BatchNorm momentum (momentum 0.9 instead of 0.1, the complement)"
    assert named(moved(0.25)) == "BatchNorm momentum (momentum 0.25 instead of 0.1)"
    assert named(before) == "stale buffers"
    assert named(0.9 * moved(0.1) + 0.1 * new) == "buffers updated twice"
    single = float(np.float32(0.1))
    assert named(moved(single)) == "constant in the wrong width (momentum 0.1000000015 instead of 0.1)"
    widened = buffer(seed, which, single)[0]
    assert named(moved(0.1), widened) == "constant in the wrong width (momentum 0.1 instead of 0.1000000015)"
    assert named(moved(0.1 + 1e-9)).startswith("BatchNorm momentum")
    assert named(moved(0.25) + 1e-3 * np.arange(5)) == str(UNKNOWN)
    biased = (1 - 0.1) * before + 0.1 * evidence.x.var((0, 2, 3))
    assert named(biased) == ("biased running variance" if which == "running_var" else str(UNKNOWN))
    assert named(moved(0.1)[[1, 0, 2, 3, 4]]) == "channels permuted"
    # where the number given is the candidate's
    assert (
        named(moved(0.1), replace(evidence, reference=moved(0.3))) == "BatchNorm momentum (momentum 0.1 instead of 0.3)"
    )


def test_one_channel_does_not_determine_a_momentum() -> None:
    evidence, before, _ = buffer(0, "running_mean")
    evidence = replace(evidence, x=evidence.x[:, :1], before=before[:1])
    m = 0.1
    reference = (1 - m) * before[:1] + m * evidence.x.mean((0, 2, 3))
    assert name_cause(replace(evidence, reference=reference, candidate=reference + 0.01)) == UNKNOWN
