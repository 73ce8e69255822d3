"""Judging one Float64 step, and what a judged difference is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pygan.files import sha256
from pygan.parity.batches import SCALING_GAP
from pygan.parity.compare import Difference, compare_arrays, norm
from pygan.parity.sides import Pair
from pygan.parity.tolerances import ENSEMBLE_FACTOR, FLOAT64_CANCELLED, FLOAT64_STEP
from pygan.records import StepRecord

KINDS = ("activation", "logits", "loss", "activation_gradient", "gradient", "updated", "buffer", "state", "sketch")
_WHERE_BOTH_TAP = ("activation/", "activation_gradient/", "sketch/activation")
"""Kinds that are compared where both runs have them: a stack that fuses an activation has one tap less."""

Noise = Callable[[], Mapping[str, float]]
"""Norm of what Float64 rounding leaves in each tensor of the step by ``kind/name``; asked for only where it matters."""


@dataclass(frozen=True)
class Judged:
    """A difference and what it is held to: ``value`` must not exceed ``allowed``.

    In Float64 ``value`` is the relative norm of the difference, in Float32 the distance from the referee, both over
    the norm of the reference's or the referee's tensor; ``reference_error`` is the reference's distance there.
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
        held = "" if self.difference.fault else f"; {self.value:.2e}, tolerance {self.allowed:.2e}: {self.reason}"
        return f"{self.difference}{held}"


def flat(record: StepRecord, kinds: Iterable[str] = KINDS) -> dict[str, np.ndarray]:
    """The arrays of ``kinds`` under ``kind/name``."""
    return {f"{kind}/{name}": value for kind in kinds for name, value in getattr(record, kind).items()}


def common(candidate: StepRecord, reference: StepRecord) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both records' arrays as they are to be compared: kinds that both carry, taps that both have."""
    kinds = [kind for kind in KINDS if getattr(candidate, kind) and getattr(reference, kind)]
    mine, theirs = flat(candidate, kinds), flat(reference, kinds)
    lone = {key for key in mine.keys() ^ theirs.keys() if key.startswith(_WHERE_BOTH_TAP)}
    return {k: v for k, v in mine.items() if k not in lone}, {k: v for k, v in theirs.items() if k not in lone}


def batch_difference(pair: Pair) -> list[Judged]:
    """The batch, as it was scaled, of both runs: a difference only where it is another one."""
    mine, theirs = pair.candidate.batch_sha256, pair.reference.batch_sha256
    fault = "the two runs saw other images, or scaled them otherwise (SHA-256 of the scaled batch differs)"
    known = bool(mine and theirs)
    found = Difference("batch", fault=fault if known and mine != theirs else "")
    if known and pair.batch_gap:
        return [Judged(found, pair.batch_gap, SCALING_GAP, "scaled by other operations: what Float32 rounding leaves")]
    return [Judged(found, 0.0, 0.0, "the same scaled batch, bit by bit")] if known else []


def judge_float64(pair: Pair, rules: Mapping[str, str] | None = None, noise: Noise | None = None) -> list[Judged]:
    """Every compared tensor of a Float64 step from equal states: within 1e-11, or, where sums cancel, within what
    Float64 rounding leaves of them (``noise``)."""
    judged = []
    left: Mapping[str, float] | None = None
    mine, theirs = common(pair.candidate, pair.reference)
    differences = compare_arrays(mine, theirs, rules)
    may_cancel = Cancelling(differences, theirs)
    for difference in differences:
        value, allowed, reason = difference.relative, FLOAT64_STEP, "one Float64 step from the same state"
        if value > allowed and noise is not None and may_cancel(difference):
            left = noise() if left is None else left
            size = difference.absolute / value if np.isfinite(value) else 0.0
            absolute = ENSEMBLE_FACTOR * _level(difference.key, left)
            if difference.absolute <= absolute:
                share = absolute / size if size else np.inf
                value, allowed = (value, share) if size else (difference.absolute, absolute)
                reason = f"sums that cancel: {ENSEMBLE_FACTOR:g} times the noise level that Float64 leaves of them"
        judged.append(Judged(difference, value, allowed, reason))
    return judged


