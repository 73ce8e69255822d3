"""Planted bugs of what surrounds the steps: the initial state, names and shapes, batches, the grid of pictures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import isqrt

import numpy as np
import torch
from numpy.random import Generator
from torch import nn

from planted.fault import ADMITTED, EPOCH, PICTURES, Fault, Planted, catalogue, layers, pick
from planted.layer_faults import CONVOLUTIONS, outputs
from pygan.draws import Draws
from pygan.files import sha256
from pygan.pictures.grid import grid
from pygan.recipes import torch_recipe
from pygan.schedule import Schedule
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []


# --- the initial state -------------------------------------------------------------------------------------------


@catalogue(FAULTS, "initial weights in another order")
def weights_filled_in_another_order(stack: TorchStack, rng: Generator) -> Planted:
    """A layer's draws are right and fill its weight column by column, in the memory order of another framework."""
    wide = {path: layer for path, layer in layers(stack, *CONVOLUTIONS, nn.Linear).items() if outputs(layer) > 1}
    path, layer = pick(rng, wide)
    drawn = layer.weight.detach()
    filled = drawn.reshape(drawn.shape[::-1]).permute(*reversed(range(drawn.dim())))
    layer.weight.data = filled.clone(memory_format=torch.contiguous_format)
    return Planted(f"{path}.weight")


