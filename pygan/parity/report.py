"""What a comparison found: one row a claim, with what was measured, its tolerance, and how much was compared."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pygan.files import finite
from pygan.parity.claims import CORRECTNESS, unit_of
from pygan.parity.judge import Judged
from pygan.parity.locate import Diagnosis
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN, joint


@dataclass(frozen=True)
class Row:
    """One claim. ``measured`` must not exceed its tolerance ``allowed``, both counted in ``unit``; ``where`` names the
    tensor (and step) that came closest to its tolerance, or went over it. ``minimum`` is the largest relative
    difference between the two runs themselves (in Float32 ``measured`` is a distance from the referee)."""

    level: int
    claim: str
    verdict: str
    compared: int = 0
    measured: float | None = None
    allowed: float | None = None
    minimum: float | None = None
    where: str = ""
    reason: str = ""

    @property
    def unit(self) -> str:
        """In what both numbers are counted; empty where they are relative to a tensor's norm."""
        return unit_of(self.claim)


@dataclass
class Tally:
    """Judged tensors of one claim, gathered over steps."""

    level: int
    claim: str
    compared: int = 0
    minimum: float = 0.0
    worst: tuple[float, Judged, int] | None = None
    failed: list[tuple[int, Judged]] = field(default_factory=list)

    def add(self, step: int, judged: Iterable[Judged]) -> None:
        """Count the tensors of one step."""
        for one in judged:
            self.compared += 1
            relative = math.inf if one.difference.fault else one.difference.relative
            self.minimum = max(self.minimum, relative)
            share = one.value / one.allowed if one.allowed else (0.0 if one.ok else math.inf)
            share = math.inf if one.difference.fault else share
            if self.worst is None or (share, bool(one.allowed)) > (self.worst[0], bool(self.worst[1].allowed)):
                self.worst = (share, one, step)
            if not one.ok:
                self.failed.append((step, one))

    def row(self, reason: str = "") -> Row:
        """The claim's row."""
        if self.worst is None:
            return Row(self.level, self.claim, NOT_RUN, reason=reason or "no such tensor in both runs")
        _, one, step = self.worst
        verdict = DIFFERS if self.failed else AGREE
        told = f"{len(self.failed)} of {self.compared} outside the tolerance"
        why = f"{told}; {one.difference.fault}" if self.failed else one.reason
        return Row(
            self.level,
            self.claim,
            verdict,
            self.compared,
            None if one.difference.fault else one.value,
            None if one.difference.fault else one.allowed,
            self.minimum,
            f"{one.key} @ step {step}",
            why.rstrip("; "),
        )


@dataclass(frozen=True)
class Extent:
    """How much of the runs was compared. ``steps`` from the same state, ``free`` steps on their own ways, of ``known``
    steps, with pictures at ``pictures_known`` of them: what the shorter recording holds, 0 where both sides are live.
    ``twins``: Float32 steps whose Float64 step was judged too."""

    steps: int = 0
    free: int = 0
    known: int = 0
    pictures: int = 0
    pictures_known: int = 0
    twins: int | None = None


@dataclass(frozen=True)
class Report:
    """Everything that ``pygan parity`` says of two runs."""

    candidate: str
    reference: str
    config: dict[str, Any]
    environment: dict[str, Any]
    rows: tuple[Row, ...]
    diagnosis: Diagnosis | None = None
    replay: str = ""
    curves: dict[str, Any] = field(default_factory=dict)
    kinks: tuple[dict[str, Any], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    extent: Extent = Extent()

    @property
    def verdict(self) -> str:
        """``differs`` if any row does; ``not run`` where Float32 was judged and its correctness could not be; else
        ``agree`` if any row agrees."""
        verdict = joint({row.verdict for row in self.rows})
        unproved = any(row.claim == CORRECTNESS and row.verdict == NOT_RUN for row in self.rows)
        return NOT_RUN if unproved and verdict != DIFFERS else verdict

    @property
    def minimum(self) -> float | None:
        """The largest relative difference between the two runs in any compared tensor of one step."""
        return max((row.minimum for row in self.rows if row.minimum is not None and row.level < 8), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, in which a number that is not finite is None."""
        stored = {
            "candidate": self.candidate,
            "reference": self.reference,
            "verdict": self.verdict,
            "minimum_tolerance": self.minimum,
            "rows": [{**asdict(row), "unit": row.unit} for row in self.rows],
            "extent": asdict(self.extent),
            "diagnosis": None if self.diagnosis is None else diagnosis_dict(self.diagnosis),
            "replay": self.replay,
            "curves": self.curves,
            "kinks": list(self.kinks),
            "seconds": self.seconds,
            "data": self.data,
            "config": self.config,
            "environment": self.environment,
        }
        return finite(stored)  # type: ignore[no-any-return]


def diagnosis_dict(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis for JSON, with at most 20 culprits and all victims' names."""
    return {
        "step": found.step,
        "culprit": found.key,
        "cause": found.cause.name,
        "detail": found.cause.detail,
        "difference": asdict(found.difference),
        "culprits": [one.key for one in found.culprits],
        "victims": list(found.victims),
        "from_equal_inputs": found.forced,
        "span": found.span,
        "note": found.note,
    }