def _level(key: str, levels: Mapping[str, float]) -> float:
    """The noise level of a tensor, or of its sketch: its norm, eight of its elements and eight sums of all of them with
    random signs, each of which is off by as much as the tensor is."""
    tensor = key.removeprefix("sketch/")
    return levels.get(tensor, 0.0) * (1.0 if tensor == key else 10**0.5)


class Cancelling:
    """Which of ``differences`` may be what Float64 rounding leaves of sums that cancel: those that are small beside the
    largest tensor of their family in the ``reference``, or that follow from such ones."""

    def __init__(self, differences: Iterable[Difference], reference: Mapping[str, np.ndarray]) -> None:
        self._by_key = {one.key: one for one in differences}
        self._sizes: dict[str, float] = {}
        for key, value in reference.items():
            family = _family(key)
            self._sizes[family] = max(self._sizes.get(family, 0.0), norm(value))

    def __call__(self, one: Difference) -> bool:
        """May ``one`` be rounding?"""
        if one.fault:
            return False
        family = _family(one.key)
        size = self._sizes.get(family, 0.0)
        if family == "parameter":  # Adam makes a whole step of a gradient that is nothing but rounding
            moment = self._by_key.get(one.key.replace("/parameter/", "/exp_avg/"))
            of_moment = moment is None or (moment.relative > FLOAT64_STEP and self(moment))
            return of_moment and one.absolute <= FLOAT64_STEP * size
        if family == "exp_avg_sq":  # a gradient's error times that gradient
            own = one.absolute / one.relative if one.relative > 0 else 0.0
            size = 2 * (size * max(own, one.absolute)) ** 0.5
        return one.absolute <= FLOAT64_CANCELLED * size


def _family(key: str) -> str:
    """The kind of ``kind/name``; of a state's tensor, its slot: moments are far smaller than parameters."""
    kind, _, name = key.removeprefix("sketch/").partition("/")
    if kind == "updated":
        return name.rpartition("/")[0].rpartition("/")[2]
    return name.partition("/")[0] if kind == "state" else kind


def judge_patterns(pair: Pair) -> list[Judged]:
    """On/off patterns of a Float64 step where both runs recorded them, in full or as digests. They are consequences:
    a pattern is a finding of its own only if no tensor differs."""
    found = []
    mine, theirs = pair.candidate, pair.reference
    for key in sorted(mine.pattern.keys() & theirs.pattern.keys()):
        unlike = (
            mine.pattern[key] != theirs.pattern[key] if mine.pattern[key].shape == theirs.pattern[key].shape else None
        )
        count = -1 if unlike is None else int(unlike.sum())
        fault = (
            ""
            if count == 0
            else f"{count} units are on in one run and off in the other"
            if count > 0
            else "shapes differ"
        )
        found.append(Judged(Difference(f"pattern/{key}", mine.pattern[key].shape, fault=fault), 0.0, 0.0, "equal"))
    for digests, patterns in ((theirs.digest, mine.pattern), (mine.digest, theirs.pattern)):
        for key, digest in digests.items():
            kind, _, name = key.partition("/")
            if kind == "pattern" and name in patterns:
                same = sha256(patterns[name].tobytes()) == digest.tobytes().hex()
                fault = "" if same else "other units are on in one run than in the other (digests differ)"
                found.append(Judged(Difference(key, patterns[name].shape, fault=fault), 0.0, 0.0, "equal"))
    return found


def relative(absolute: float, truth: np.ndarray) -> float:
    """``absolute`` over the norm of ``truth``; where that is zero, infinite unless both are."""
    size = norm(truth)
    return absolute / size if size > 0 else (0.0 if absolute == 0 else float("inf"))
