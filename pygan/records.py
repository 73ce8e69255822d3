"""StepRecord: what one step of a run leaves behind. Every stack makes them, parity, GIFs and benchmarks read them.

A record flattens to arrays under ``kind/name`` keys and comes back from them; the flux worker's wire format and the
trace on disk are both exactly this flat form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from pygan.errors import TraceError
from pygan.state import State

CAPTURES = ("logits", "gradients", "patterns", "state", "sketches", "layers", "layer_sketches")
"""What a step can be asked to record besides losses; ``patterns:CALL`` keeps the patterns of one call, ``layers`` what
leaves every layer at every call, the gradient with respect to it, and the layer's mode. ``state`` is what the step
leaves behind, with what single updates and calls left of it on the way."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class StepRecord:
    """One step; every part may be empty. ``step`` counts from 0; ``pictures`` were drawn after the step.

    ========================  =================================================================================
    ``batch``                 ``(N, C, H, W)`` Float32 under ``images``: what the step was given; for looking at, no
                              recording keeps it
    ``loss``                  ``()`` by name, in the run's dtype
    ``logits``                ``(N, 1)`` by call
    ``activation``            by ``call/network.layer``: the layer's output, PyTorch layout; under
                              ``call/network.input`` what entered the call
    ``activation_gradient``   of the loss being differentiated with respect to that activation
    ``mode``                  ``()`` bool by ``call/network.layer`` of BatchNorm and Dropout: True in train mode
    ``gradient``              by ``update/network.layer.tensor``, PyTorch layout
    ``pattern``               by ``call/network.layer``: bool, True where a ReLU or leaky ReLU was on, PyTorch layout,
                              of every call inside a gradient
    ``flip``                  ``(count, rank)`` int64 by ``call/network.layer``: the units whose pattern is not that
                              of the Float64 step from the same state; a recording keeps these in place of ``pattern``
    ``kink``                  by ``call/network.layer``: what entered a ReLU or leaky ReLU at places asked for
    ``buffer``                by ``call/network.layer.tensor``: a running statistic after that call moved it
    ``updated``               by ``update/group/network.layer.tensor``: the state's tensor after that update, where a
                              later update of the step moves it again
    ``state``                 after the step, canonical keys (:mod:`pygan.state`)
    ``pictures``              ``(n, C, H, W)`` in [-1, 1] under ``values``; ``(H, W)`` uint8 under ``grid``, as the
                              stack's own code lays them out for a reader
    ``sketch``                ``(17,)`` by the key of the tensor that it stands for (:mod:`pygan.sketches`)
    ``digest``                ``(32,)`` uint8, the SHA-256 of the tensor whose key it has
    ========================  =================================================================================

    An update is named by its network, or by ``network/what`` where a step updates a network more than once.

    ``sources`` says of every tap which tap made its input, by ``call/network.layer``; empty where the input came from
    operations between taps (a sum of two layers, an activation without a module). It is not stored.

    ``order`` lists ``kind/name`` keys in the order in which the step computed them; a state tensor stands where the
    step last wrote it.
    """

    step: int
    batch_sha256: str = ""
    order: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    batch: Arrays = field(default_factory=dict)
    loss: Arrays = field(default_factory=dict)
    logits: Arrays = field(default_factory=dict)
    activation: Arrays = field(default_factory=dict)
    activation_gradient: Arrays = field(default_factory=dict)
    mode: Arrays = field(default_factory=dict)
    gradient: Arrays = field(default_factory=dict)
    pattern: Arrays = field(default_factory=dict)
    flip: Arrays = field(default_factory=dict)
    kink: Arrays = field(default_factory=dict)
    buffer: Arrays = field(default_factory=dict)
    updated: Arrays = field(default_factory=dict)
    state: State = field(default_factory=dict)
    pictures: Arrays = field(default_factory=dict)
    sketch: Arrays = field(default_factory=dict)
    digest: Arrays = field(default_factory=dict)

    def to_arrays(self) -> Arrays:
        """All arrays under ``kind/name``."""
        return {f"{kind}/{name}": value for kind in KINDS for name, value in getattr(self, kind).items()}

    @staticmethod
    def from_arrays(
        step: int, arrays: Mapping[str, np.ndarray], batch_sha256: str = "", order: Sequence[str] = ()
    ) -> StepRecord:
        """The record that :meth:`to_arrays` flattened. Raises ``TraceError`` on a key of unknown kind."""
        parts: dict[str, Arrays] = {kind: {} for kind in KINDS}
        for key, value in arrays.items():
            kind, _, name = key.partition("/")
            if kind not in parts or not name:
                raise TraceError(f"step {step} holds {key!r}, which is no part of a StepRecord ({', '.join(KINDS)})")
            parts[kind][name] = value
        return StepRecord(step, batch_sha256, tuple(order), {}, **parts)


KINDS = tuple(item.name for item in fields(StepRecord) if item.name not in ("step", "batch_sha256", "order", "sources"))
