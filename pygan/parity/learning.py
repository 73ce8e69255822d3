"""Level 10, the learning gate: did this run train at all?

Two stacks can agree to the last bit on a network that never moves (the published loop of one article is such a run).
So every run is asked by itself: did each network's tensors move, did each get gradients, did the losses change, and do
the pictures show anything. Nothing here compares two runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pygan.parity.compare import norm
from pygan.records import StepRecord
from pygan.sketches import PROJECTIONS, sketch

TRAINED, NEVER_UPDATED, PARTLY, NOT_SHOWN = "trained", "never updated", "partly updated", "not shown"

LEAST_CONTRAST = 1e-3
"""Least spread of pictures, relative to their largest value (an all-black or all-grey picture has none; the faintest
that an untrained narrow generator draws has more than 1). In an 8-bit grid it is less than half a grey level."""


@dataclass(frozen=True)
class NetworkLearning:
    """What one network did in a run.

    ``moved`` are the trained tensors that differ between the first and the last state, ``still`` the others.
    ``with_gradient`` counts the recorded steps in which the network got a gradient that is not all zero, of ``steps``
    whose gradients were recorded; ``without_gradient`` names tensors whose gradient was zero or missing in all of them,
    ``not_finite`` tensors that held NaN or infinity in a gradient or at the end. ``change`` is the norm of the
    network's whole movement relative to where it started.
    """

    network: str
    moved: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    steps: int = 0
    with_gradient: int = 0
    without_gradient: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    change: float = 0.0

    @property
    def verdict(self) -> str:
        """``trained``, ``never updated``, ``partly updated``, or ``not shown`` where no two states are recorded."""
        if not self.moved and not self.still:
            return NOT_SHOWN
        if not self.moved:
            return NEVER_UPDATED
        gaps = self.still or self.without_gradient or self.not_finite or self.with_gradient < self.steps
        return PARTLY if gaps else TRAINED

    @property
    def ok(self) -> bool:
        """Did all of it train?"""
        return self.verdict == TRAINED

    def __str__(self) -> str:
        total = len(self.moved) + len(self.still)
        if self.verdict == NOT_SHOWN:
            return f"{self.network}: the records hold no two states of it to compare"
        gradients = f"a gradient in {self.with_gradient} of {self.steps} steps" if self.steps else "no step's gradients"
        if self.verdict == NEVER_UPDATED:
            return f"{self.network} never updated: all of its {total} tensors are as they were; {gradients} recorded"
        told = f"{self.network} {self.verdict}: {len(self.moved)} of {total} tensors moved, by {self.change:.2g} of "
        told += f"their size; {gradients} recorded"
        rows = (
            ("did not move", self.still),
            ("without gradient", self.without_gradient),
            ("not finite", self.not_finite),
        )
        return told + "".join(f"; {what}: {', '.join(names)}" for what, names in rows if names)


@dataclass(frozen=True)
class LossLearning:
    """One loss over a run of ``steps``: first, last, smallest and largest; ``finite`` says whether all are."""

    loss: str
    steps: int
    first: float
    last: float
    low: float
    high: float
    finite: bool

    @property
    def ok(self) -> bool:
        """Is it finite everywhere, and not one number throughout (of at least two)?"""
        return self.finite and (self.steps < 2 or self.low < self.high)

    def __str__(self) -> str:
        fault = "" if self.ok else " (it never changed)" if self.finite else " (not finite)"
        return f"loss {self.loss}: {self.first:.6g} to {self.last:.6g} in {self.steps} steps{fault}"


@dataclass(frozen=True)
class PictureLearning:
    """The last pictures of a run, and whether they are others than the first.

    ``contrast`` is the largest spread of values within a picture, ``variety`` the largest difference between two
    pictures, ``change`` between the first and the last drawing: all relative to the largest absolute value. ``variety``
    is None where a drawing is a single picture, ``change`` where a run drew only once.
    """

    step: int
    contrast: float
    variety: float | None
    change: float | None
    finite: bool

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with them."""
        rows = (("constant", self.contrast), ("all alike", self.variety), ("what they were at first", self.change))
        faults = tuple(word for word, value in rows if value is not None and not value > LEAST_CONTRAST)
        return faults if self.finite else ("not finite",)

    @property
    def ok(self) -> bool:
        """Finite, not one grey, not all alike, and not what they were at first?"""
        return not self.faults

    def __str__(self) -> str:
        told = f"pictures of step {self.step}: contrast {self.contrast:.2g}"
        told += "" if self.variety is None else f", variety {self.variety:.2g}"
        told += "" if self.change is None else f", change since the first {self.change:.2g}"
        return told + (f" ({' and '.join(self.faults)})" if self.faults else "")


LearningCheck = NetworkLearning | LossLearning | PictureLearning


@dataclass
class _Gradients:
    """What was seen of the gradients of one network: ``steps`` in which they were not all zero, and which tensors."""

    steps: int = 0
    alive: set[str] = field(default_factory=set)
    not_finite: set[str] = field(default_factory=set)


