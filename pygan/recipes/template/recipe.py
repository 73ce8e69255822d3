"""MODEL in PyTorch, and its config. Images ``(N, 1, 28, 28)`` in [-1, 1], logits ``(N, 2)``: upright, turned.

A small classifier to start from: half of the images of a batch are turned by 180 degrees, and it has to tell which.
Replace it by your own model; ``recipe.jl`` is the same model in Flux. Then:

    pygan parity torch flux --recipe FOLDER        # both live: needs Julia with Flux
    pygan record --stack flux --recipe FOLDER ...  # for those who have no Julia
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.config import RunConfig, sourced
from pygan.draws import Draws
from pygan.recipes import StepContext
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.flux_tutorial import glorot_uniform

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """A classifier with one hidden layer: every number of it, each a flag of the command line."""

    recipe: ClassVar[str] = "MODEL"
    networks: ClassVar[tuple[str, ...]] = ("classifier",)
    narrow: ClassVar[Mapping[str, Any]] = {"width": 4, "batch": 8}
    """A twin that takes milliseconds: what `pygan parity` compares unless it is told --full."""

    width: int = sourced(64, OURS, at_least=1)
    batch: int = sourced(32, OURS, at_least=1)
    epochs: int = sourced(1, OURS, at_least=1)
    learning_rate: float = sourced(1e-3, OURS, above=0)
    dropout: float = sourced(0.5, OURS, at_least=0, below=1)


def build(config: Config) -> dict[str, nn.Module]:
    """The networks by name, uninitialised."""
    layers = OrderedDict[str, nn.Module](
        flatten=nn.Flatten(),
        hidden=nn.Linear(28 * 28, config.width),
        relu=nn.ReLU(),
        drop=nn.Dropout(config.dropout),
        out=nn.Linear(config.width, 2),
    )
    return {"classifier": nn.Sequential(layers)}


@torch.no_grad()
def initialise(networks: Mapping[str, nn.Module], config: Config, draws: Draws) -> None:
    """Weights Glorot-uniform from the draws ``init/<network>.<layer>.weight``, as Flux computes it; biases 0."""
    for name, network in networks.items():
        for path, layer in network.named_modules():
            if isinstance(layer, nn.Linear):
                drawn = glorot_uniform(draws, f"init/{name}.{path}.weight", tuple(layer.weight.shape))
                layer.weight.copy_(torch.from_numpy(drawn))
                layer.bias.zero_()


def optimisers(networks: Mapping[str, nn.Module], config: Config) -> dict[str, Any]:
    """One optimiser a network: Adam in the arithmetic of Optimisers.jl. ``config.constant`` is the number as Flux has
    it, rounded to Float32."""
    rate, betas = config.constant(config.learning_rate), (config.constant(0.9), config.constant(0.999))
    return {
        name: OptimisersAdam(network.parameters(), rate, betas, config.constant(1e-8))
        for name, network in networks.items()
    }


def train_step(run: StepContext, real: Tensor) -> None:
    """One step on a batch. What is drawn comes from ``run.draws``, by name, so that Flux draws the same numbers."""
    turned = torch.from_numpy(run.draws.keep("turned", (len(real),), 0.5)).to(real.device)
    images = torch.where(turned[:, None, None, None], real.flip(2, 3), real)
    logits = run.call("images", "classifier", images, train=True)
    run.record("logits", "images", logits)
    loss = F.cross_entropy(logits, turned.long())
    run.record("loss", "classifier", loss)
    run.update("classifier", loss)
