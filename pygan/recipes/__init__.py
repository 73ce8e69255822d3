"""Recipes: the published GANs, one file each. Configs load without torch, the PyTorch side only when asked for.

The Flux side of a recipe is the file of the same name under ``julia/src/recipes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.recipes.flux_model_zoo_config import FluxModelZooConfig
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.recipes.mlp_gan_config import MlpGanConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from pygan.draws import Draws

CONFIGS: dict[str, type[RunConfig]] = {
    kind.recipe: kind for kind in (FluxTutorialConfig, FluxModelZooConfig, MlpGanConfig)
}


def register(config: type[RunConfig]) -> type[RunConfig]:
    """Make a recipe outside this package known, by its config class; its ``torch_module`` is imported when needed."""
    CONFIGS[config.recipe] = config
    return config


class StepContext(Protocol):
    """What a stack gives a recipe's ``train_step``: the networks and the ways to touch them."""

    config: Any
    draws: Draws

    def network(self, name: str) -> nn.Module:
        """A network of the recipe."""

    def tensor(self, array: np.ndarray) -> Tensor:
        """A drawn array on the stack's device in its dtype."""

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        """``network(x)`` in train or eval mode; dropout patterns are the draws ``mask/<name>/<layer>``."""

    def update(self, name: str, loss: Tensor) -> None:
        """Gradient of ``loss`` for a network and one step of its optimiser. ``name`` is the network's, or
        ``network/what`` where a step updates it more than once."""

    def record(self, kind: str, name: str, value: Tensor) -> None:
        """Keep a ``loss`` or ``logits`` for the StepRecord."""


class TorchRecipe(Protocol):
    """The PyTorch side of a recipe: a module with these functions."""

    def build(self, config: Any) -> dict[str, nn.Module]:
        """The networks by name, uninitialised."""

    def initialise(self, networks: Mapping[str, nn.Module], config: Any, draws: Draws) -> None:
        """Fill the parameters by the published law from the draws ``init/<path>``."""

    def optimisers(self, networks: Mapping[str, nn.Module], config: Any) -> dict[str, Any]:
        """One optimiser per network."""

    def train_step(self, run: StepContext, real: Tensor) -> None:
        """One published training step on a batch."""

    def pictures(self, run: StepContext, latent: Tensor) -> Tensor:
        """Images from latent vectors, as the article draws them."""


def config_class(recipe: str) -> type[RunConfig]:
    """The config class of ``recipe``. Raises ``ConfigError`` that lists the known ones."""
    try:
        return CONFIGS[recipe]
    except KeyError:
        told = (
            f"no recipe {recipe!r}; known: {', '.join(sorted(CONFIGS))}; name a recipe of your own with --recipe PATH"
        )
        raise ConfigError(told) from None


def config_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The config stored in an artefact.

    >>> config_from_dict({"recipe": "flux_tutorial", "width": 2}).batch  # what is not stored has its published value
    128
    >>> config_from_dict({"recipe": "flux_tutorial", "witdh": 2})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pygan.errors.ConfigError: unknown config keys: witdh; known: adam_eps, batch, ...
    """
    return config_class(str(values.get("recipe"))).from_dict(values)


def torch_recipe(recipe: str) -> TorchRecipe:
    """The PyTorch side of ``recipe`` (imports torch)."""
    module: Any = import_module(config_class(recipe).torch_module or f"pygan.recipes.{recipe}")
    return module  # type: ignore[no-any-return]
