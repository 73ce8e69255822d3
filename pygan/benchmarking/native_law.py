"""Is a stack's own randomness what the recipe asks for? What stands behind "native law tested"."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SAMPLES = 1 << 20
SIGMAS = 6.0
"""A sound generator is called faulty once in some 10^9 tests."""


def faults(found: Mapping[str, Any]) -> list[str]:
    """What is wrong with a stack's own dropout and standard normal, seen in ``count`` values each.

    ``found``: ``count``; ``mean`` and ``variance`` of the noise; of each ``dropout`` of its networks, on ones,
    ``rate``, ``kept`` (the share not 0), ``low`` and ``high`` (the kept values).
    """
    n = found["count"]
    checks = [
        ("the noise's mean", found["mean"], 0.0, SIGMAS / sqrt(n)),
        ("the noise's variance", found["variance"], 1.0, SIGMAS * sqrt(2 / n)),
    ]
    for one in found["dropout"]:
        rate, keep, of = one["rate"], 1 - one["rate"], f"of dropout at {one['rate']:g}"
        checks += [
            (f"the share of kept units {of}", one["kept"], keep, SIGMAS * sqrt(rate * keep / n)),
            (f"the smallest kept unit {of}", one["low"], 1 / keep, 1e-6),
            (f"the largest kept unit {of}", one["high"], 1 / keep, 1e-6),
        ]
    return [
        f"{what} is {value:.6g}, expected {wanted:.6g} within {allowed:.1e}"
        for what, value, wanted, allowed in checks
        if not abs(value - wanted) <= allowed
    ]


def torch_sample(networks: Mapping[str, nn.Module], device: str) -> dict[str, Any]:
    """What torch's own dropout, as ``networks`` have it, and noise give on ``device`` (see :func:`faults`)."""
    import torch

    from pygan.draws import Draws
    from pygan.stacks.torch_stack import TorchDraws

    layers = (
        layer for network in networks.values() for layer in network.modules() if isinstance(layer, torch.nn.Dropout)
    )
    dropout = []
    for rate, layer in {layer.p: layer for layer in layers if layer.p > 0}.items():
        dropped = layer.train()(torch.ones(SAMPLES, device=device))
        kept = dropped[dropped != 0]
        share = float(kept.numel() / SAMPLES)
        dropout.append({"rate": rate, "kept": share, "low": float(kept.min()), "high": float(kept.max())})
    noise = TorchDraws(Draws(0).seed).normal("noise", (SAMPLES,))
    return {"count": SAMPLES, "dropout": dropout, "mean": float(noise.mean()), "variance": float(noise.var())}
