"""Evidence: one place of a step where two runs differ although both started it from the same values.

The places come from a forced step (:mod:`pygan.parity.locate`): one run takes the step while every layer, gradient and
update is fed the other run's recorded values, so each difference belongs to its own place. All arrays are Float64 in
PyTorch's layout; ``candidate`` and ``reference`` are what the two runs made of the same input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pygan.stacks import LayerSpec

Layers = Sequence[tuple[str, LayerSpec]]
"""Layers in the order in which they are applied, each with its path ``network.layer``."""


@dataclass(frozen=True)
class Evidence:
    """What every kind of evidence has. ``key`` is the differing tensor's, ``kind/name``; ``step`` counts from 0."""

    key: str
    step: int
    candidate: np.ndarray
    reference: np.ndarray
    tolerance: float = 1e-9
    """Relative norm below which an explanation of ``candidate`` counts as exact (rounding of the run's dtype)."""


@dataclass(frozen=True)
class ForwardEvidence(Evidence):
    """Outputs ``candidate`` and ``reference`` of ``layers`` applied to the same ``x``.

    ``layers`` is one layer, or a few where only the last one's output is known from both runs (a BatchNorm with its
    relu). ``tensors`` holds their parameters and running statistics as they were before the call, by
    ``network.layer.tensor``; ``masks`` the keep patterns of the step's dropout draws by stream ``mask/call/layer``.
    """

    x: np.ndarray = field(kw_only=True)
    layers: Layers = field(kw_only=True)
    train: bool = field(kw_only=True)
    tensors: Mapping[str, np.ndarray] = field(kw_only=True)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    earlier: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    """Of ``tensors`` those that the step had updated by then, as they were before it."""


@dataclass(frozen=True)
class BackwardEvidence(ForwardEvidence):
    """Gradients with respect to ``x`` for the same ``output_gradient`` of ``layers``."""

    output_gradient: np.ndarray = field(kw_only=True)


@dataclass(frozen=True)
class GradientEvidence(BackwardEvidence):
    """Gradients of one parameter ``path``. Where the network was called several times inside the gradient (real and
    fake images), ``x``, ``output_gradient`` and ``masks`` are those of the last call.

    ``previous`` is the reference's gradient of the same parameter at the step before, where known; ``loss_terms`` the
    reference's gradient from each call alone, ``calls`` the calls of the network inside the gradient.
    """

    path: str = field(kw_only=True)
    weight: np.ndarray = field(kw_only=True)
    previous: np.ndarray | None = field(default=None, kw_only=True)
    loss_terms: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    calls: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class UpdateEvidence(Evidence):
    """One parameter's update from the same ``gradient`` and the same values before it.

    ``before``, ``after_candidate`` and ``after_reference`` hold ``parameter``, ``exp_avg``, ``exp_avg_sq`` (of the
    parameter's shape) and ``beta_power`` ``(2,)``; ``numbers`` the led stack's ``lr``, ``beta1``, ``beta2``, ``eps``.
    """

    path: str = field(kw_only=True)
    gradient: np.ndarray = field(kw_only=True)
    before: Mapping[str, np.ndarray] = field(kw_only=True)
    after_candidate: Mapping[str, np.ndarray] = field(kw_only=True)
    after_reference: Mapping[str, np.ndarray] = field(kw_only=True)
    numbers: Mapping[str, float] = field(kw_only=True)


@dataclass(frozen=True)
class BufferEvidence(Evidence):
    """A BatchNorm's running statistic after a call in train mode on the same ``x``, starting from ``before``."""

    layer: LayerSpec = field(kw_only=True)
    x: np.ndarray = field(kw_only=True)
    before: np.ndarray = field(kw_only=True)


@dataclass(frozen=True)
class LossEvidence(Evidence):
    """A loss computed from the same logits; or, for an ``activation_gradient`` key, its gradient at those logits.

    ``logits`` holds the logits by call that entered this loss.
    """

    logits: Mapping[str, np.ndarray] = field(kw_only=True)


@dataclass(frozen=True)
class InputEvidence(Evidence):
    """What entered a call differs (noise, batch, or another network's output that was known to agree).

    ``others`` holds other arrays of the same step of the reference that it could have been mistaken for, by name:
    draws of this and the neighbouring steps (``noise@step``), and inputs and outputs of other calls.
    """

    others: Mapping[str, np.ndarray] = field(kw_only=True)


@dataclass(frozen=True)
class Cause:
    """A hint at what is wrong: a ``name`` from the list in :mod:`pygan.parity.causes`, and the numbers behind it."""

    name: str
    detail: str = ""
    either: tuple[str, ...] = field(default=(), compare=False)
    """Names that explain these numbers equally well, where there is more than one."""

    def __str__(self) -> str:
        if self.either:
            return f"{self.name} (either {' or '.join(self.either)}: these numbers do not tell)"
        return f"{self.name} ({self.detail})" if self.detail else self.name


UNKNOWN = Cause("unknown cause")
