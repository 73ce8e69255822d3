"""Is a stack's own randomness what the recipe asks for? What stands behind "native law tested"."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

SAMPLES = 1 << 20
SIGMAS = 6.0
"""A sound generator is called faulty once in some 10^9 tests."""


def faults(found: Mapping[str, float], rate: float) -> list[str]:
    """What is wrong with a dropout of ``rate`` and a standard normal, seen in ``count`` values each.

    ``found``: ``count``; of dropout on ones ``kept`` (the share not 0), ``low`` and ``high`` (the kept values); of
    the noise ``mean`` and ``variance``.
    """
    n, keep = found["count"], 1 - rate
    checks = (
        ("the share of kept units", found["kept"], keep, SIGMAS * sqrt(rate * keep / n)),
        ("the smallest kept unit", found["low"], 1 / keep, 1e-6),
        ("the largest kept unit", found["high"], 1 / keep, 1e-6),
        ("the noise's mean", found["mean"], 0.0, SIGMAS / sqrt(n)),
        ("the noise's variance", found["variance"], 1.0, SIGMAS * sqrt(2 / n)),
    )
    return [
        f"{what} is {value:.6g}, expected {wanted:.6g} within {allowed:.1e}"
        for what, value, wanted, allowed in checks
        if not abs(value - wanted) <= allowed
    ]


def torch_sample(config: Any) -> dict[str, float]:
    """What torch's own dropout and noise give on the config's device (see :func:`faults`)."""
    import torch

    from pygan.draws import Draws
    from pygan.recipes.dropout import Dropout
    from pygan.stacks.torch_stack import TorchDraws

    dropped = Dropout(config.dropout, config.dropout_scale).train()(torch.ones(SAMPLES, device=config.device))
    kept = dropped[dropped != 0]
    noise = TorchDraws(Draws(0).seed).normal("noise", (SAMPLES,))
    return {
        "count": SAMPLES,
        "kept": float(kept.numel() / SAMPLES),
        "low": float(kept.min()),
        "high": float(kept.max()),
        "mean": float(noise.mean()),
        "variance": float(noise.var()),
    }
