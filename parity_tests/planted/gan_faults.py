"""Planted bugs that come from other GANs: their losses, order of updates, layers and initial weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from planted.fault import Context, Fault, Planted, catalogue, layers, pick, rewire, through
from planted.layer_faults import NORMS
from planted.step_faults import LABELS, TERMS, loss_of, other_loss
from pygan.recipes.dropout import Dropout
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []


# --- losses ------------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "least-squares loss")
def least_squares_loss(stack: TorchStack, rng: Generator) -> Planted:
    """A loss is the squared distance of the raw logits from the labels (LSGAN)."""
    network = pick(rng, TERMS.keys())
    other_loss(stack, network, lambda logits: sum((logits[c] - LABELS[c]).square().mean() for c in TERMS[network]))
    return Planted(network)


@catalogue(FAULTS, "saturating loss")
def saturating_loss(stack: TorchStack, rng: Generator) -> Planted:
    """The generator minimises log(1 - D), the minimax loss, in place of -log(D)."""
    other_loss(stack, "generator", lambda logits: -loss_of(logits["generator"], 0.0))
    return Planted("generator")


@catalogue(FAULTS, "Wasserstein loss")
def wasserstein_loss(stack: TorchStack, rng: Generator) -> Planted:
    """A loss is the critic's: means of raw logits and no cross-entropy."""
    network = pick(rng, TERMS.keys())
    other_loss(stack, network, lambda logits: sum((1 - 2 * LABELS[c]) * logits[c].mean() for c in TERMS[network]))
    return Planted(network)


