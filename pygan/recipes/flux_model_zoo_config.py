"""Every number of the DCGAN of Flux's model zoo (facts/systems.md, section 2), without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pygan.config import ORDERS, RunConfig, sourced

ZOO = "FluxML/model-zoo vision/dcgan_mnist/dcgan_mnist.jl @0982bae"


@dataclass(frozen=True, kw_only=True)
class FluxModelZooConfig(RunConfig):
    """The DCGAN for MNIST of Flux's model zoo, whose generator trains.

    ``width`` is the channel multiplier: discriminator ``width, 2 width``, generator ``4 width, 2 width, width``.
    """

    recipe: ClassVar[str] = "flux_model_zoo"
    narrow: ClassVar[Mapping[str, Any]] = {"width": 2, "latent_dim": 5, "batch": 8, "grid": 2}
    image_size: ClassVar[int] = 28
    networks: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    order: str = sourced(
        "in_order",
        f"{ZOO}: consecutive parts of 1:60000, never shuffled",
        choices=ORDERS,
    )
    width: int = sourced(64, f"{ZOO}: 64 filters in the first convolution", at_least=1)
    latent_dim: int = sourced(100, f"{ZOO}: latent_dim = 100", at_least=1)
    batch: int = sourced(128, f"{ZOO}: batch_size = 128", at_least=2, note="BatchNorm")
    epochs: int = sourced(20, f"{ZOO}: epochs = 20", at_least=1)
    picture_every: int = sourced(1000, f"{ZOO}: verbose_freq = 1000", at_least=1)
    grid: int = sourced(6, f"{ZOO}: output_x = output_y = 6", at_least=1, at_most=32)
    discriminator_lr: float = sourced(2e-4, f"{ZOO}: lr_dscr = 0.0002f0", above=0)
    generator_lr: float = sourced(2e-4, f"{ZOO}: lr_gen = 0.0002f0", above=0)
    beta1: float = sourced(0.9, "Flux's default of Adam", at_least=0, below=1)
    beta2: float = sourced(0.999, "Flux's default of Adam", at_least=0, below=1)
    adam_eps: float = sourced(1e-8, "Optimisers.jl 0.4.8 default of Adam", above=0)
    dropout: float = sourced(0.25, f"{ZOO}: Dropout(0.25)", at_least=0, below=1)
    leaky_slope: float = sourced(0.2, f"{ZOO}: leakyrelu slope 0.2f0", at_least=0, below=1)
    init_std: float = sourced(0.02, f"{ZOO}: randn * 0.02f0 for (transposed) convolutions", above=0)
    bn_eps: float = sourced(1e-5, "Flux's default of BatchNorm, 1f-5", above=0)
    bn_momentum: float = sourced(0.1, "Flux's default of BatchNorm, 0.1f0", above=0, at_most=1)

    @property
    def pictures(self) -> int:
        """Pictures in a grid."""
        return self.grid * self.grid

    def published_counts(self) -> dict[str, int] | None:
        """Trained numbers of the published sizes: ZOO's layers, counted; None at other sizes."""
        published = (self.width, self.latent_dim) == (64, 100)
        return {"discriminator": 138_561, "generator": 2_243_905} if published else None

    @property
    def dropout_scale(self) -> float:
        """What a kept unit is multiplied by: 1 / (1 - p) computed in Float64, then as :meth:`constant`."""
        return self.constant(1 / (1 - self.dropout))

    def initial_laws(self) -> dict[str, tuple[Any, ...]]:
        """Dense weights at Flux's Glorot-uniform, convolutions N(0, init_std), biases 0, BatchNorm 1 and 0."""
        normal, zero, one = ("normal", 0.0, self.init_std), ("constant", 0.0), ("constant", 1.0)
        laws: dict[str, tuple[Any, ...]] = {}
        for network, convolutions in (
            ("discriminator", ("conv1", "conv2")),
            ("generator", ("conv1", "conv2", "conv3")),
        ):
            laws[f"{network}.dense.weight"] = ("glorot_uniform",)
            laws |= {f"{network}.{layer}.weight": normal for layer in convolutions}
            laws |= {f"{network}.{layer}.bias": zero for layer in ("dense", *convolutions)}
        for layer in ("norm1", "norm2", "norm3"):
            laws |= {f"generator.{layer}.{tensor}": zero for tensor in ("bias", "running_mean")}
            laws |= {f"generator.{layer}.{tensor}": one for tensor in ("weight", "running_var")}
        return laws

    def step_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of what a step draws: dropout by layer, and of what enters a call from a draw."""
        drops = {f"discriminator.{layer}": ("dropout", self.dropout) for layer in ("drop1", "drop2")}
        noise = ("normal", 0.0, 1.0)
        return {**drops, "sample/generator.input": noise, "generator/generator.input": noise}
