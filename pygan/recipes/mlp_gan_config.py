"""Every number of the MLP GAN for MNIST (facts/systems.md, section 7), without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pygan.config import ORDERS, SCALINGS, RunConfig, sourced

ARTICLE = "the published article's code, an adaptation of eriklindernoren/Keras-GAN gan/gan.py"


@dataclass(frozen=True, kw_only=True)
class MlpGanConfig(RunConfig):
    """The GAN of dense layers for MNIST, after Keras-GAN.

    ``width`` is the first layer of the generator (256, 512, 1024) and the second of the discriminator (512, 256)."""

    recipe: ClassVar[str] = "mlp_gan"
    narrow: ClassVar[Mapping[str, Any]] = {"width": 2, "latent_dim": 5, "batch": 8, "grid": 2}
    image_size: ClassVar[int] = 28
    networks: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    fresh_latent: ClassVar[bool] = True

    order: str = sourced(
        "with_replacement",
        f"{ARTICLE}: each batch is drawn by np.random.randint",
        choices=ORDERS,
    )
    scaling: str = sourced("x/127.5-1", f"{ARTICLE}: x / 127.5 - 1", choices=SCALINGS)
    width: int = sourced(256, f"{ARTICLE}: Dense(256)", at_least=1)
    latent_dim: int = sourced(100, f"{ARTICLE}: 100", at_least=1)
    batch: int = sourced(32, f"{ARTICLE}: batch_size=32 in the call", at_least=2, note="BatchNorm")
    epochs: int = sourced(10000, f"{ARTICLE}: epochs=10000, each of one batch", at_least=1)
    picture_every: int = sourced(200, f"{ARTICLE}: sample_interval=200 in the call", at_least=1)
    grid: int = sourced(5, f"{ARTICLE}: 5 rows of 5", at_least=1, at_most=32)
    learning_rate: float = sourced(0.01, "Keras's default of SGD", above=0)
    leaky_slope: float = sourced(0.2, f"{ARTICLE}: LeakyReLU(0.2)", at_least=0, below=1)
    bn_eps: float = sourced(1e-3, "Keras's default of BatchNormalization", above=0)
    bn_momentum: float = sourced(0.2, f"{ARTICLE}: momentum 0.8, the share that Keras keeps", above=0, at_most=1)
    clip: float = sourced(1e-7, "Keras's epsilon, within which probabilities are clipped", above=0)

    @property
    def pictures(self) -> int:
        """Pictures in a grid."""
        return self.grid * self.grid

    def published_counts(self) -> dict[str, int] | None:
        """Trained numbers at the published sizes: ARTICLE's layers, counted; None at other sizes."""
        published = (self.width, self.latent_dim) == (256, 100)
        return {"discriminator": 533_505, "generator": 1_489_936} if published else None

    def initial_laws(self) -> dict[str, tuple[Any, ...]]:
        """Keras's defaults: weights Glorot-uniform, biases 0, BatchNorm 1 and 0."""
        glorot, zero, one = ("glorot_uniform",), ("constant", 0.0), ("constant", 1.0)
        layers = [f"discriminator.dense{i}" for i in (1, 2, 3)] + [f"generator.dense{i}" for i in (1, 2, 3, 4)]
        laws: dict[str, tuple[Any, ...]] = {f"{layer}.weight": glorot for layer in layers}
        laws |= {f"{layer}.bias": zero for layer in layers}
        for layer in ("norm1", "norm2", "norm3"):
            laws |= {f"generator.{layer}.{tensor}": zero for tensor in ("bias", "running_mean")}
            laws |= {f"generator.{layer}.{tensor}": one for tensor in ("weight", "running_var")}
        return laws

    def step_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of what enters a call from a draw."""
        return {"sample/generator.input": ("normal", 0.0, 1.0), "generator/generator.input": ("normal", 0.0, 1.0)}
