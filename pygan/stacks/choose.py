"""Making a stack by name; frameworks are imported only here and only when asked for."""

from __future__ import annotations

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.stacks import Stack

NAMES = ("torch", "torch-fast", "torch-graph", "flux")
"""``torch-fast`` is torch with the fast step, ``torch-graph`` the same as one CUDA graph."""


def make_stack(name: str, config: RunConfig) -> Stack:
    """The stack called ``name``, initialised for ``config``."""
    if name == "torch":
        from pygan.stacks.torch_stack import TorchStack

        return TorchStack(config)
    if name == "torch-fast":
        from pygan.stacks.fast.stack import FastTorchStack

        return FastTorchStack(config)
    if name == "torch-graph":
        from pygan.stacks.fast.graph import GraphTorchStack

        return GraphTorchStack(config)
    if name == "flux":
        from pygan.stacks.flux_stack import FluxStack

        return FluxStack(config)
    raise ConfigError(f"no stack {name!r}; known: {', '.join(NAMES)}")