@catalogue(FAULTS, "other initial weights")
def weights_of_another_stream(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's weight is of the right law and drawn under another layer's name."""
    found = layers(stack, *CONVOLUTIONS)
    path, layer = pick(rng, found)
    other = pick(rng, [name for name in found if name != path])
    layer.weight.data.copy_(normals(stack, f"init/{other}.weight", layer, stack.config.init_std))
    return Planted(f"{path}.weight", f"that of {other}")


@catalogue(FAULTS, "initial weights scaled")
def weights_of_another_deviation(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's weight has the standard deviation 0.0201 in place of 0.02: no test of its law could tell."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    layer.weight.data.copy_(normals(stack, f"init/{path}.weight", layer, 0.0201))
    return Planted(f"{path}.weight", "0.0201")


@catalogue(FAULTS, "initial weights scaled", "other initial weights")
def dense_at_0_02(stack: TorchStack, rng: Generator) -> Planted:
    """A dense layer starts from N(0, 0.02) as the convolutions do."""
    path, layer = pick(rng, layers(stack, nn.Linear))
    layer.weight.data.copy_(normals(stack, f"init/{path}.weight", layer, 0.02))
    return Planted(f"{path}.weight")


def normals(stack: TorchStack, stream: str, layer: nn.Module, deviation: float) -> torch.Tensor:
    """A weight as the recipe draws it."""
    drawn = Draws(stack.config.seed).normal(stream, tuple(layer.weight.shape))
    return torch.from_numpy(drawn * np.float32(deviation))


@catalogue(FAULTS, "beta powers one step ahead")
def powers_of_beta_one_step_ahead(stack: TorchStack, rng: Generator) -> Planted:
    """A network's running powers of beta start at the betas' squares."""
    name, optimiser = pick(rng, stack.optimisers)
    for slots in optimiser.state.values():
        slots["beta_power"].square_()
    return Planted(name)


# --- names and shapes --------------------------------------------------------------------------------------------


def rebuilt(stack: TorchStack) -> None:
    """Optimisers over the parameters that the networks have now."""
    stack.optimisers = torch_recipe(stack.config.recipe).optimisers(stack.networks, stack.config)


@catalogue(FAULTS, "kernel size")
def other_kernel_size(stack: TorchStack, rng: Generator) -> Planted:
    """A convolution's kernel is two pixels wider; its padding keeps the size of what leaves it."""
    path, layer = pick(rng, layers(stack, *CONVOLUTIONS))
    network, _, name = path.partition(".")
    kind = nn.ConvTranspose2d if isinstance(layer, nn.ConvTranspose2d) else nn.Conv2d
    kernel, padding = layer.kernel_size[0] + 2, layer.padding[0] + 1
    made = kind(layer.in_channels, layer.out_channels, kernel, layer.stride, padding, bias=layer.bias is not None)
    setattr(stack.networks[network], name, made.to(stack.dtype))
    rebuilt(stack)
    return Planted(path, f"{kernel} x {kernel}")


@catalogue(FAULTS, "bias too many")
def forgotten_bias_false(stack: TorchStack, rng: Generator) -> Planted:
    """A layer that should have no bias has one, as PyTorch's layers do by default."""
    found = layers(stack, *CONVOLUTIONS, nn.Linear)
    path, layer = pick(rng, {name: layer for name, layer in found.items() if layer.bias is None})
    layer.bias = nn.Parameter(layer.weight.new_zeros(outputs(layer)))
    rebuilt(stack)
    return Planted(path)


@catalogue(FAULTS, "layer renamed")
def other_layer_names(stack: TorchStack, rng: Generator) -> Planted:
    """A layer with parameters has another name than in the reference."""
    path, _ = pick(rng, layers(stack, *CONVOLUTIONS, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d))
    network, _, name = path.partition(".")
    held = stack.networks[network]._modules
    renamed = OrderedDict((f"my_{key}" if key == name else key, layer) for key, layer in held.items())
    stack.networks[network]._modules = renamed
    return Planted(path)


@catalogue(FAULTS, "other optimiser")
def optimiser_without_moments(stack: TorchStack, rng: Generator) -> Planted:
    """A network is trained by torch.optim.RMSprop, whose state has other tensors than Adam's."""
    name = pick(rng, stack.networks.keys())
    rate = stack.optimisers[name].param_groups[0]["lr"]
    stack.optimisers[name] = torch.optim.RMSprop(stack.networks[name].parameters(), rate)
    return Planted(name)


# --- batches -----------------------------------------------------------------------------------------------------


def in_order(stack: TorchStack, place: Callable[[Schedule, int], tuple[int, int]]) -> None:
    """The stack's own order of images: step ``n`` sees batch ``b`` of the shuffle of epoch ``e``, of
    ``place(schedule, n) = (e, b)``."""
    config = stack.config

    def hashes(images: np.ndarray, steps: list[int]) -> list[str]:
        schedule = Schedule(images, config.batch, Draws(config.seed))
        places = [place(schedule, step) for step in steps]
        return [sha256(schedule[epoch * schedule.steps_per_epoch + batch].tobytes()) for epoch, batch in places]

    stack.batch_hashes = hashes  # type: ignore[method-assign]


@catalogue(FAULTS, "other batch", shows=EPOCH)
def one_shuffle_for_ever(stack: TorchStack, rng: Generator) -> Planted:
    """The images are shuffled once, and every epoch has the order of the first."""
    in_order(stack, lambda schedule, step: (0, step % schedule.steps_per_epoch))
    return Planted("batches")


@catalogue(FAULTS, "other batch")
def shuffle_of_the_next_epoch(stack: TorchStack, rng: Generator) -> Planted:
    """Epochs are counted from 1 where the draws count from 0."""

    def place(schedule: Schedule, step: int) -> tuple[int, int]:
        epoch, batch = divmod(step, schedule.steps_per_epoch)
        return epoch + 1, batch

    in_order(stack, place)
    return Planted("batches")


def scaled(stack: TorchStack, scale: Callable[[np.ndarray], np.ndarray]) -> None:
    """The stack scales its images by ``scale`` of the grey levels, 0 to 255 in Float32."""
    own, config = stack.step, stack.config

    def other(batch: np.ndarray) -> np.ndarray:
        return scale(np.rint((batch + 1) / 2 * 255).astype(np.float32)).astype(np.float32)

    def hashes(images: np.ndarray, steps: list[int]) -> list[str]:
        schedule = Schedule(images, config.batch, Draws(config.seed))
        return [sha256(other(schedule[step]).tobytes()) for step in steps]

    stack.step = lambda batch, *rest, **how: own(other(batch), *rest, **how)  # type: ignore[method-assign]
    stack.batch_hashes = hashes  # type: ignore[method-assign]


@catalogue(FAULTS, "other batch", "images scaled otherwise")
def grey_levels_over_256(stack: TorchStack, rng: Generator) -> Planted:
    """Grey levels are divided by 256 in place of 255."""
    scaled(stack, lambda levels: levels / np.float32(256) * 2 - 1)
    return Planted("batches")


@catalogue(FAULTS, "other batch", kind=ADMITTED)
def grey_levels_times_a_rounded_255th(stack: TorchStack, rng: Generator) -> Planted:
    """Grey levels are multiplied by 1 / 255, rounded to Float32, in place of divided by 255."""
    scaled(stack, lambda levels: levels * np.float32(1 / 255) * 2 - 1)
    return Planted("batches")


@catalogue(FAULTS, "other batch", "images scaled otherwise")
def grey_levels_by_mean_and_deviation(stack: TorchStack, rng: Generator) -> Planted:
    """Grey levels are normalised by the mean and standard deviation of MNIST, as torchvision's examples do."""
    scaled(stack, lambda levels: (levels / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081))
    return Planted("batches")


# --- pictures ----------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "grid laid out otherwise", shows=PICTURES)
def grid_row_by_row(stack: TorchStack, rng: Generator) -> Planted:
    """The pictures of a grid are laid out row by row in place of column by column."""

    def rows(pictures: np.ndarray) -> np.ndarray:
        side = isqrt(len(pictures))
        turned = pictures.reshape(side, side, *pictures.shape[1:]).swapaxes(0, 1)
        return grid(turned.reshape(pictures.shape), side)

    stack.grid = rows  # type: ignore[method-assign]
    return Planted("grid")
