"""Every tolerance, with its reason. None was measured on one run to judge another.

Float64 decides about correctness; there a difference of substance shows at once, because rounding leaves 1e-16. Float32
decides about rounding alone, by what rounding does to the referee's own step (:mod:`pygan.parity.rounding`).
"""

from __future__ import annotations

FLOAT64_STEP = 1e-11
"""Relative norm of the difference of two Float64 steps from one state: a hundred times below the smallest slip that
has a name (a constant off by one Float32 unit moves results by 1e-8), ten thousand units above rounding."""

FLOAT64_CANCELLED = 1e-13
"""Only a difference that is smaller beside the largest tensor of its family (gradients, second moments, ...) may be
what rounding leaves of a sum that cancels, and is held to that: a thousand units in the last place of that tensor."""

FLOAT64_OVER_FLOAT32 = 2.0**-29
"""Unit roundoff of Float64 over that of Float32: rounding noise of one, scaled, is that of the other."""

FREE_FACTOR, FREE_LEAST, FREE_MOST = 10.0, 1e-13, 1e-8
"""Two free Float64 runs may part by ``FREE_FACTOR`` times the largest separation among referee runs that started one
unit in the last place apart, at least ``FREE_LEAST``; where that is above ``FREE_MOST``, nothing is claimed."""

ENSEMBLE_FACTOR = 4.0
"""Float32: how many times the root mean square distance of shaken referee steps a run may be from the referee. Right
runs were found inside 0.6 of it; the rest is for processors that add in other orders."""

REFERENCE_FACTOR, REFERENCE_CAP = 2.0, 8.0
"""Float32: a candidate may be ``REFERENCE_FACTOR`` times as far from the referee as the reference, where the ensemble
admits less; but neither may be further than ``REFERENCE_CAP`` times the ensemble's distance."""

LOCAL_FACTOR = 3.0
"""Float32: how many times the level of its noise one layer, backward pass or update may be off when it is fed the
referee's values. Right ones were found inside 0.8."""

KINK_FACTOR = 8.0
"""Float32: a ReLU may have another sign than in the referee where its input is within so many times the noise of its
channel; the largest of ten million normal numbers is 5.3."""

PIXEL = 1
"""Grey levels by which a pixel of two grids may differ where rounding to 8 bits falls between their values."""
