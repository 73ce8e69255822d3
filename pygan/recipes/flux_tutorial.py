"""The Flux DCGAN tutorial in PyTorch (facts/systems.md, section 1; the Flux side is ``julia/src/recipes``).

Shapes are PyTorch's: images ``(N, 1, 28, 28)`` in [-1, 1], latent vectors ``(N, latent_dim)``, logits ``(N, 1)``.
In Flux the same arrays are ``(28, 28, 1, N)``, ``(latent_dim, N)`` and ``(1, N)``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.draws import Draws
from pygan.recipes import StepContext
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.dropout import Dropout
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig


class Generator(nn.Sequential):
    """Latent ``(N, latent_dim)`` to images ``(N, 1, 28, 28)``."""

    def __init__(self, config: FluxTutorialConfig) -> None:
        w = config.width
        eps, momentum = config.constant(config.bn_eps), config.constant(config.bn_momentum)
        super().__init__(
            OrderedDict(
                dense=nn.Linear(config.latent_dim, 4 * w * 7 * 7, bias=False),
                norm1=nn.BatchNorm1d(4 * w * 7 * 7, eps, momentum),
                relu1=nn.ReLU(),
                unflatten=nn.Unflatten(1, (4 * w, 7, 7)),
                conv1=nn.ConvTranspose2d(4 * w, 2 * w, 5, stride=1, padding=2, bias=False),
                norm2=nn.BatchNorm2d(2 * w, eps, momentum),
                relu2=nn.ReLU(),
                conv2=nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1, bias=False),
                norm3=nn.BatchNorm2d(w, eps, momentum),
                relu3=nn.ReLU(),
                conv3=nn.ConvTranspose2d(w, 1, 4, stride=2, padding=1, bias=False),
                tanh=nn.Tanh(),
            )
        )


class Discriminator(nn.Sequential):
    """Images ``(N, 1, 28, 28)`` to raw logits ``(N, 1)``."""

    def __init__(self, config: FluxTutorialConfig) -> None:
        w, slope = config.width, config.constant(config.leaky_slope)
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, w, 4, stride=2, padding=1),
                leaky1=nn.LeakyReLU(slope),
                drop1=Dropout(config.dropout, config.dropout_scale),
                conv2=nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
                leaky2=nn.LeakyReLU(slope),
                drop2=Dropout(config.dropout, config.dropout_scale),
                flatten=nn.Flatten(),
                dense=nn.Linear(2 * w * 7 * 7, 1),
            )
        )


def build(config: FluxTutorialConfig) -> dict[str, nn.Module]:
    """Both networks."""
    return {"discriminator": Discriminator(config), "generator": Generator(config)}


@torch.no_grad()
def initialise(networks: Mapping[str, nn.Module], config: FluxTutorialConfig, draws: Draws) -> None:
    """Dense weights Glorot-uniform, convolutions N(0, init_std), biases 0, BatchNorm at its defaults.

    Computed in Float32 from the draws ``init/<path>`` and widened, so that every dtype starts from the same weights.
    """
    for name, network in networks.items():
        for path, layer in network.named_modules():
            stream = f"init/{name}.{path}.weight"
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.from_numpy(glorot_uniform(draws, stream, tuple(layer.weight.shape))))
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                drawn = draws.normal(stream, tuple(layer.weight.shape)) * np.float32(config.init_std)
                layer.weight.copy_(torch.from_numpy(drawn))
            if isinstance(bias := getattr(layer, "bias", None), Tensor):
                bias.zero_()


def glorot_uniform(draws: Draws, stream: str, shape: tuple[int, ...]) -> np.ndarray:
    """Flux's ``glorot_uniform`` in its own arithmetic: ``(u - 0.5) * sqrt(24 / (fan_in + fan_out))``, Float32."""
    fans = np.float32(prod(shape[2:]) * (shape[0] + shape[1]))
    scale: np.float32 = np.sqrt(np.float32(24) / fans)
    return (draws.uniform(stream, shape) - np.float32(0.5)) * scale


def optimisers(networks: Mapping[str, nn.Module], config: FluxTutorialConfig) -> dict[str, OptimisersAdam]:
    """One Adam per network, in Optimisers.jl's arithmetic."""
    rates = {"discriminator": config.discriminator_lr, "generator": config.generator_lr}
    betas = (config.constant(config.beta1), config.constant(config.beta2))
    return {
        name: OptimisersAdam(
            network.parameters(), config.constant(rates[name]), betas, config.constant(config.adam_eps)
        )
        for name, network in networks.items()
    }


def bce(logits: Tensor, label: float) -> Tensor:
    """Mean binary cross-entropy of raw ``logits`` against one constant label."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def train_step(run: StepContext, real: Tensor) -> None:
    """One step on ``real`` ``(N, 1, 28, 28)``: discriminator first, then the generator against the updated one.

    The noise is always ``batch`` wide, also when ``real`` is the last, smaller batch, and serves both updates.
    """
    config: FluxTutorialConfig = run.config
    noise = run.tensor(run.draws.normal("noise", (config.batch, config.latent_dim)))
    with torch.no_grad():
        fake = run.call("sample", "generator", noise, train=False)

    real_logits = run.call("real", "discriminator", real, train=True)
    fake_logits = run.call("fake", "discriminator", fake, train=True)
    run.record("logits", "real", real_logits)
    run.record("logits", "fake", fake_logits)
    discriminator_loss = bce(real_logits, 1) + bce(fake_logits, 0)
    run.record("loss", "discriminator", discriminator_loss)
    run.update("discriminator", discriminator_loss)

    if config.semantics == "fixed":
        fake = run.call("generator", "generator", noise, train=True)
    generator_logits = run.call("generator", "discriminator", fake, train=True)
    run.record("logits", "generator", generator_logits)
    generator_loss = bce(generator_logits, 1)
    run.record("loss", "generator", generator_loss)
    run.update("generator", generator_loss)


def pictures(run: StepContext, latent: Tensor) -> Tensor:
    """Images ``(n, 1, 28, 28)``: the generator in eval mode on each latent vector alone, as the article does."""
    with torch.no_grad():
        return torch.cat([run.call("picture", "generator", row[None], train=False) for row in latent])