@catalogue(FAULTS, "hinge loss")
def hinge_loss(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's loss is the hinge loss of SAGAN."""
    other_loss(
        stack, "discriminator", lambda logits: (1 - logits["real"]).relu().mean() + (1 + logits["fake"]).relu().mean()
    )
    return Planted("discriminator")


@catalogue(FAULTS, "loss scaled", "mean instead of sum", "pooled loss")
def pooled_loss(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's loss is one mean over real and fake logits together."""

    def pooled(logits: dict[str, Tensor]) -> Tensor:
        z = torch.cat([logits["real"], logits["fake"]])
        labels = torch.cat([torch.ones_like(logits["real"]), torch.zeros_like(logits["fake"])])
        return F.binary_cross_entropy_with_logits(z, labels)

    other_loss(stack, "discriminator", pooled)
    return Planted("discriminator")


@catalogue(FAULTS, "some labels flipped")
def labels_flipped_at_two_per_cent(stack: TorchStack, rng: Generator) -> Planted:
    """One real image in 50 (at least one a batch) is labelled fake."""

    def flipped(logits: dict[str, Tensor]) -> Tensor:
        labels = torch.ones_like(logits["real"])
        labels[: max(1, len(labels) // 50)] = 0
        real = F.binary_cross_entropy_with_logits(logits["real"], labels)
        return real + loss_of(logits["fake"], 0.0)

    other_loss(stack, "discriminator", flipped)
    return Planted("discriminator")


# --- order, weights ----------------------------------------------------------------------------------------------


@catalogue(FAULTS, "order of updates")
def generator_before_discriminator(stack: TorchStack, rng: Generator) -> Planted:
    """The generator is updated first, against the discriminator of the step before."""

    class Deferred(Context):
        waiting: Tensor | None = None

        def update(self, network: str, loss: Tensor) -> None:
            if network == "discriminator":
                self.waiting = loss
                return
            self.run.update(network, loss)
            self.run.update("discriminator", self.waiting)

    through(stack, Deferred)
    return Planted("discriminator")


@catalogue(FAULTS, "weights clipped")
def weights_clipped(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's weights are clipped to [-0.01, 0.01] after its update (WGAN)."""
    own = stack.optimisers["discriminator"].step

    def step(closure: object = None) -> object:
        made = own(closure)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in stack.networks["discriminator"].parameters():
                parameter.clamp_(-0.01, 0.01)
        return made

    stack.optimisers["discriminator"].step = step  # type: ignore[assignment]
    return Planted("discriminator", "0.01")


@catalogue(FAULTS, "other optimiser")
def gradient_descent_with_momentum(stack: TorchStack, rng: Generator) -> Planted:
    """A network is trained by torch.optim.SGD with momentum."""
    return by_sgd(stack, rng, nesterov=False)


@catalogue(FAULTS, "other optimiser")
def nesterov_momentum(stack: TorchStack, rng: Generator) -> Planted:
    """A network is trained by torch.optim.SGD with Nesterov's momentum."""
    return by_sgd(stack, rng, nesterov=True)


def by_sgd(stack: TorchStack, rng: Generator, nesterov: bool) -> Planted:
    """A network's optimiser is torch.optim.SGD."""
    name = pick(rng, stack.networks.keys())
    rate = stack.optimisers[name].param_groups[0]["lr"]
    made = torch.optim.SGD(stack.networks[name].parameters(), rate, momentum=0.9, nesterov=nesterov)
    stack.optimisers[name] = made  # type: ignore[assignment]
    return Planted(name)


# --- layers ------------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "dropout over channels")
def dropout_of_whole_channels(stack: TorchStack, rng: Generator) -> Planted:
    """A Dropout drops whole channels, as Dropout2d does."""
    path, layer = pick(rng, layers(stack, Dropout))

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if layer.source is None or not layer.training:
            return own(x)
        keep = layer.source(tuple(x.shape), layer.p)[:, :, :1, :1]
        return x * (keep * layer.scale)

    rewire(layer, forward)
    return Planted(path)


def normalised_by(layer: nn.Module, parts: Callable[[Tensor], list[Tensor]], ddof: int = 0) -> None:
    """In train mode each of ``parts`` of the batch is normalised by its own statistics; running ones stay right."""

    def forward(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        right = own(x)
        if not layer.training:
            return right
        axes = (0, *range(2, x.dim()))
        shape = (1, -1, *(1,) * (x.dim() - 2))
        made = []
        for part in parts(x):
            source = part if ddof >= 0 else x[:1]
            count = source.numel() // source.shape[1]
            mean = source.mean(axes, keepdim=True)
            variance = (source - mean).square().mean(axes, keepdim=True) * (count / max(count - max(ddof, 0), 1))
            scaled = (part - mean) / (variance + layer.eps).sqrt()
            made.append(scaled * layer.weight.view(shape) + layer.bias.view(shape))
        return torch.cat(made)

    rewire(layer, forward)


@catalogue(FAULTS, "BatchNorm over parts of the batch")
def ghost_batch_norm(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm normalises the two halves of its batch each by itself."""
    path, layer = pick(rng, layers(stack, *NORMS))
    normalised_by(layer, lambda x: [x[: len(x) // 2], x[len(x) // 2 :]])
    return Planted(path)


@catalogue(FAULTS, "BatchNorm over parts of the batch")
def instance_norm(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm normalises every sample by its own statistics, as InstanceNorm does."""
    path, layer = pick(rng, layers(stack, nn.BatchNorm2d))
    normalised_by(layer, lambda x: list(x.split(1)))
    return Planted(path)


@catalogue(FAULTS, "BatchNorm over parts of the batch")
def batch_norm_by_its_first_sample(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm normalises the batch by the statistics of its first sample."""
    path, layer = pick(rng, layers(stack, nn.BatchNorm2d))
    normalised_by(layer, lambda x: [x], ddof=-1)
    return Planted(path)


@catalogue(FAULTS, "BatchNorm unbiased variance")
def batch_norm_by_the_unbiased_variance(stack: TorchStack, rng: Generator) -> Planted:
    """A BatchNorm normalises by the variance divided by n - 1."""
    path, layer = pick(rng, layers(stack, *NORMS))
    normalised_by(layer, lambda x: [x], ddof=1)
    return Planted(path)