def learning_gate(
    records: Iterable[StepRecord],
    initial: Mapping[str, np.ndarray] | None = None,
    networks: Sequence[str] = (),
    picture_side: int = 0,
) -> list[LearningCheck]:
    """Verdicts on the networks, losses and pictures of one run.

    ``records`` in the order of the run; each may hold as little as it likes, but states (or sketches of them) of two
    moments are needed to see a network move. ``initial`` is the state before the first record. ``networks`` are those
    that must have trained, besides all in the records. ``picture_side`` is the number of pictures in a row of an
    8-bit grid; 0 takes a grid as one picture.
    """
    states = [_Tensors(dict(initial))] if initial else []
    gradients: dict[str, _Gradients] = {name: _Gradients() for name in networks}
    losses: dict[str, list[float]] = {}
    drawings: list[tuple[int, np.ndarray]] = []
    steps = 0
    for record in records:
        if (state := _tensors(record, "state")).values:
            states = [*states[:1], state]
        gradient = _tensors(record, "gradient").values
        steps += bool(gradient)
        _note(gradients, gradient)
        for name, value in record.loss.items():
            losses.setdefault(name, []).append(float(value))
        if record.pictures:
            drawings = [*drawings[:1], (record.step, _pictures(record, picture_side))]
    checks: list[LearningCheck] = [*_networks(states, gradients, steps)]
    checks += [_loss(name, np.array(values)) for name, values in losses.items()]
    return checks + ([_drawing(drawings)] if drawings else [])


@dataclass(frozen=True)
class _Tensors:
    """Tensors by key, or their sketches."""

    values: Mapping[str, np.ndarray]
    sketched: bool = False

    def as_sketches(self) -> _Tensors:
        return self if self.sketched else _Tensors({key: sketch(one) for key, one in self.values.items()}, True)

    def size(self, key: str) -> float:
        return abs(float(self.values[key][0])) if self.sketched else norm(self.values[key])

    def way_to(self, key: str, other: _Tensors) -> float:
        """Norm of the difference; from sketches it is estimated by the projections on random signs."""
        way = other.values[key].astype(np.float64) - self.values[key]
        return float(np.sqrt(np.mean(way[1 : 1 + PROJECTIONS] ** 2))) if self.sketched else norm(way)


def _tensors(record: StepRecord, kind: str) -> _Tensors:
    """Tensors of ``kind`` (``state`` or ``gradient``) in full, or else their sketches."""
    if full := getattr(record, kind):
        return _Tensors(full)
    prefix = f"{kind}/"
    return _Tensors(
        {key.removeprefix(prefix): one for key, one in record.sketch.items() if key.startswith(prefix)}, True
    )


def _note(seen: dict[str, _Gradients], gradients: Mapping[str, np.ndarray]) -> None:
    """Count one step's gradients, by ``update/network.layer.tensor``."""
    by_path = [(key.rpartition("/")[2], value) for key, value in gradients.items()]
    for network in {path.partition(".")[0] for path, _ in by_path}:
        one = seen.setdefault(network, _Gradients())
        own = [(path, value) for path, value in by_path if path.partition(".")[0] == network]
        alive = {path for path, value in own if value.any()}
        one.steps += bool(alive)
        one.alive |= alive
        one.not_finite |= {path for path, value in own if not np.isfinite(value).all()}


def _networks(states: Sequence[_Tensors], gradients: Mapping[str, _Gradients], steps: int) -> list[NetworkLearning]:
    first, last = (states[0], states[-1]) if len(states) > 1 else (_Tensors({}), _Tensors({}))
    if first.sketched != last.sketched:
        first, last = first.as_sketches(), last.as_sketches()
    paths = {
        key.removeprefix("parameter/") for key in first.values.keys() & last.values.keys() if key[:10] == "parameter/"
    }
    found = []
    for name in sorted({path.partition(".")[0] for path in paths} | set(gradients)):
        own = sorted(path for path in paths if path.partition(".")[0] == name)
        seen = gradients.get(name, _Gradients())
        still = [
            path for path in own if np.array_equal(first.values[f"parameter/{path}"], last.values[f"parameter/{path}"])
        ]
        size = norm(np.array([first.size(f"parameter/{path}") for path in own]))
        way = norm(np.array([first.way_to(f"parameter/{path}", last) for path in own]))
        broken = {path for path in own if not np.isfinite(last.values[f"parameter/{path}"]).all()}
        found.append(
            NetworkLearning(
                name,
                moved=tuple(path for path in own if path not in still),
                still=tuple(still),
                steps=steps,
                with_gradient=seen.steps,
                without_gradient=tuple(path for path in own if steps and path not in seen.alive),
                not_finite=tuple(sorted(seen.not_finite | broken)),
                change=way / size if size > 0 else 0.0,
            )
        )
    return found


def _loss(name: str, values: np.ndarray) -> LossLearning:
    first, last = float(values[0]), float(values[-1])
    return LossLearning(
        name, len(values), first, last, float(values.min()), float(values.max()), bool(np.isfinite(values).all())
    )


def _pictures(record: StepRecord, side: int) -> np.ndarray:
    """Pictures ``(n, H, W)`` Float64 in [-1, 1], from values or from an 8-bit grid (whose order does not matter)."""
    if "values" in record.pictures:
        values = record.pictures["values"].astype(np.float64)
        return values.reshape(len(values), -1, values.shape[-1])
    grid = record.pictures["grid"].astype(np.float64) / 127.5 - 1
    side = side or 1
    height, width = grid.shape[0] // side, grid.shape[1] // side
    return grid.reshape(side, height, side, width).transpose(2, 0, 1, 3).reshape(side * side, height, width)


def _drawing(drawings: list[tuple[int, np.ndarray]]) -> PictureLearning:
    (_, before), (step, pictures) = drawings[0], drawings[-1]
    if not (np.isfinite(pictures).all() and np.isfinite(before).all()):
        return PictureLearning(step, 0.0, None, None, False)
    size = float(np.abs(pictures).max()) or 1.0
    contrast = float((pictures.max(axis=(1, 2)) - pictures.min(axis=(1, 2))).max()) / size
    variety = float(np.abs(pictures - pictures[0]).max()) / size if len(pictures) > 1 else None
    comparable = len(drawings) > 1 and before.shape == pictures.shape
    change = float(np.abs(pictures - before).max()) / size if comparable else None
    return PictureLearning(step, contrast, variety, change, True)
