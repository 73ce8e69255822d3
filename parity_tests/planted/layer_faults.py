"""Planted bugs inside a torch layer: kernels, axes, BatchNorm, dropout, slopes, single values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from planted.fault import Fault, Planted, catalogue, factor, layers, pick, rewire, shuffled, with_weight
from pygan.recipes.dropout import Dropout
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State

FAULTS: list[Fault] = []
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
NEARLY_SYMMETRIC = 1e-4
"""Asymmetry of a nearly symmetric kernel, relative to its norm."""


# --- kernels and axes ----------------------------------------------------------------------------------------


@catalogue(FAULTS, "kernel not flipped")
def kernel_flipped(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's kernel is turned by 180 degrees, as where one side correlates and the other convolves."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    with_weight(layer, lambda weight: weight.flip(-2, -1))
    return Planted(path)


@catalogue(FAULTS, "kernel not flipped")
def nearly_symmetric_kernel_flipped(stack: TorchStack, rng: Generator) -> Planted:
    """The same where the kernel is symmetric but for a relative 1e-4, so that it hardly shows."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    with_weight(layer, lambda weight: weight.flip(-2, -1))

    def start(state: State) -> State:
        kernel = state[f"parameter/{path}.weight"]
        turned = kernel[:, :, ::-1, ::-1]
        even, odd = (kernel + turned) / 2, (kernel - turned) / 2
        odd *= NEARLY_SYMMETRIC * np.linalg.norm(even) / np.linalg.norm(odd)
        return {**state, f"parameter/{path}.weight": even + odd}

    return Planted(path, f"asymmetry {NEARLY_SYMMETRIC:g}", start)


