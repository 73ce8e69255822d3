"""Every number of the published Flux DCGAN tutorial (facts/systems.md, section 1), without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pygan.config import RunConfig, sourced

AS_PRINTED = (
    "semantics 'as_printed': the published loop computes the fake images outside the differentiated closure, so the "
    "generator never receives a gradient and never trains (FluxML/Flux.jl issue 1854). This reproduces that defect."
)
ARTICLE = "Flux.jl docs/old_tutorials/2021-10-08-dcgan-mnist.md @3f2f828b5"


NARROW: Mapping[str, Any] = {"width": 2, "latent_dim": 5, "batch": 8, "grid": 2}
"""Changes that make the narrow twin: 4,079 parameters in place of 2,369,729."""


@dataclass(frozen=True, kw_only=True)
class FluxTutorialConfig(RunConfig):
    """The DCGAN for MNIST of the Flux tutorial.

    ``width`` is the channel multiplier: discriminator ``width, 2 width``, generator ``4 width, 2 width, width``.
    Semantics ``fixed`` (facts 1.7 b): the generator step recomputes its fakes from the same noise inside the
    gradient. ``as_printed`` (1.7 a) reproduces the published loop, whose generator never receives a gradient.
    """

    recipe: ClassVar[str] = "flux_tutorial"
    narrow: ClassVar[Mapping[str, Any]] = NARROW
    image_size: ClassVar[int] = 28
    networks: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    semantics: str = sourced(
        "fixed",
        "ours: the smallest repair of the published loop (FluxML/Flux.jl issue 1854)",
        choices=("fixed", "as_printed"),
    )
    width: int = sourced(64, f"{ARTICLE}: 64 filters in the first convolution", at_least=1)
    latent_dim: int = sourced(100, f"{ARTICLE}: latent_dim = 100", at_least=1)
    batch: int = sourced(128, f"{ARTICLE}: batch_size = 128", at_least=2, note="BatchNorm")
    epochs: int = sourced(25, f"{ARTICLE}: epochs = 25", at_least=1)
    picture_every: int = sourced(1000, f"{ARTICLE}: verbose_freq = 1000", at_least=1)
    grid: int = sourced(5, f"{ARTICLE}: output_dim = 5", at_least=1, at_most=32)
    discriminator_lr: float = sourced(2e-4, f"{ARTICLE}: disc_lr = 0.0002", above=0)
    generator_lr: float = sourced(2e-4, f"{ARTICLE}: gen_lr = 0.0002", above=0)
    beta1: float = sourced(0.9, "Flux's default of Adam (not the DCGAN paper's 0.5)", at_least=0, below=1)
    beta2: float = sourced(0.999, "Flux's default of Adam", at_least=0, below=1)
    adam_eps: float = sourced(1e-8, "Optimisers.jl 0.4.8 default of Adam", above=0)
    dropout: float = sourced(0.3, f"{ARTICLE}: Dropout(0.3)", at_least=0, below=1)
    leaky_slope: float = sourced(0.2, f"{ARTICLE}: leakyrelu slope 0.2f0", at_least=0, below=1)
    init_std: float = sourced(0.02, f"{ARTICLE}: randn * 0.02f0 for (transposed) convolutions", above=0)
    bn_eps: float = sourced(1e-5, "Flux's default of BatchNorm, 1f-5", above=0)
    bn_momentum: float = sourced(0.1, "Flux's default of BatchNorm, 0.1f0", above=0, at_most=1)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a run of this config must tell its user before it starts."""
        return (AS_PRINTED,) if self.semantics == "as_printed" else ()

    @property
    def untrained(self) -> tuple[str, ...]:
        """Networks that never get a gradient."""
        return ("generator",) if self.semantics == "as_printed" else ()

    @property
    def pictures(self) -> int:
        """Pictures in a grid."""
        return self.grid * self.grid

    def published_counts(self) -> dict[str, int] | None:
        """Trained numbers of the published sizes: ARTICLE's layers, counted; None at other sizes."""
        published = all(getattr(self, name) == type(self)().to_dict()[name] for name in ("width", "latent_dim"))
        return {"discriminator": 138_561, "generator": 2_231_168} if published else None

    @property
    def dropout_scale(self) -> float:
        """What a kept unit is multiplied by: 1 / (1 - p) computed in Float64, then as :meth:`constant`."""
        return self.constant(1 / (1 - self.dropout))

    def initial_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of every parameter and buffer before the first step, by path ``network.layer.tensor``.

        ``("normal", mean, std)``, ``("constant", value)``, or ``("glorot_uniform",)``, whose bound follows from the
        shape. ARTICLE for the convolutions; Dense, biases and BatchNorm are at Flux's defaults.
        """
        normal, zero, one = ("normal", 0.0, self.init_std), ("constant", 0.0), ("constant", 1.0)
        laws: dict[str, tuple[Any, ...]] = {
            "discriminator.dense.weight": ("glorot_uniform",),
            "generator.dense.weight": ("glorot_uniform",),
        }
        laws |= {f"discriminator.{layer}.bias": zero for layer in ("conv1", "conv2", "dense")}
        laws |= {f"discriminator.{layer}.weight": normal for layer in ("conv1", "conv2")}
        laws |= {f"generator.{layer}.weight": normal for layer in ("conv1", "conv2", "conv3")}
        for layer in ("norm1", "norm2", "norm3"):
            laws |= {f"generator.{layer}.{tensor}": zero for tensor in ("bias", "running_mean")}
            laws |= {f"generator.{layer}.{tensor}": one for tensor in ("weight", "running_var")}
        return laws

    def step_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of what a step draws: ``("dropout", rate)`` by layer, and of what enters a call from a draw."""
        dropout = ("dropout", self.dropout)
        return {
            "discriminator.drop1": dropout,
            "discriminator.drop2": dropout,
            "sample/generator.input": ("normal", 0.0, 1.0),
        }
