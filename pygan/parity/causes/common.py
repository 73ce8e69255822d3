"""Hypotheses about a difference, and the judge that keeps only those that reproduce the candidate's numbers.

A rule proposes altered values; nothing is named for looking plausible. A hypothesis holds when its value equals the
candidate within the evidence's tolerance and leaves at most ``MARGIN`` of the difference between the two runs. Where
several hold, the best fit wins, then the one with fewest free constants; a tie between different names is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pygan.parity.compare import norm
from pygan.parity.evidence import UNKNOWN, Cause, Evidence, UpdateEvidence

MARGIN = 0.05
"""Largest share of the difference that an explanation may leave."""
WORST = 30.0
"""An element may be off by this many tolerances of the largest element: a wrong element stands out of rounding."""
EQUALLY_GOOD = 10.0
"""Two fits are equally good when their misfits are within this factor, or both no more than rounding."""

Values = np.ndarray | Mapping[str, np.ndarray]
Constant = tuple[str, float | str, float | str]
"""What a constant is called, its value in the candidate and in the reference."""


@dataclass(frozen=True)
class Hypothesis:
    """A ``name`` and the ``value`` that the candidate must then have (for updates: by slot).

    ``free`` counts constants solved from the data. ``constant`` is the one that differs; ``detail`` says the rest.
    """

    name: str
    value: Values
    detail: str = ""
    free: int = 0
    constant: Constant | None = None

    def cause(self, digits: int) -> Cause:
        """The hint as it is reported, constants to so many significant digits."""
        parts = [self.detail] if self.detail else []
        if self.constant is not None:
            what, *values = self.constant
            mine, theirs = (one if isinstance(one, str) else f"{one:.{digits}g}" for one in values)
            parts.insert(0, f"{what} {mine} instead of {theirs}".lstrip())
        return Cause(self.name, ", ".join(parts))


@dataclass
class Target:
    """One array to explain. ``allowed`` is the absolute 2-norm that counts as rounding."""

    candidate: np.ndarray
    reference: np.ndarray
    allowed: float

    @cached_property
    def distance(self) -> float:
        """2-norm of the difference; infinite where shapes or finiteness differ."""
        return misfit(self.candidate, self.reference)


def targets(evidence: Evidence) -> dict[str, Target]:
    """What an explanation must reproduce: the differing array, and for an update every slot of the parameter."""
    if not isinstance(evidence, UpdateEvidence):
        allowed = evidence.tolerance * norm(_finite(evidence.candidate))
        return {"": Target(evidence.candidate, evidence.reference, allowed)}
    found = {}
    for slot in evidence.after_candidate.keys() & evidence.after_reference.keys():
        mine, theirs = evidence.after_candidate[slot], evidence.after_reference[slot]
        before, size = evidence.before.get(slot), norm(_finite(mine))
        allowed = evidence.tolerance * size
        if slot == "parameter" and before is not None and mine.shape == theirs.shape == before.shape:
            # a step moves a parameter little: weigh the movement, but admit the parameter's last digits
            last_digits = 3e-7 if evidence.tolerance > NARROW else 1e-15
            moved = max(norm(_finite(mine - before)), norm(_finite(theirs - before)))
            allowed = evidence.tolerance * moved + last_digits * size
        found[slot] = Target(mine, theirs, allowed)
    return found


NARROW = 1e-8
"""Evidence with a larger tolerance comes from a Float32 run."""


def reproduces_reference(evidence: Evidence, value: Values) -> bool:
    """Is ``value``, the formula unaltered, what the reference computed?"""
    for slot, target in targets(evidence).items():
        own = value.get(slot) if isinstance(value, Mapping) else np.asarray(value)
        if own is None:
            return False
        allowed = target.allowed if slot == "parameter" else evidence.tolerance * norm(_finite(target.reference))
        if not misfit(own, target.reference) <= allowed:
            return False
    return True


def misfit(value: np.ndarray, wanted: np.ndarray) -> float:
    """2-norm of ``value - wanted``; what is not finite must be so in both, at the same places."""
    if value.shape != wanted.shape:
        return float("inf")
    finite = np.isfinite(wanted)
    if finite.all():
        gap = norm(value - wanted)
        return gap if np.isfinite(gap) else float("inf")
    if not (np.array_equal(finite, np.isfinite(value)) and np.array_equal(np.isnan(value), np.isnan(wanted))):
        return float("inf")
    return norm(value[finite] - wanted[finite])


def _finite(array: np.ndarray) -> np.ndarray:
    return array if np.isfinite(array).all() else array[np.isfinite(array)]


def quality(evidence: Evidence, wanted: Mapping[str, Target], hypothesis: Hypothesis) -> float | None:
    """Relative misfit of a hypothesis that holds; None where it does not."""
    worst, explained = 0.0, False
    given = hypothesis.value
    if isinstance(evidence, UpdateEvidence) and not isinstance(given, Mapping):
        given = {evidence.key.split("/")[1]: given}
    for slot, target in wanted.items():
        value = given.get(slot, target.reference) if isinstance(given, Mapping) else np.asarray(given)
        gap, distance = misfit(value, target.candidate), target.distance
        if not gap <= target.allowed:
            return None
        finite = np.isfinite(target.candidate)
        top = np.max(np.abs(target.candidate[finite]), initial=0.0)
        if target.allowed > 0 and finite.any():
            share = target.allowed / max(norm(target.candidate[finite]), 1e-300)
            if np.max(np.abs(value[finite] - target.candidate[finite])) > WORST * share * top:
                return None
        if clearly_apart(evidence, target, hypothesis.free):
            if gap > MARGIN * distance:
                return None
            explained = True
        worst = max(worst, gap / max(norm(target.candidate[finite]), 1e-300) if gap else 0.0)
    return worst if explained else None


def clearly_apart(evidence: Evidence, target: Target, free: int = 0) -> bool:
    """Do the two runs differ by more than rounding? Nothing is solved from a difference within the tolerance."""
    size = max(norm(_finite(target.candidate)), norm(_finite(target.reference)))
    rounding = min(evidence.tolerance, 1e-6 if evidence.tolerance > NARROW else 1e-13) * size
    if target.allowed < evidence.tolerance * size:  # an update weighs its movement
        rounding = min(rounding, target.allowed)
    return target.distance > (max(rounding, target.allowed) if free else rounding)


def best(evidence: Evidence, tiers: Iterable[Iterable[Hypothesis]], ties: set[str] | None = None) -> Hypothesis | None:
    """The hypothesis that explains the evidence; None where none does, or where different ones do equally well: then
    ``ties`` gets their names.

    Of fits as good as the best one, those of the first tier count, and of these the ones with fewest free constants.
    """
    wanted = targets(evidence)
    held = [
        (fit, tier, replace(one, value={}))  # a value may be large and is not needed again
        for tier, proposed in enumerate(tiers)
        for one in proposed
        if (fit := quality(evidence, wanted, one)) is not None
    ]
    if not held:
        return None
    bar = max(EQUALLY_GOOD * min(fit for fit, _, _ in held), 3e-7 if evidence.tolerance > NARROW else 1e-14)
    kept = [(tier, one.free, one) for fit, tier, one in held if fit <= bar]
    first = min((tier, free) for tier, free, _ in kept)
    simplest = [one for tier, free, one in kept if (tier, free) == first]
    names = {one.name for one in simplest}
    if len(names) > 1 and ties is not None:
        ties |= names
    return simplest[0] if len(names) == 1 else None


def named(evidence: Evidence, hypothesis: Hypothesis | None) -> Cause:
    """The cause, or ``UNKNOWN``. A constant solved from Float32 numbers has few digits."""
    return UNKNOWN if hypothesis is None else hypothesis.cause(4 if evidence.tolerance > NARROW else 10)


def solve(start: np.ndarray, direction: np.ndarray, candidate: np.ndarray) -> float | None:
    """The c of ``candidate = start + c direction`` by least squares; None where fewer than two elements depend on c,
    so that nothing would be left to check it against."""
    if start.shape != candidate.shape or direction.shape != candidate.shape:
        return None
    size = np.abs(direction)
    top = float(np.max(size, initial=0.0))
    if not np.isfinite(top) or top == 0 or np.count_nonzero(size > 1e-6 * top) < 2:
        return None
    scaled = direction / top
    value = float(np.sum(scaled * (candidate - start)) / np.sum(scaled * scaled)) / top
    return value if np.isfinite(value) else None


def approached(
    candidate: np.ndarray, at: Callable[[float], np.ndarray], last: float, start: float, most: float
) -> float | None:
    """The constant, from ``start`` up to ``most``, for which ``at`` makes ``candidate``: Gauss-Newton with the slope
    between the last two points. Where ``at`` is convex and falls, the steps from the left approach the solution without
    passing it."""
    constant = start
    before = at(last)
    if before.shape != candidate.shape or not np.isfinite(before).all():
        return None
    for _ in range(40):
        value = at(constant)
        step = solve(value, (value - before) / (constant - last), candidate)
        if step is None or not np.isfinite(value).all():
            return constant if np.array_equal(value, before) else None
        new = max(constant + step, 0.0)
        if new > most:
            return None
        if abs(new - constant) <= 1e-12 * constant:
            return new
        last, before, constant = constant, value, new
        if abs(constant - last) <= 1e-9 * last:
            return constant
    return constant


def other_widths(constant: float, rate: float | None = None) -> Iterator[float]:
    """What ``constant`` becomes when it is rounded to Float32 on the way, or when that rounding is left out.

    For a dropout scale ``rate`` gives p, from which it may have been computed in either width.
    """
    single = np.float32
    found = [float(single(constant)), float(str(single(constant)))]
    if rate is not None:
        short = float(str(single(rate)))
        found += [1 / (1 - rate), 1 / (1 - short), 1 / (1 - float(single(rate))), float(single(1 / (1 - short)))]
        found.append(float(1 / (single(1) - single(rate))))
    yield from (one for one in dict.fromkeys(found) if 0 < abs(one - constant) < 1e-6 * abs(constant))


def resolved(evidence: Evidence, constant: float, reference: float) -> bool:
    """Is the solved ``constant`` another one than the ``reference``'s, as far as this dtype can tell?"""
    return evidence.tolerance <= NARROW or abs(constant - reference) > 1e-5 * abs(reference)
