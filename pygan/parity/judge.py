"""Judging one step: which differences are rounding.

Float64 against Float64 is held to fixed tolerances. In Float32 the judge is the referee, the same step in Float64 with
the same constants and patterns: the candidate may be no further from it than ``REFEREE_FACTOR`` times the reference or
than the floor of that kind of tensor, whichever is larger (as PyTorch's own ``same()`` weighs two errors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pygan.parity.bands import FORWARD_NOISE, FREE_FLOAT64, REFEREE_FACTOR, float64_band, group_of, referee_floor
from pygan.parity.compare import Difference, compare_arrays, flips, norm
from pygan.parity.sides import Live, Pair
from pygan.records import StepRecord

KINDS = ("activation", "logits", "loss", "activation_gradient", "gradient", "state")
_WHERE_BOTH_TAP = ("activation", "activation_gradient")
"""Kinds that are compared where both runs have them: a stack that fuses an activation has one tap less."""


@dataclass(frozen=True)
class Judged:
    """A difference and what it is held to: ``value`` must not exceed ``allowed``.

    ``value`` is the relative norm of the difference, or in Float32 the candidate's distance from the referee.
    """

    difference: Difference
    value: float
    allowed: float
    reason: str
    reference_error: float | None = None

    @property
    def key(self) -> str:
        """The tensor's ``kind/name``."""
        return self.difference.key

    @property
    def ok(self) -> bool:
        """Is it inside?"""
        return not self.difference.fault and self.value <= self.allowed

    def __str__(self) -> str:
        held = (
            "" if self.difference.fault else f"; {self.value:.2e} where {self.allowed:.2e} is admitted: {self.reason}"
        )
        return f"{self.difference}{held}"


def flat(record: StepRecord, kinds: Iterable[str] = KINDS) -> dict[str, np.ndarray]:
    """The arrays of ``kinds`` under ``kind/name``."""
    return {f"{kind}/{name}": value for kind in kinds for name, value in getattr(record, kind).items()}


def common(candidate: StepRecord, reference: StepRecord) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both records' arrays as they are to be compared: kinds that both carry, taps that both have."""
    kinds = [kind for kind in KINDS if getattr(candidate, kind) and getattr(reference, kind)]
    mine, theirs = flat(candidate, kinds), flat(reference, kinds)
    lone = {key for key in mine.keys() ^ theirs.keys() if key.startswith(tuple(f"{kind}/" for kind in _WHERE_BOTH_TAP))}
    return {k: v for k, v in mine.items() if k not in lone}, {k: v for k, v in theirs.items() if k not in lone}


def judge_step(pair: Pair, referee: Live | None, rules: Mapping[str, str] | None = None) -> list[Judged]:
    """Every compared tensor of a step, and every on/off pattern that differs.

    ``referee`` is a torch stack in Float64, needed where the runs are in Float32: it takes the step from the same state
    with the leader's patterns imposed. Without it both runs are held to the Float64 tolerances.
    """
    found = flips(pair.candidate, pair.reference)
    if referee is None:
        signs = [_judged_flip(key, places, np.full(len(places), np.inf)) for key, places in found.items()]
        return judge_float64(pair, rules) + signs
    capture = ["logits", "gradients", "state"] + (["layers"] if pair.candidate.activation else [])
    truth = referee.step(pair.step, capture, pair.before, impose=pair.imposed, look=found)
    signs = [_judged_flip(key, places, truth.kink[key]) for key, places in found.items()]
    return judge_float32(pair, truth, rules) + signs


def _judged_flip(key: str, places: np.ndarray, inputs: np.ndarray) -> Judged:
    """Units that are on in one run and off in the other: admissible within forward noise of zero, and nowhere else."""
    worst = int(np.argmax(np.abs(inputs)))
    place = tuple(int(i) for i in places[worst])
    difference = Difference(f"pattern/{key}", (len(places),), relative=0.0, worst=place)
    reason = f"{len(places)} units with another sign; largest input over the layer's root mean square"
    return Judged(difference, float(np.abs(inputs[worst])), FORWARD_NOISE, reason)


def judge_float64(pair: Pair, rules: Mapping[str, str] | None = None, *, first: bool = True) -> list[Judged]:
    """Every compared tensor of a Float64 step from equal states; not ``first``: of a later step of two free runs."""
    judged = []
    for difference in compare_arrays(*common(pair.candidate, pair.reference), rules):
        band = float64_band(difference.key) if first else FREE_FLOAT64
        if band.admits(difference) and difference.relative > band.relative:
            reason = f"in absolute norm, because it cancels; {band.reason}"
            judged.append(Judged(difference, difference.absolute, band.absolute, reason))
        else:
            judged.append(Judged(difference, difference.relative, band.relative, band.reason))
    return judged


def judge_float32(pair: Pair, truth: StepRecord, rules: Mapping[str, str] | None = None) -> list[Judged]:
    """Every compared tensor of a Float32 step against the referee's step ``truth``."""
    mine, theirs = common(pair.candidate, pair.reference)
    right = flat(truth)
    scales = network_scales(right)
    judged = []
    for difference in compare_arrays(mine, theirs, rules):
        key = difference.key
        if difference.fault or key == "state/step":
            judged.append(Judged(difference, difference.relative, 0.0, "equal"))
            continue
        own, other = (error(side[key], right[key], scales.get(group_of(key), 0.0)) for side in (mine, theirs))
        judged.append(_weighed(difference, own, other, referee_floor(key)))
    return judged


def _weighed(difference: Difference, own: float, other: float, floor: float) -> Judged:
    """The candidate's distance ``own`` from the referee against the reference's ``other``."""
    value, allowed, reason = weighed(own, other, floor)
    return Judged(difference, value, allowed, reason, other)


def weighed(own: float, other: float, floor: float) -> tuple[float, float, str]:
    """``(value, allowed, reason)`` of two distances from the referee, the candidate's ``own`` and the reference's.

    The candidate may be as far as the reference times a factor, or as the floor. A reference that is itself further
    than ten floors is no measure: then its own distance is what fails.
    """
    most = REFERENCE_FLOORS * floor
    if other > most:
        return other, most, f"the reference's own distance from the referee; {REFERENCE_FLOORS:g} floors are admitted"
    reason = f"{REFEREE_FACTOR:g} times the reference's distance from the referee, or {floor:.0e} if larger"
    return own, max(REFEREE_FACTOR * other, floor), reason


def error(value: np.ndarray, truth: np.ndarray, scale: float = 0.0) -> float:
    """Distance of a Float32 tensor from the referee's, relative to its norm, or to ``scale`` if that is larger."""
    size = max(norm(truth), scale)
    gap = norm(value.astype(np.float64) - truth)
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))


REFERENCE_FLOORS = 10.0
"""How many floors a reference may be from the referee; real Flux was 1.1 at most in 20 full-width steps."""

CANCELLING = 5e-2
"""A gradient whose norm is below this share of its network's is weighed against that share: it is what is left of sums
that cancel, and carries their rounding."""


def network_scales(truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Norm below which a tensor counts as cancelled, by kind and network."""
    sums: dict[str, float] = {}
    for key, value in truth.items():
        if key.startswith(("gradient/", "state/exp_avg", "state/parameter/")):
            sums[group_of(key)] = float(np.hypot(sums.get(group_of(key), 0.0), norm(value)))
    return {group: CANCELLING * value for group, value in sums.items()}
