"""Hints for layers: every name from a planted slip of random strength, and no name from what no slip explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN, BackwardEvidence, Evidence, ForwardEvidence
from pygan.stacks import LayerSpec

SEEDS = range(2)
SLOPE = float(np.float32(0.2))
SCALE = 1 / 0.7


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The arrays are too small to be worth a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Planted:
    """A chain of layers with random tensors; ``evidence(altered)`` sets its output against the reference's."""

    def __init__(self, seed: int, kind: str, tolerance: float = 1e-10) -> None:
        self.r, self.kind, self.tolerance = rng(seed), kind, tolerance
        self.tensors: dict[str, np.ndarray] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.train = True
        self.numbers: dict[str, object] = {}
        getattr(self, kind)()

    def normal(self, *shape: int) -> np.ndarray:
        return self.r.standard_normal(shape)

    def dense(self, outputs: int = 6, bias: bool = True) -> None:
        self.x = self.normal(8, 6)
        self.put("net.one", weight=self.normal(outputs, 6), **({"bias": self.normal(outputs)} if bias else {}))
        self.layers = [("net.one", LayerSpec("dense", {}))]

    def conv(self) -> None:
        self.x = self.normal(8, 3, 9, 9)
        self.put("net.one", weight=self.normal(4, 3, 4, 4), bias=self.normal(4))
        self.layers = [("net.one", LayerSpec("conv", {"stride": (2, 2), "padding": (1, 1)}))]

    def conv_transpose(self) -> None:
        self.x = self.normal(8, 3, 6, 6)
        self.put("net.one", weight=self.normal(3, 4, 4, 4), bias=self.normal(4))
        self.layers = [("net.one", LayerSpec("conv_transpose", {"stride": (2, 2), "padding": (1, 1)}))]

    def batch_norm(self) -> None:
        self.x = self.normal(8, 5, 4, 4) * 10 ** self.r.uniform(-2, 0, (1, 5, 1, 1)) + self.normal(1, 5, 1, 1)
        self.put(
            "net.one",
            weight=1 + self.normal(5) / 10,
            bias=self.normal(5),
            running_mean=self.normal(5),
            running_var=self.r.uniform(0.5, 2, 5),
        )
        self.layers = [("net.one", LayerSpec("batch_norm", {"eps": 1e-5, "momentum": 0.1}))]

    def batch_norm_relu(self) -> None:
        self.batch_norm()
        self.layers = [*self.layers, ("net.two", LayerSpec("relu", {}))]

    def batch_norm_leaky(self) -> None:
        self.batch_norm()
        self.layers = [*self.layers, ("net.two", LayerSpec("leakyrelu", {"negative_slope": SLOPE}))]

    def batch_norm_tanh(self) -> None:
        self.batch_norm()
        self.layers = [*self.layers, ("net.two", LayerSpec("tanh", {}))]

    def leaky(self) -> None:
        self.x = self.normal(8, 3, 5, 5)
        self.layers = [("net.one", LayerSpec("leakyrelu", {"negative_slope": SLOPE}))]

    def relu(self) -> None:
        self.x = self.normal(8, 3, 5, 5)
        self.layers = [("net.one", LayerSpec("relu", {}))]

    def tanh(self) -> None:
        self.x = self.normal(8, 3, 5, 5)
        self.layers = [("net.one", LayerSpec("tanh", {}))]

    def dropout(self) -> None:
        self.x = self.normal(8, 3, 5, 5)
        for call in ("real", "fake"):
            self.masks[f"mask/{call}/net.one"] = (self.r.uniform(size=self.x.shape) > 0.3).astype(np.float32)
        self.masks["mask/real/net.other"] = np.ones((8, 2), np.float32)
        self.layers = [("net.one", LayerSpec("dropout", {"p": 0.3, "scale": SCALE}))]

    def put(self, path: str, **arrays: np.ndarray) -> None:
        self.tensors |= {f"{path}.{name}": array for name, array in arrays.items()}

    def t(self, name: str) -> Tensor:
        return torch.tensor(self.tensors[f"net.one.{name}"])

    def reference(self) -> Callable[[Tensor], Tensor]:
        """The layers in torch's own functions."""
        if self.kind == "dense":
            return lambda x: F.linear(x, self.t("weight"), self.t("bias"))
        if self.kind in ("conv", "conv_transpose"):
            return lambda x: self.convolved(x, self.t("weight"))
        if self.kind.startswith("batch_norm"):
            return lambda x: self.activated(self.normalised(x))
        if self.kind == "dropout":
            return lambda x: x * torch.tensor(self.masks["mask/real/net.one"].astype(float) * SCALE)
        return self.activated

    def convolved(self, x: Tensor, weight: Tensor, **geometry: int) -> Tensor:
        function = F.conv2d if self.kind == "conv" else F.conv_transpose2d
        return function(x, weight, self.t("bias"), **{"stride": 2, "padding": 1, **geometry})

    def normalised(self, x: Tensor, train: bool | None = None, eps: float = 1e-5, affine: bool = True) -> Tensor:
        train = self.train if train is None else train
        statistics = (None, None) if train else (self.t("running_mean"), self.t("running_var"))
        affine_part = (self.t("weight"), self.t("bias")) if affine else (None, None)
        return F.batch_norm(x, *statistics, *affine_part, train, 0.1, eps)

    def by_hand(self, x: Tensor, root: Callable[[Tensor, int], Tensor]) -> Tensor:
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        y = (x - mean) / root(var, x.numel() // x.shape[1])
        return y * self.t("weight").reshape(1, -1, 1, 1) + self.t("bias").reshape(1, -1, 1, 1)

    def activated(self, x: Tensor) -> Tensor:
        last = self.layers[-1][1].kind
        if last == "leakyrelu":
            return F.leaky_relu(x, SLOPE)
        return {"relu": torch.relu, "tanh": torch.tanh}.get(last, lambda x: x)(x)

    def evidence(self, altered: Callable[[Tensor], Tensor], gradient: bool = False, single: bool = False) -> Evidence:
        common = {"layers": self.layers, "train": self.train, "tensors": self.tensors, "masks": self.masks}
        number = np.float32 if single else np.float64

        def wide(value: Tensor) -> np.ndarray:
            return value.detach().numpy().astype(number).astype(np.float64)

        x = torch.tensor(self.x, requires_grad=gradient)
        mine, theirs = altered(x), self.reference()(x)
        if not gradient:
            return ForwardEvidence(
                "activation/real/net.one", 3, wide(mine), wide(theirs), self.tolerance, x=self.x, **common
            )
        g = torch.tensor(self.normal(*theirs.shape))
        mine, theirs = (torch.autograd.grad(y, x, g)[0] for y in (mine, theirs))
        return BackwardEvidence(
            "activation_gradient/real/net.one",
            3,
            wide(mine),
            wide(theirs),
            self.tolerance,
            x=self.x,
            output_gradient=g.numpy(),
            **common,
        )


def turned(w: Tensor) -> Tensor:
    return w.flip(2, 3)


def unbiased(var: Tensor, count: int) -> Tensor:
    return var * count / (count - 1) + 1e-5


# name -> (kind of chain, planted slip)
SLIPS: list[tuple[str, str, Callable[[Planted, Tensor], Tensor]]] = [
    ("kernel not flipped", "conv", lambda p, x: p.convolved(x, turned(p.t("weight")))),
    ("kernel not flipped", "conv_transpose", lambda p, x: p.convolved(x, turned(p.t("weight")))),
    ("kernel transposed", "conv", lambda p, x: p.convolved(x, p.t("weight").mT)),
    ("kernel transposed", "conv_transpose", lambda p, x: p.convolved(x, p.t("weight").mT)),
    ("weight transposed", "dense", lambda p, x: F.linear(x, p.t("weight").T, p.t("bias"))),
    ("weight transposed", "conv", lambda p, x: p.convolved(x, p.t("weight").reshape(3, 4, 4, 4).transpose(0, 1))),
    ("stride or padding", "conv", lambda p, x: p.convolved(F.pad(x, (2, 0, 2, 0)), p.t("weight"), padding=0)),
    ("stride or padding", "conv", lambda p, x: p.convolved(F.pad(x, (1,) * 4, "reflect"), p.t("weight"), padding=0)),
    ("stride or padding", "conv", lambda p, x: p.convolved(x, p.t("weight"), padding=0)),
    (
        "stride or padding",
        "conv_transpose",
        lambda p, x: p.convolved(x, p.t("weight"), padding=0)[..., 2:, 2:],
    ),
    ("stride or padding", "conv_transpose", lambda p, x: p.convolved(x, p.t("weight"), padding=2)),
    ("BatchNorm mode", "batch_norm", lambda p, x: p.normalised(x, not p.train)),
    ("BatchNorm mode", "batch_norm_relu", lambda p, x: torch.relu(p.normalised(x, not p.train))),
    ("BatchNorm eps", "batch_norm", lambda p, x: p.normalised(x, eps=1e-3)),
    ("BatchNorm eps", "batch_norm_relu", lambda p, x: torch.relu(p.normalised(x, eps=3e-4))),
    ("BatchNorm eps", "batch_norm_leaky", lambda p, x: p.activated(p.normalised(x, eps=2e-5))),
    ("BatchNorm eps", "batch_norm_tanh", lambda p, x: torch.tanh(p.normalised(x, eps=1e-2))),
    ("BatchNorm eps", "batch_norm", lambda p, x: p.normalised(x, eps=1e-300)),
    ("BatchNorm eps outside the root", "batch_norm", lambda p, x: p.by_hand(x, lambda var, n: var.sqrt() + 1e-5)),
    ("BatchNorm unbiased variance", "batch_norm", lambda p, x: p.by_hand(x, lambda var, n: unbiased(var, n).sqrt())),
    ("BatchNorm affine missing", "batch_norm_relu", lambda p, x: torch.relu(p.normalised(x, affine=False))),
    ("leaky slope", "leaky", lambda p, x: F.leaky_relu(x, 0.01)),
    ("leaky slope", "leaky", lambda p, x: torch.relu(x)),
    ("leaky slope", "relu", lambda p, x: F.leaky_relu(x, 0.1)),
    ("leaky slope", "batch_norm_relu", lambda p, x: F.leaky_relu(p.normalised(x), 0.3)),
    ("leaky slope", "leaky", lambda p, x: F.leaky_relu(x, SLOPE * (1 + 3e-7))),
    ("constant in the wrong width", "leaky", lambda p, x: F.leaky_relu(x, 0.2)),
    ("constant in the wrong width", "dropout", lambda p, x: p.reference()(x) * float(np.float32(SCALE)) / SCALE),
    ("activation missing", "leaky", lambda p, x: x * 1.0),
    ("activation missing", "tanh", lambda p, x: x * 1.0),
    ("activation missing", "batch_norm_tanh", lambda p, x: p.normalised(x)),
    ("other activation", "tanh", lambda p, x: torch.sigmoid(x)),
    ("other activation", "tanh", lambda p, x: F.hardtanh(x)),
    ("other activation", "relu", lambda p, x: F.gelu(x)),
    ("on/off pattern", "leaky", lambda p, x: torch.where(x > 0.3, x, SLOPE * x)),
    ("on/off pattern", "relu", lambda p, x: torch.where(x > -0.5, x, 0 * x)),
    ("on/off pattern", "batch_norm_relu", lambda p, x: F.threshold(p.normalised(x), 0.2, 0.0)),
    ("on/off pattern", "relu", lambda p, x: torch.relu(x) * torch.tensor(p.x % 1 > 0.1)),
    ("dropout scale", "dropout", lambda p, x: p.reference()(x) / 2),
    ("dropout scale", "dropout", lambda p, x: p.reference()(x) * 0.7),
    ("dropout off", "dropout", lambda p, x: x * 1.0),
    ("mask order", "dropout", lambda p, x: x * torch.tensor(p.masks["mask/fake/net.one"].astype(float) * SCALE)),
    (
        "dropout mask inverted",
        "dropout",
        lambda p, x: x * torch.tensor((1.0 - p.masks["mask/real/net.one"].astype(float)) * SCALE),
    ),
]


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
