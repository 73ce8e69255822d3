"""The fast step of the torch stack: the recipes' own steps over the same parameters, computed in faster forms.

This file loads no torch; the stack is :class:`pygan.stacks.fast.stack.FastTorchStack`.

Branches that one dtype alone takes: at full precision none. Steps in Float32 and in Float64 call the same operations of
torch in the same order (``tests/fast/test_one_dtype.py``), so that a Float64 step tests the code of both; which kernel
an operation then runs is torch's choice, as in the idiomatic step. At lowered precision, which only a Float32 run can
have:

- ``bf16``: autocast around each call, whose result is Float32 again (``stack.FastRun.call``); bfloat16 kept as Float32
  (``stack.FastRun._keep``); convolutions over patches and by transforms (``patches.in_weights_dtype``) and BatchNorm
  (``norm._FastBatchNorm.normalised``) computed in Float32; no shared dense layer (``dense.SharedLinear``)
- ``bf16`` and ``tf32`` in static steps: fewer changed layers (``static._CHANGES``); TF32 allowed (``static.tf32``)

Each is tested by itself (``tests/fast/test_one_dtype.py``, ``tests/fast/test_static_step.py``). Branches on sizes and
threads are alike in both dtypes: transforms where they pay (``fourier.pays``), and dropout patterns by two threads
where they are large (``masks.drawn_in_halves``, ``tests/fast/test_masks.py``).
"""

from __future__ import annotations

LAYER_CHANGES = ("memory", "patches", "fourier", "norm", "joined", "dense")
CHANGES = (*LAYER_CHANGES, "gradients", "adam", "masks", "heap")
"""What the fast step changes, in the order in which the gains are reported (README: The fast step). The first ones
concern single layers, the last the memory of the whole process."""
