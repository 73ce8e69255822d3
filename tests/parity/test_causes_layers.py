"""Hints for layers: every name from a planted slip of random strength, and no name from what no slip explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_layers import SCALE, SEEDS, SLIPS, Planted, rng, turned
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN
from pygan.stacks import LayerSpec


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The arrays are too small to be worth a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def name_of(planted: Planted, slip: Callable[[Tensor], Tensor], gradient: bool = False, single: bool = False) -> str:
    cause = name_cause(planted.evidence(slip, gradient, single))
    assert cause.name in CAUSES
    return cause.name


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "kind", "slip"), SLIPS)
def test_planted_slip_is_named(
    name: str, kind: str, slip: Callable[[Planted, Tensor], Tensor], seed: int, gradient: bool
) -> None:
    planted = Planted(seed, kind)
    x = torch.tensor(planted.x)
    if gradient and slip(planted, x).shape != planted.reference()(x).shape:
        pytest.skip("no gradient of the reference's shape enters an output of another shape")
    assert name_of(planted, lambda x: slip(planted, x), gradient) == name


@pytest.mark.parametrize(("name", "kind", "slip"), [one for one in SLIPS if "width" not in one[0]])
def test_planted_slip_in_float32_is_named_or_left_unknown(
    name: str, kind: str, slip: Callable[[Planted, Tensor], Tensor]
) -> None:
    planted = Planted(0, kind, tolerance=1e-4)
    named = name_of(planted, lambda x: slip(planted, x), single=True)
    size = np.linalg.norm(planted.reference()(torch.tensor(planted.x)).numpy())
    ours, theirs = (f(torch.tensor(planted.x)) for f in (lambda x: slip(planted, x), planted.reference()))
    far = ours.shape != theirs.shape or float((ours - theirs).norm()) > 2e-4 * size
    assert named == (name if far else UNKNOWN.name)


KINDS = (
    *("dense", "conv", "conv_transpose", "leaky", "tanh", "dropout"),
    *("batch_norm", "batch_norm_relu", "batch_norm_tanh"),
)


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1e-15, 1e-6])
def test_no_slip_is_read_into_agreement_or_noise(kind: str, noise: float, gradient: bool) -> None:
    planted = Planted(0, kind)
    evidence = planted.evidence(planted.reference(), gradient)
    spread = noise * rng(9).standard_normal(evidence.reference.shape) * np.abs(evidence.reference).max()
    assert name_cause(replace(evidence, candidate=evidence.candidate + spread)) == UNKNOWN


@pytest.mark.parametrize("kind", KINDS)
def test_no_slip_is_read_into_float32_rounding(kind: str) -> None:
    planted = Planted(1, kind, tolerance=1e-4)
    evidence = planted.evidence(planted.reference())
    rounded = evidence.candidate.astype(np.float32).astype(np.float64) * (1 + 1e-7 * rng(3).standard_normal())
    assert name_cause(replace(evidence, candidate=rounded)) == UNKNOWN


@pytest.mark.parametrize(("name", "kind", "slip"), SLIPS)
def test_a_slip_with_noise_beside_it_stays_unknown(
    name: str, kind: str, slip: Callable[[Planted, Tensor], Tensor]
) -> None:
    planted = Planted(0, kind)
    evidence = planted.evidence(lambda x: slip(planted, x))
    same_shape = evidence.candidate.shape == evidence.reference.shape
    gap = np.linalg.norm(evidence.candidate - evidence.reference) if same_shape else 1
    noise = rng(5).standard_normal(evidence.candidate.shape)
    noise *= 0.3 * gap / np.linalg.norm(noise)
    assert (
        name_cause(replace(evidence, candidate=evidence.candidate + noise * 0.3 * gap / np.linalg.norm(noise)))
        == UNKNOWN
    )


def test_one_wrong_element_beside_a_slip_stays_unknown() -> None:
    planted = Planted(0, "leaky")
    evidence = planted.evidence(lambda x: F.leaky_relu(x, 0.1))
    candidate = evidence.candidate.copy()
    candidate[3, 1, 2, 2] += 1e-6
    assert name_cause(evidence).name == "leaky slope"
    assert name_cause(replace(evidence, candidate=candidate)) == UNKNOWN


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
@pytest.mark.parametrize("axes", ["flip", "transpose"])
def test_nearly_symmetric_kernels(kind: str, axes: str) -> None:
    """Kernels that differ from their mirror image by a ten-thousandth; exactly symmetric ones show nothing."""
    planted = Planted(4, kind)
    w = planted.tensors["net.one.weight"]
    mirrored = w[..., ::-1, ::-1] if axes == "flip" else w.swapaxes(2, 3)
    even, odd = (w + mirrored) / 2, (w - mirrored) / 2
    change = turned if axes == "flip" else (lambda weight: weight.mT)
    name = "kernel not flipped" if axes == "flip" else "kernel transposed"
    for size, expected in ((1e-4, name), (0.0, UNKNOWN.name)):
        planted.put("net.one", weight=even + size * odd)
        assert name_of(planted, lambda x: planted.convolved(x, change(planted.t("weight")))) == expected


def test_two_turns_that_are_the_same_are_not_told_apart() -> None:
    planted = Planted(5, "conv")
    w = planted.tensors["net.one.weight"]
    planted.put("net.one", weight=w + np.swapaxes(w, 2, 3)[..., ::-1, ::-1])  # now the flip is the transpose
    assert name_of(planted, lambda x: planted.convolved(x, turned(planted.t("weight")))) == UNKNOWN.name


def test_two_slips_at_once_stay_unknown() -> None:
    planted = Planted(6, "conv")
    both = planted.t("weight").flip(2, 3).mT
    assert name_of(planted, lambda x: planted.convolved(x, both)) == UNKNOWN.name
    planted = Planted(6, "batch_norm_leaky")
    assert name_of(planted, lambda x: F.leaky_relu(planted.normalised(x, eps=1e-3), 0.1)) == UNKNOWN.name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["dense", "conv", "conv_transpose"])
def test_bias_and_channels(kind: str, seed: int) -> None:
    planted = Planted(seed, kind)
    r, reference = rng(seed), planted.reference()
    w, b = planted.t("weight"), planted.t("bias")
    outputs, inputs = (1, 0) if kind == "conv_transpose" else (0, 1)

    def with_weight(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
        if kind == "dense":
            return lambda x: F.linear(x, weight, bias)
        function = F.conv2d if kind == "conv" else F.conv_transpose2d
        return lambda x: function(x, weight, bias, stride=2, padding=1)

    assert name_of(planted, with_weight(w, 0 * b)) == "bias missing"
    for axis, bias in ((outputs, True), (inputs, False)):
        order = torch.from_numpy(np.roll(np.arange(w.shape[axis]), 1 + int(r.integers(w.shape[axis] - 1))))
        permuted = with_weight(w.index_select(axis, order), b[order] if bias else b)
        assert name_of(planted, permuted) == "channels permuted"
    samples = torch.from_numpy(np.roll(np.arange(8), 1 + int(r.integers(7))))
    assert name_of(planted, lambda x: reference(x)[samples]) == "samples permuted"
    assert name_of(planted, lambda x: -reference(x)) == "sign flipped"
    assert name_of(planted, lambda x: 1.37 * reference(x)) == "scaled output"
    if kind != "dense":
        assert name_of(planted, lambda x: reference(x).flip(3)) == "pixels permuted"
        assert name_of(planted, lambda x: reference(x).mT) == "pixels permuted"


def test_numbers_that_are_the_candidates_are_turned_round() -> None:
    """Where layers come from the stack with the slip, its numbers make the candidate: the hint still is about it."""
    planted = Planted(0, "leaky")
    evidence = planted.evidence(lambda x: F.leaky_relu(x, 0.01))
    evidence = replace(evidence, layers=[("net.one", LayerSpec("leakyrelu", {"negative_slope": 0.01}))])
    assert str(name_cause(evidence)) == "leaky slope (slope 0.01 instead of 0.200000003)"
    planted = Planted(0, "batch_norm")
    planted.train = False
    planted.put("net.one", running_mean=np.zeros(5), running_var=np.ones(5), weight=np.ones(5), bias=np.zeros(5))
    evidence = planted.evidence(lambda x: planted.normalised(x, eps=1e-3))  # before the first step: only a factor
    assert str(name_cause(evidence)) == "BatchNorm eps (eps 0.001 instead of 1e-05)"
    numbers = [("net.one", LayerSpec("batch_norm", {"eps": 1e-3}))]
    assert str(name_cause(replace(evidence, layers=numbers))) == "BatchNorm eps (eps 0.001 instead of 1e-05)"
    planted = Planted(0, "dropout")
    evidence = planted.evidence(lambda x: planted.reference()(x) / SCALE)
    evidence = replace(evidence, layers=[("net.one", LayerSpec("dropout", {"p": 0.3, "scale": 1.0}))])
    assert str(name_cause(evidence)) == "dropout scale (scale 1 instead of 1.428571429)"
    planted = Planted(0, "conv")
    evidence = planted.evidence(lambda x: planted.convolved(x, planted.t("weight"), padding=0))
    evidence = replace(evidence, layers=[("net.one", LayerSpec("conv", {"stride": 2, "padding": 0}))])
    assert name_cause(evidence).name == "stride or padding"
    evidence = Planted(0, "tanh").evidence(torch.sigmoid)
    evidence = replace(evidence, layers=[("net.one", LayerSpec("sigmoid", {}))])
    assert str(name_cause(evidence)) == "other activation (sigmoid instead of tanh)"


def test_details_say_the_numbers() -> None:
    planted = Planted(0, "batch_norm_relu")
    evidence = planted.evidence(lambda x: torch.relu(planted.normalised(x, eps=1e-3)))
    assert str(name_cause(evidence)) == "BatchNorm eps (eps 0.001 instead of 1e-05)"
    planted = Planted(0, "leaky")
    evidence = planted.evidence(lambda x: F.leaky_relu(x, 0.2))
    assert str(name_cause(evidence)) == "constant in the wrong width (slope 0.2 instead of 0.200000003)"


def test_an_unexplained_reference_gets_no_specific_name() -> None:
    """A name needs both formulas: here the given tensors do not even make the reference."""
    planted = Planted(0, "conv")
    evidence = planted.evidence(lambda x: planted.convolved(x, turned(planted.t("weight"))))
    tensors = {**evidence.tensors, "net.one.bias": evidence.tensors["net.one.bias"] + 1}
    assert name_cause(replace(evidence, tensors=tensors)) == UNKNOWN


def test_layers_without_a_formula() -> None:
    planted = Planted(0, "leaky")
    evidence = planted.evidence(lambda x: F.leaky_relu(x, 0.1))
    strange = replace(evidence, layers=[("net.one", LayerSpec("fourier", {}))])
    assert name_cause(strange) == UNKNOWN
    assert name_cause(replace(strange, candidate=2 * strange.reference)).name == "scaled output"


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN in the candidate"), (np.inf, "not finite")])
def test_numbers_that_are_none(value: float, name: str) -> None:
    evidence = Planted(0, "conv").evidence(lambda x: Planted(0, "conv").reference()(x))
    candidate = evidence.candidate.copy()
    candidate[0, 0, 0, 0] = value
    assert name_cause(replace(evidence, candidate=candidate)).name == name
    assert name_cause(replace(evidence, candidate=candidate, reference=candidate)) == UNKNOWN


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_shapes_and_zeros_raise_nothing(kind: str, gradient: bool) -> None:
    planted = Planted(0, kind)
    evidence = planted.evidence(planted.reference(), gradient)
    own = evidence.reference
    for candidate in (own[:3], own[:, :1], own[..., None], np.zeros((2, 2)), np.zeros(()), np.full_like(own, np.nan)):
        cause = name_cause(replace(evidence, candidate=candidate))
        assert cause.name in (UNKNOWN.name, "NaN in the candidate")
    zeros = name_cause(replace(evidence, candidate=0 * own))
    assert zeros.name == ("gradient missing" if gradient else UNKNOWN.name)
