"""The state before the first step, compared bit by bit: both sides make it from the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pygan.files import sha256
from pygan.parity.compare import Difference, compare_tensors
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.locate import Diagnosis
from pygan.parity.report import Row
from pygan.parity.sides import same_bits
from pygan.parity.structure import TensorCheck
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.records import StepRecord

CLAIM = "initial state, bit by bit"


@dataclass(frozen=True)
class Initial:
    """``checks`` of names, shapes and dtypes; ``row`` of the values; ``diagnosis`` where they differ."""

    checks: tuple[TensorCheck, ...]
    row: Row
    diagnosis: Diagnosis | None = None

    @property
    def fits(self) -> bool:
        """Do both sides have the same tensors?"""
        return all(one.ok for one in self.checks)


def compare_initial(candidate: StepRecord | None, reference: StepRecord | None) -> Initial:
    """Both sides' records of the state before the first step; of a recording at full width, digests of it."""
    if candidate is None or reference is None or not (_keys(candidate) and _keys(reference)):
        side = "candidate" if candidate is None or not _keys(candidate) else "reference"
        return Initial((), Row(2, CLAIM, NOT_RUN, reason=f"the {side}'s recording holds no initial state"))
    checks = _checks(candidate, reference)
    shape = structure_diagnosis([one for one in checks if not one.ok])
    both = sorted(_keys(candidate) & _keys(reference))
    unlike = [key for key in both if not _same(key, candidate, reference)]
    if not unlike:
        return Initial(checks, Row(2, CLAIM, AGREE, len(both), 0.0, 0.0, 0.0, reason="the same bits"), shape)
    first = unlike[0]
    difference = Difference(f"initial/{first}", fault="other bits than in the reference's recording (digests differ)")
    cause = UNKNOWN
    if first in candidate.state and first in reference.state:
        mine, theirs = candidate.state[first], reference.state[first]
        difference = compare_tensors(f"initial/{first}", mine, theirs)
        cause = initial_cause(first, mine, theirs)
    reason = f"{len(unlike)} of {len(both)} tensors differ before the first step: {', '.join(unlike[:4])}"
    measured = None if difference.fault else difference.relative
    row = Row(2, CLAIM, DIFFERS, len(both), measured, 0.0, measured, first, reason)
    culprits = tuple(Difference(f"initial/{key}", fault="differs") for key in unlike)
    found = Diagnosis(0, f"initial/{first}", cause, difference, culprits, forced=True)
    return Initial(checks, row, shape or found)


def structure_diagnosis(bad: Sequence[TensorCheck]) -> Diagnosis | None:
    """The first of ``bad`` tensors in words of the code that made it; None where there is none."""
    if not bad:
        return None
    first, cause = next(
        ((one, cause) for one in bad if (cause := structure_cause(one, bad)) is not UNKNOWN), (bad[0], UNKNOWN)
    )
    culprits = tuple(Difference(f"initial/{one.key}", fault=str(one).partition(": ")[2]) for one in bad)
    return Diagnosis(0, f"initial/{first.key}", cause, culprits[bad.index(first)], culprits, forced=True)


def structure_cause(check: TensorCheck, bad: Sequence[TensorCheck]) -> Cause:
    """What makes the state of one side lack a tensor, or have it in another shape."""
    slot, _, path = check.key.partition("/")
    mine, theirs = check.candidate, check.reference
    parameters = [one for one in bad if one.key.startswith("parameter/")]
    if slot != "parameter":
        missing = sorted({one.key.partition("/")[0] for one in bad if one.candidate is None})
        return (
            UNKNOWN if parameters or mine else Cause("other optimiser", f"its state has no {' and no '.join(missing)}")
        )
    if mine is None or theirs is None:
        there = mine or theirs
        layer, tensor = path.rpartition(".")[::2]
        same = [
            one.key.partition("/")[2]
            for one in parameters
            if (one.candidate is None) == (theirs is None)
            and (one.candidate or one.reference) == there
            and one.key.endswith(f".{tensor}")
            and one.key.partition("/")[2].partition(".")[0] == layer.partition(".")[0]
        ]
        if same:
            names = (same[0], path) if mine is None else (path, same[0])
            return Cause("layer renamed", " instead of ".join(one.rpartition(".")[0] for one in names))
        if tensor == "bias":
            return Cause("bias missing" if mine is None else "bias too many", layer)
        return UNKNOWN
    (ours, _), (others, _) = mine, theirs
    if len(ours) != len(others):
        return UNKNOWN
    told = f"{ours} instead of {others}"
    if len(ours) == 4 and ours[:2] == others[:2] and ours[2:] != others[2:]:
        return Cause("kernel size", told)
    if ours != others and ours == others[::-1]:
        return Cause("weight transposed", told)
    return Cause("layer of another size", told) if ours != others else UNKNOWN


def _keys(record: StepRecord) -> set[str]:
    return set(record.state) | {key.removeprefix("state/") for key in record.digest if key.startswith("state/")}


def _checks(candidate: StepRecord, reference: StepRecord) -> tuple[TensorCheck, ...]:
    def fact(record: StepRecord, key: str, other: StepRecord) -> tuple[tuple[int, ...], str] | None:
        if key in record.state:
            return record.state[key].shape, str(record.state[key].dtype)
        if f"state/{key}" in record.digest:  # a digest has no shape of its own
            value = other.state.get(key)
            return ((), "digest") if value is None else (value.shape, str(value.dtype))
        return None

    keys = sorted(_keys(candidate) | _keys(reference))
    return tuple(TensorCheck(key, fact(candidate, key, reference), fact(reference, key, candidate)) for key in keys)


def _same(key: str, candidate: StepRecord, reference: StepRecord) -> bool:
    if key in candidate.state and key in reference.state:
        return same_bits(candidate.state[key], reference.state[key])
    digests = [
        sha256(one.state[key].tobytes()) if key in one.state else one.digest[f"state/{key}"].tobytes().hex()
        for one in (candidate, reference)
    ]
    return digests[0] == digests[1]


def initial_cause(key: str, candidate: np.ndarray, reference: np.ndarray) -> Cause:
    """What makes one initial tensor of the other: another order of the same numbers, a factor, one update ahead."""
    if candidate.shape != reference.shape or not np.isfinite(candidate).all():
        return UNKNOWN
    mine, theirs = candidate.astype(np.float64).reshape(-1), reference.astype(np.float64).reshape(-1)
    if key.startswith("beta_power/") and np.allclose(mine, theirs**2, rtol=1e-6):
        return Cause("beta powers one step ahead", "the candidate starts with the squares of the reference's")
    if theirs.size > 1 and np.array_equal(np.sort(mine), np.sort(theirs)):
        return Cause("initial weights in another order", "the same numbers, filled in another memory order")
    size = float(np.dot(theirs, theirs))
    if size > 0:
        factor = float(np.dot(mine, theirs)) / size
        if np.allclose(mine, factor * theirs, rtol=1e-6, atol=1e-6 * float(np.abs(theirs).max())):
            return Cause("initial weights scaled", f"by {factor:.6g}")
        correlation = factor * np.sqrt(size / max(float(np.dot(mine, mine)), 1e-300))
        if key.startswith("parameter/") and theirs.size >= 16 and abs(correlation) < 0.9:
            return Cause("other initial weights", "not of the same draws, or of another law")
    return UNKNOWN
