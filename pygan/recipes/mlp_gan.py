"""The MLP GAN of Keras-GAN, as published for MNIST (facts/systems.md, section 7), in PyTorch.

Shapes are PyTorch's: images ``(N, 1, 28, 28)`` in [-1, 1], latent vectors ``(N, latent_dim)``, probabilities
``(N, 1)``. In Flux the same arrays are ``(28, 28, 1, N)``, ``(latent_dim, N)`` and ``(1, N)``. An epoch is one batch
that is drawn with replacement. Differences from Keras: a BatchNorm's running variance is over n - 1, as both stacks
compute it (Keras: over n), and a run ends with the pictures of the finished networks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.draws import Draws
from pygan.recipes import StepContext
from pygan.recipes.flux_tutorial import glorot_uniform
from pygan.recipes.mlp_gan_config import MlpGanConfig


def build(config: MlpGanConfig) -> dict[str, nn.Module]:
    """Both networks."""
    w, slope = config.width, config.constant(config.leaky_slope)
    eps, momentum = config.constant(config.bn_eps), config.constant(config.bn_momentum)
    generator, wide = OrderedDict[str, nn.Module](), config.latent_dim
    for i, size in enumerate((w, 2 * w, 4 * w), 1):
        generator[f"dense{i}"] = nn.Linear(wide, size)
        generator[f"leaky{i}"] = nn.LeakyReLU(slope)
        generator[f"norm{i}"] = nn.BatchNorm1d(size, eps, momentum)
        wide = size
    generator |= {"dense4": nn.Linear(wide, 784), "tanh": nn.Tanh(), "unflatten": nn.Unflatten(1, (1, 28, 28))}
    discriminator = OrderedDict[str, nn.Module](
        flatten=nn.Flatten(),
        dense1=nn.Linear(784, 2 * w),
        leaky1=nn.LeakyReLU(slope),
        dense2=nn.Linear(2 * w, w),
        leaky2=nn.LeakyReLU(slope),
        dense3=nn.Linear(w, 1),
        sigmoid=nn.Sigmoid(),
    )
    return {"discriminator": nn.Sequential(discriminator), "generator": nn.Sequential(generator)}


@torch.no_grad()
def initialise(networks: Mapping[str, nn.Module], config: MlpGanConfig, draws: Draws) -> None:
    """Weights Glorot-uniform from the draws ``init/<path>``, biases 0."""
    for name, network in networks.items():
        for path, layer in network.named_modules():
            if isinstance(layer, nn.Linear):
                drawn = glorot_uniform(draws, f"init/{name}.{path}.weight", tuple(layer.weight.shape))
                layer.weight.copy_(torch.from_numpy(drawn))
                layer.bias.zero_()


def optimisers(networks: Mapping[str, nn.Module], config: MlpGanConfig) -> dict[str, torch.optim.Optimizer]:
    """Plain SGD, one a network."""
    rate = config.constant(config.learning_rate)
    return {name: torch.optim.SGD(network.parameters(), lr=rate) for name, network in networks.items()}


def bce(probabilities: Tensor, label: float, config: MlpGanConfig) -> Tensor:
    """Mean binary cross-entropy of clipped ``probabilities`` ``(N, 1)`` against one constant label, as Keras's."""
    clip = config.constant(config.clip)
    clipped = probabilities.clamp(clip, 1 - clip)
    return F.binary_cross_entropy(clipped, torch.full_like(clipped, label))


def train_step(run: StepContext, real: Tensor) -> None:
    """One step on ``real`` ``(N, 1, 28, 28)``: the discriminator on reals, then on fakes, then the generator, with
    noise of its own."""
    config: MlpGanConfig = run.config
    noise = run.tensor(run.draws.normal("noise/discriminator", (config.batch, config.latent_dim)))
    with torch.no_grad():
        fake = run.call("sample", "generator", noise, train=False)

    for name, images, label in (("real", real, 1.0), ("fake", fake, 0.0)):
        loss = bce(run.call(name, "discriminator", images, train=True), label, config)
        run.record("loss", f"discriminator/{name}", loss)
        run.update(f"discriminator/{name}", loss)

    noise = run.tensor(run.draws.normal("noise/generator", (config.batch, config.latent_dim)))
    images = run.call("generator", "generator", noise, train=True)
    loss = bce(run.call("generator", "discriminator", images, train=True), 1.0, config)
    run.record("loss", "generator", loss)
    run.update("generator", loss)


def pictures(run: StepContext, latent: Tensor) -> Tensor:
    """Images ``(n, 1, 28, 28)``: the generator in eval mode on all latent vectors."""
    with torch.no_grad():
        return run.call("picture", "generator", latent, train=False)
