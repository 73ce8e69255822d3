"""The fast step of the torch stack: the recipes' own steps over the same parameters, computed in faster forms.

This file loads no torch; the stack is :class:`pygan.stacks.fast.stack.FastTorchStack`.
"""

from __future__ import annotations

LAYER_CHANGES = ("memory", "patches", "fourier", "norm", "joined", "dense")
CHANGES = (*LAYER_CHANGES, "gradients", "adam", "masks", "heap")
"""What the fast step changes, in the order in which the gains are reported (README: The fast step). The first ones
concern single layers, the last the memory of the whole process."""
