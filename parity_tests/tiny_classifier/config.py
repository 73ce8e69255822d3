"""Every number of the tiny classifier, without torch. All of them are ours: nobody published it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pygan.config import RunConfig, sourced

OURS = "ours: a recipe that is no GAN, to prove the parity code on"


@dataclass(frozen=True, kw_only=True)
class TinyClassifierConfig(RunConfig):
    """Tells upright pictures from those turned by 180 degrees; which of a batch are turned is the draw ``turned``.

    One network, no generator and no pictures of its own. ``width`` is the number of filters of the first convolution.
    """

    recipe: ClassVar[str] = "tiny_classifier"
    torch_module: ClassVar[str] = "tiny_classifier.torch_side"
    julia_files: ClassVar[tuple[Path, ...]] = (Path(__file__).with_name("flux_side.jl"),)
    image_size: ClassVar[int] = 28
    networks: ClassVar[tuple[str, ...]] = ("classifier",)

    width: int = sourced(4, OURS, at_least=1)
    batch: int = sourced(8, OURS, at_least=2, note="BatchNorm")
    epochs: int = sourced(1, OURS, at_least=1)
    learning_rate: float = sourced(1e-3, OURS, above=0)
    beta1: float = sourced(0.5, OURS, at_least=0, below=1)
    beta2: float = sourced(0.99, OURS, at_least=0, below=1)
    adam_eps: float = sourced(1e-7, OURS, above=0)
    dropout: float = sourced(0.25, OURS, at_least=0, below=1)
    turned: float = sourced(0.5, OURS, at_least=0, at_most=1)
    bn_eps: float = sourced(1e-3, OURS, above=0)
    bn_momentum: float = sourced(0.2, OURS, above=0, at_most=1)

    @property
    def dropout_scale(self) -> float:
        """What a kept unit is multiplied by: 1 / (1 - p) computed in Float64, then as :meth:`constant`."""
        return self.constant(1 / (1 - self.dropout))

    def initial_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of every parameter and buffer before the first step, by path."""
        glorot, zero, one = ("glorot_uniform",), ("constant", 0.0), ("constant", 1.0)
        return {
            "classifier.conv1.weight": glorot,
            "classifier.norm1.weight": one,
            "classifier.norm1.bias": zero,
            "classifier.norm1.running_mean": zero,
            "classifier.norm1.running_var": one,
            "classifier.conv2.weight": glorot,
            "classifier.conv2.bias": zero,
            "classifier.dense.weight": glorot,
            "classifier.dense.bias": zero,
        }

    def step_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of what a step draws inside its networks, by layer."""
        return {"classifier.drop1": ("dropout", self.dropout)}
