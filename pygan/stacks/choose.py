"""Making a stack by name; frameworks are imported only here and only when asked for."""

from __future__ import annotations

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.stacks import Stack

NAMES = ("torch", "flux")


def make_stack(name: str, config: RunConfig) -> Stack:
    """The stack called ``name``, initialised for ``config``."""
    if name == "torch":
        from pygan.stacks.torch_stack import TorchStack

        return TorchStack(config)
    if name == "flux":
        from pygan.stacks.flux_stack import FluxStack

        return FluxStack(config)
    raise ConfigError(f"no stack {name!r}; known: {', '.join(NAMES)}")
