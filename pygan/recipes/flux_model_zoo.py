"""The DCGAN of Flux's model zoo in PyTorch (facts/systems.md, section 2; the Flux side is ``julia/src/recipes``).

Shapes are PyTorch's: images ``(N, 1, 28, 28)`` in [-1, 1], latent vectors ``(N, latent_dim)``, logits ``(N, 1)``.
In Flux the same arrays are ``(28, 28, 1, N)``, ``(latent_dim, N)`` and ``(1, N)``. Against the tutorial: biases in
the generator, tanh as a layer of its own, noise of its own for each update, and images in order.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from pygan.recipes import StepContext
from pygan.recipes.dropout import Dropout
from pygan.recipes.flux_model_zoo_config import FluxModelZooConfig
from pygan.recipes.flux_tutorial import bce, initialise, optimisers, pictures

__all__ = ["build", "initialise", "optimisers", "pictures", "train_step"]


def build(config: FluxModelZooConfig) -> dict[str, nn.Module]:
    """Both networks."""
    w, slope = config.width, config.constant(config.leaky_slope)
    eps, momentum = config.constant(config.bn_eps), config.constant(config.bn_momentum)
    discriminator = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(1, w, 4, stride=2, padding=1),
        leaky1=nn.LeakyReLU(slope),
        drop1=Dropout(config.dropout, config.dropout_scale),
        conv2=nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
        leaky2=nn.LeakyReLU(slope),
        drop2=Dropout(config.dropout, config.dropout_scale),
        flatten=nn.Flatten(),
        dense=nn.Linear(2 * w * 7 * 7, 1),
    )
    generator = OrderedDict[str, nn.Module](
        dense=nn.Linear(config.latent_dim, 4 * w * 7 * 7),
        norm1=nn.BatchNorm1d(4 * w * 7 * 7, eps, momentum),
        relu1=nn.ReLU(),
        unflatten=nn.Unflatten(1, (4 * w, 7, 7)),
        conv1=nn.ConvTranspose2d(4 * w, 2 * w, 5, stride=1, padding=2),
        norm2=nn.BatchNorm2d(2 * w, eps, momentum),
        relu2=nn.ReLU(),
        conv2=nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1),
        norm3=nn.BatchNorm2d(w, eps, momentum),
        relu3=nn.ReLU(),
        conv3=nn.ConvTranspose2d(w, 1, 4, stride=2, padding=1),
        tanh=nn.Tanh(),
    )
    return {"discriminator": nn.Sequential(discriminator), "generator": nn.Sequential(generator)}


def train_step(run: StepContext, real: Tensor) -> None:
    """One step on ``real`` ``(N, 1, 28, 28)``: the discriminator on reals and fakes, then the generator against the
    updated one. Each draws ``batch`` latent vectors of its own, also for the last, smaller batch."""
    config: FluxModelZooConfig = run.config
    size = (config.batch, config.latent_dim)
    with torch.no_grad():
        noise = run.tensor(run.draws.normal("noise/discriminator", size))
        fake = run.call("sample", "generator", noise, train=False)

    real_logits = run.call("real", "discriminator", real, train=True)
    fake_logits = run.call("fake", "discriminator", fake, train=True)
    run.record("logits", "real", real_logits)
    run.record("logits", "fake", fake_logits)
    loss = bce(real_logits, 1) + bce(fake_logits, 0)
    run.record("loss", "discriminator", loss)
    run.update("discriminator", loss)

    noise = run.tensor(run.draws.normal("noise/generator", size))
    images = run.call("generator", "generator", noise, train=True)
    logits = run.call("generator", "discriminator", images, train=True)
    run.record("logits", "generator", logits)
    loss = bce(logits, 1)
    run.record("loss", "generator", loss)
    run.update("generator", loss)
