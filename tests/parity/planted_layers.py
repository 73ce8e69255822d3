"""Chains of small layers with a planted slip, as evidence for the cause rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.evidence import BackwardEvidence, Evidence, ForwardEvidence
from pygan.stacks import LayerSpec

SEEDS = range(2)
SLOPE = float(np.float32(0.2))
SCALE = 1 / 0.7


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


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

    def by_parts(self, x: Tensor, size: int) -> Tensor:
        return torch.cat([self.normalised(part) for part in torch.split(x, [size] * (len(x) // size))])

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
    ("BatchNorm over parts of the batch", "batch_norm", lambda p, x: p.by_parts(x, 1)),
    ("BatchNorm over parts of the batch", "batch_norm", lambda p, x: p.by_parts(x, len(x) // 2)),
    ("BatchNorm over parts of the batch", "batch_norm_relu", lambda p, x: torch.relu(p.by_parts(x, len(x) // 2))),
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
