"""A network that enlarges pictures: a branch beside its trunk, norms by sample, and padding that is not the same on
all sides. Images ``(N, 1, 28, 28)`` in [-1, 1] are shrunk to 7 x 7, and 14 x 14 pixels in [0, 1] are to come of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.config import RunConfig, float32, sourced
from pygan.draws import Draws
from pygan.recipes import StepContext
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.flux_tutorial import glorot_uniform

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """The sizes of the enlarger, and the numbers of its loss and optimiser."""

    recipe: ClassVar[str] = "enlarger"
    networks: ClassVar[tuple[str, ...]] = ("enlarger",)
    narrow: ClassVar[Mapping[str, Any]] = {"width": 4, "batch": 4}

    width: int = sourced(16, OURS, at_least=2, note="even")
    batch: int = sourced(32, OURS, at_least=1)
    epochs: int = sourced(1, OURS, at_least=1)
    learning_rate: float = sourced(3e-3, OURS, above=0)
    dropout: float = sourced(0.25, OURS, at_least=0, below=1)
    softening: float = sourced(1e-2, OURS, above=0)
    brightness: float = sourced(0.25, OURS, above=0)


class Enlarger(nn.Module):
    """``(N, 1, 28, 28)`` to ``(N, 1, 14, 14)``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, eps = config.width, float32(1e-5)
        self.shrink = nn.AvgPool2d(4)
        self.pad = nn.ZeroPad2d((1, 2, 1, 2))
        self.stem = nn.Conv2d(1, w, 4)
        self.norm = nn.GroupNorm(2, w, eps)
        self.gelu = nn.GELU(approximate="tanh")  # NNlib's gelu
        self.body = nn.Sequential(
            OrderedDict[str, nn.Module](
                pad=nn.ZeroPad2d((1, 2, 1, 2)),
                down=nn.Conv2d(w, w + 2, 4, stride=2),
                soft=nn.Softplus(),
                drop=nn.Dropout(config.dropout),
                up=nn.ConvTranspose2d(w + 2, w, 4, stride=2),
                crop=nn.ZeroPad2d((-1, -2, -1, -2)),
            )
        )
        self.settle = nn.LayerNorm((w, 7, 7), eps**2)  # Flux's LayerNorm adds the square of its eps
        self.out = nn.Conv2d(w, 1, 3, padding=1)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.tone = nn.Sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """The enlarged pictures."""
        x = self.gelu(self.norm(self.stem(self.pad(self.shrink(images)))))
        x = self.settle(x + self.body(x))
        y: Tensor = self.tone(self.enlarge(self.out(x)))
        return y


def build(config: Config) -> dict[str, nn.Module]:
    """The networks by name, uninitialised."""
    return {"enlarger": Enlarger(config)}


@torch.no_grad()
def initialise(networks: Mapping[str, nn.Module], config: Config, draws: Draws) -> None:
    """Kernels Glorot-uniform, biases 0, norms as they are made."""
    for name, network in networks.items():
        for path, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                drawn = glorot_uniform(draws, f"init/{name}.{path}.weight", tuple(layer.weight.shape))
                layer.weight.copy_(torch.from_numpy(drawn))
                if layer.bias is not None:
                    layer.bias.zero_()


def optimisers(networks: Mapping[str, nn.Module], config: Config) -> dict[str, Any]:
    """Adam in the arithmetic of Optimisers.jl."""
    rate, betas = config.constant(config.learning_rate), (config.constant(0.9), config.constant(0.999))
    return {
        name: OptimisersAdam(network.parameters(), rate, betas, config.constant(1e-8))
        for name, network in networks.items()
    }


def loss_of(made: Tensor, wanted: Tensor, config: Config) -> Tensor:
    """Charbonnier's distance of the pixels, and the squared one of each picture's brightness."""
    softened = ((made - wanted) ** 2 + config.constant(config.softening)).sqrt().mean()
    apart = made.mean((1, 2, 3)) - wanted.mean((1, 2, 3))
    return softened + config.constant(config.brightness) * (apart**2).mean()


def train_step(run: StepContext, real: Tensor) -> None:
    """One step on a batch."""
    wanted = (F.avg_pool2d(real, 2) + 1) / 2
    made = run.call("images", "enlarger", real, train=True)
    run.record("logits", "images", made)
    loss = loss_of(made, wanted, run.config)
    run.record("loss", "enlarger", loss)
    run.update("enlarger", loss)