@catalogue(FAULTS, "kernel transposed")
def kernel_transposed(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's kernel has x and y exchanged."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    with_weight(layer, lambda weight: weight.transpose(-2, -1))
    return Planted(path)


@catalogue(FAULTS, "kernel mirrored")
def kernel_mirrored(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's kernel is flipped along one axis only."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    axis = int(rng.integers(2))
    with_weight(layer, lambda weight: weight.flip(axis - 2))
    return Planted(path, "yx"[axis])


@catalogue(FAULTS, "channels permuted")
def channels_permuted(stack: TorchStack, rng: Generator) -> Planted:
    """A layer's output channels come in another order: every mean, norm and histogram stays."""
    wide = {path: layer for path, layer in layers(stack, *CONVOLUTIONS, nn.Linear).items() if outputs(layer) > 1}
    path, layer = pick(rng, wide)
    order = torch.from_numpy(shuffled(rng, outputs(layer)))
    rewire(layer, lambda own, x: own(x)[:, order])
    return Planted(path, f"{len(order)} channels")


@catalogue(FAULTS, "pixels permuted", "channels permuted")
def pixels_transposed(stack: TorchStack, rng: Generator) -> Planted:
    """Between pictures and features the pixels are counted column by column in place of row by row."""
    path, layer = pick(rng, layers(stack, nn.Flatten, nn.Unflatten))
    if isinstance(layer, nn.Flatten):
        rewire(layer, lambda own, x: own(x.transpose(-2, -1)))
    else:
        rewire(layer, lambda own, x: own(x).transpose(-2, -1))
    return Planted(path)


@catalogue(FAULTS, "samples permuted")
def samples_permuted(stack: TorchStack, rng: Generator) -> Planted:
    """A layer hands on the samples of the batch in another order."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS, nn.Linear, nn.Flatten, nn.Unflatten))
    rewire(layer, lambda own, x: own(x).roll(1, 0))
    return Planted(path)


def with_bias(stack: TorchStack) -> dict[str, nn.Module]:
    """Convolutions and dense layers with a bias."""
    found = layers(stack, *CONVOLUTIONS, nn.Linear)
    return {path: layer for path, layer in found.items() if layer.bias is not None}


def outputs(layer: nn.Module) -> int:
    """Output channels of a layer with a weight."""
    return int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))


# --- BatchNorm -----------------------------------------------------------------------------------------------


@catalogue(FAULTS, "train or eval mode")
def batch_norm_left_in_eval_mode(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm does not follow its network into train mode."""
    path, layer = pick(rng, layers(stack, *NORMS))
    stays_in(layer, False)
    return Planted(path)


@catalogue(FAULTS, "train or eval mode")
def batch_norm_left_in_train_mode(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm normalises by its batch where the published code uses its running statistics."""
    path, layer = pick(rng, layers(stack, *NORMS))
    stays_in(layer, True)
    return Planted(path)


@catalogue(FAULTS, "BatchNorm mode", "train or eval mode")
def batch_norm_ignores_its_batch(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm says that it is in train mode and normalises by its running statistics all the same."""
    path, layer = pick(rng, layers(stack, *NORMS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not layer.training:
            return own(x)
        mean, var = layer.running_mean.clone(), layer.running_var.clone()
        with torch.no_grad():
            own(x)
        return F.batch_norm(x, mean, var, layer.weight, layer.bias, False, 0.0, layer.eps)

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "BatchNorm momentum")
def batch_norm_momentum(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm's momentum is off by 1 to 50 percent."""
    path, layer = pick(rng, layers(stack, *NORMS))
    layer.momentum *= factor(rng, 1.01, 1.5)
    return Planted(path, f"{layer.momentum:.3g}")


@catalogue(FAULTS, "BatchNorm momentum")
def batch_norm_momentum_of_the_other_kind(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm's momentum weighs the old statistic in place of the new one, as in other frameworks."""
    path, layer = pick(rng, layers(stack, *NORMS))
    layer.momentum = 1 - layer.momentum
    return Planted(path, f"{layer.momentum:.3g}")


@catalogue(FAULTS, "BatchNorm eps")
def batch_norm_eps(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm's eps is 2 to 1000 times too large or too small."""
    path, layer = pick(rng, layers(stack, *NORMS))
    layer.eps *= factor(rng, 2, 1000)
    return Planted(path, f"{layer.eps:.3g}")


@catalogue(FAULTS, "BatchNorm eps outside the root")
def batch_norm_eps_outside_the_root(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm divides by sqrt(var) + eps in place of sqrt(var + eps)."""
    path, layer = pick(rng, layers(stack, *NORMS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        over = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        mean, var = layer.running_mean, layer.running_var
        if layer.training:
            with torch.no_grad():
                own(x)
            mean, var = x.mean(over), x.var(over, correction=0)
        centred = (x - mean.view(shape)) / (var.sqrt() + layer.eps).view(shape)
        return centred * layer.weight.view(shape) + layer.bias.view(shape)

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "biased running variance")
def running_variance_biased(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm's running variance takes the variance over n in place of n - 1."""
    path, layer = pick(rng, layers(stack, *NORMS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        before, y = layer.running_var.clone(), own(x)
        if layer.training:
            count = x.numel() // x.shape[1]
            batch = (layer.running_var - (1 - layer.momentum) * before) * (count - 1) / count
            layer.running_var.data = (1 - layer.momentum) * before + batch
        return y

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "stale buffers")
def running_statistics_not_updated(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm's running statistics stay what they were."""
    path, layer = pick(rng, layers(stack, *NORMS))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        before = layer.running_mean.clone(), layer.running_var.clone()
        y = own(x)
        layer.running_mean.data, layer.running_var.data = before
        return y

    rewire(layer, forward)
    return Planted(path)


def stays_in(layer: Any, mode: bool) -> None:
    """The layer stays in one mode, whatever its network is put into."""
    layer.train = lambda _=True: nn.Module.train(layer, mode)


# --- dropout -------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "dropout scale")
def dropout_scale(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout multiplies what it keeps by a wrong factor: 1, 1 - p, or one that is off by 1 to 30 percent."""
    path, layer = pick(rng, layers(stack, Dropout))
    layer.scale = [1.0, 1 - layer.p, layer.scale * factor(rng, 1.01, 1.3)][int(rng.integers(3))]
    return Planted(path, f"{layer.scale:.3g}")


@catalogue(FAULTS, "dropout off")
def dropout_off(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout in train mode lets everything through."""
    path, layer = pick(rng, layers(stack, Dropout))
    rewire(layer, lambda _, x: x)
    return Planted(path)


@catalogue(FAULTS, "train or eval mode")
def dropout_left_in_eval_mode(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout does not follow its network into train mode."""
    path, layer = pick(rng, layers(stack, Dropout))
    stays_in(layer, False)
    return Planted(path)


@catalogue(FAULTS, "dropout rate")
def dropout_rate(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout drops at a rate that is off by 10 to 60 percent; its scale is the right one."""
    path, layer = pick(rng, layers(stack, Dropout))
    layer.p *= factor(rng, 1.1, 1.6)
    return Planted(path, f"{layer.p:.3g}")


@catalogue(FAULTS, "dropout mask inverted")
def dropout_mask_inverted(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout keeps what it should drop."""
    path, layer = pick(rng, layers(stack, Dropout))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not layer.training:
            return own(x)
        return x * (1 - layer.source(tuple(x.shape), layer.p)) * layer.scale

    rewire(layer, forward)
    return Planted(path)


# --- activations, biases, single values ----------------------------------------------------------------------


@catalogue(FAULTS, "leaky slope")
def leaky_slope(stack: TorchStack, rng: Generator) -> Planted:
    """A leaky relu's slope is off by 1 percent to a factor of 20."""
    path, layer = pick(rng, layers(stack, nn.LeakyReLU))
    layer.negative_slope *= factor(rng, 1.01, 20) if rng.integers(2) else factor(rng, 1.01, 1.1)
    return Planted(path, f"{layer.negative_slope:.3g}")


@catalogue(FAULTS, "on/off pattern")
def fault_behind_a_kink(stack: TorchStack, rng: Generator) -> Planted:
    """A leaky relu damps its 1 to 8 smallest positive inputs too: forgiving every flip near zero would hide it."""
    path, layer = pick(rng, layers(stack, nn.LeakyReLU))
    count = int(rng.integers(1, 9))

    def forward(_: Any, x: Tensor) -> Tensor:
        positive = x.detach()[x.detach() > 0].sort().values
        limit = positive[: count + 1].max() if len(positive) else 0.0
        return torch.where(x >= limit, x, layer.negative_slope * x)

    rewire(layer, forward)
    return Planted(path, f"{count} units")


@catalogue(FAULTS, "bias missing", "gradient missing")
def bias_left_out(stack: TorchStack, rng: Generator) -> Planted:
    """A layer of the discriminator is computed without its bias."""
    path, layer = pick(rng, with_bias(stack))
    weights = {**layer._parameters}

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        layer._parameters = {**weights, "bias": None}
        try:
            return own(x)
        finally:
            layer._parameters = weights

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "gradient missing")
def bias_gradient_dropped(stack: TorchStack, rng: Generator) -> Planted:
    """A bias takes part in the forward pass and gets no gradient."""
    path, layer = pick(rng, with_bias(stack))
    if rng.integers(2):
        layer.bias.register_hook(torch.zeros_like)
        return Planted(path, "zero")
    layer.bias.requires_grad_(False)
    return Planted(path, "none")


@catalogue(FAULTS, "constant in the wrong width")
def constant_in_the_wrong_width(stack: TorchStack, rng: Generator) -> Planted:
    """One constant is the double of its literal where the run computes with the one rounded to Float32."""
    config = stack.config.replace(constants="native")
    path, layer = pick(rng, layers(stack, nn.LeakyReLU, *NORMS, Dropout))
    if isinstance(layer, nn.LeakyReLU):
        layer.negative_slope = config.constant(config.leaky_slope)
        return Planted(path, "slope")
    if isinstance(layer, Dropout):
        layer.scale = config.dropout_scale
        return Planted(path, "scale")
    name = ["eps", "momentum"][int(rng.integers(2))]
    setattr(layer, name, config.constant(getattr(config, f"bn_{name}")))
    return Planted(path, name)


@catalogue(FAULTS, "lowered precision")
def layer_in_float32(stack: TorchStack, rng: Generator) -> Planted:
    """One layer of a Float64 run rounds its output to Float32."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS, nn.Linear, *NORMS, nn.Tanh))
    rewire(layer, lambda own, x: own(x).float().to(x.dtype))
    return Planted(path)


@catalogue(FAULTS, "NaN in the candidate", "not finite")
def nan_in_one_element(stack: TorchStack, rng: Generator) -> Planted:
    """One element of a layer's output is NaN."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS, nn.Linear, *NORMS))
    place = float(rng.uniform())

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = own(x).clone()
        y.view(-1)[int(place * y.numel())] = float("nan")
        return y

    rewire(layer, forward)
    return Planted(path)


@catalogue(FAULTS, "gradient scaled")
def weight_gradient_scaled(stack: TorchStack, rng: Generator) -> Planted:
    """The backward pass of one layer gives its weight's gradient times 1.001 to 2 (or its inverse)."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS, nn.Linear))
    size = factor(rng, 1.001, 2)
    layer.weight.register_hook(lambda gradient: gradient * size)
    return Planted(path, f"{size:.4g}")


@catalogue(FAULTS, "stride or padding")
def padding_on_one_side(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution pads (or crops) one pixel more at one border and one less at the other."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    axis, side = int(rng.integers(2)), int(rng.integers(2)) * 2 - 1

    def forward(_: Any, x: Tensor) -> Tensor:
        pads = [pad for a in (1, 0) for pad in shifted(layer.padding[a], side if a == axis else 0)]
        if isinstance(layer, nn.ConvTranspose2d):
            return F.pad(F.conv_transpose2d(x, layer.weight, layer.bias, layer.stride), [-pad for pad in pads])
        return F.conv2d(F.pad(x, pads), layer.weight, layer.bias, layer.stride)

    rewire(layer, forward)
    return Planted(path, "yx"[axis] + ("+" if side > 0 else "-"))


def shifted(pad: int, by: int) -> tuple[int, int]:
    """Padding before and after, moved by ``by``."""
    return pad + by, pad - by
