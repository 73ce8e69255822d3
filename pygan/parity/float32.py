"""Judging one Float32 step: is what separates it from the Float64 referee rounding, and nothing else?

A run is measured against the referee that carries the run's own on/off pattern. How far it may be is what rounding does
to the referee itself (an ensemble of shaken steps), and each layer, backward pass and update that is fed the referee's
values is held to the noise of that one operation. Nothing is imposed on a judged run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pygan.parity.compare import Difference, compare_arrays, norm
from pygan.parity.judge import Judged, common, flat
from pygan.parity.referee import Levels, Referee, distance, root_mean_square
from pygan.parity.rounding import ELEMENTWISE, UNIT
from pygan.parity.sides import Live, Pair, Sides, Together, words_of
from pygan.parity.tolerances import (
    ENSEMBLE_FACTOR,
    FLOAT64_OVER_FLOAT32,
    KINK_FACTOR,
    LOCAL_FACTOR,
    REFERENCE_CAP,
    REFERENCE_FACTOR,
)
from pygan.records import Arrays, StepRecord
from pygan.sketches import PROJECTIONS, sketch
from pygan.state import State

TRUTH = ("logits", "gradients", "patterns", "state", "layers")
FORCED = ("logits", "gradients", "state", "layers")
END_TO_END = ("loss/", "logits/", "gradient/", "buffer/", "state/buffer/")
"""What is held to the referee from the state before the step. Parameters and moments follow from the gradients; their
updates are judged by themselves, because Adam makes a whole step of a gradient that is nothing but rounding."""
ALONE = ("activation/", "activation_gradient/", "gradient/", "loss/", "logits/", "buffer/")
"""What is judged in a step that is fed the referee's values."""


@dataclass
class Rounded:
    """What was found of one Float32 step: against the ensemble, of updates from a run's own gradients, of flipped
    units, and of single operations fed the referee's values (by the title of the side that was fed)."""

    ensemble: list[Judged] = field(default_factory=list)
    updates: dict[str, list[Judged]] = field(default_factory=dict)
    flips: list[Judged] = field(default_factory=list)
    alone: dict[str, list[Judged]] = field(default_factory=dict)

    def every(self) -> Iterator[Judged]:
        """All of it, single operations first: they name the place."""
        for rows in (*self.alone.values(), *self.updates.values(), self.flips, self.ensemble):
            yield from rows


class RefereeStep:
    """The referee's step from one state, how far rounding moves it, and every judgement of one run that needs no other.

    ``capture``: what the referee's own step (``truth``) is to record.
    """

    def __init__(self, referee: Referee, number: int, before: State, capture: Sequence[str] = TRUTH) -> None:
        self._referee, self._number, self._before, self._capture = referee, number, before, capture
        self.truth, self.levels = referee.measured(number, before, capture)
        ends = [word for word in capture if word not in ("patterns", "layers", "layer_sketches")]
        shaken, self._kink_noise = referee.shaken(number, before, self.truth, self.levels, ends)
        self._ensemble = root_mean_square(shaken, self.truth.to_arrays())

    def carrying(self, record: StepRecord, who: str = "") -> tuple[StepRecord, list[Judged]]:
        """The referee's step with the on/off pattern of ``record``, and the units that are not as in ``truth``."""
        patterns = patterns_of(record, self.truth)
        places = {key: np.argwhere(patterns[key] != self.truth.pattern[key]) for key in patterns}
        places = {key: where for key, where in places.items() if len(where)}
        if not places:
            return self.truth, []
        right = self._referee.step(self._number, self._before, self._capture, impose=patterns, look=places)
        return right, [
            _flip(f"{key}{who}", where, right.kink[key], self._kink_noise[key]) for key, where in places.items()
        ]

    def moves(self, key: str) -> bool:
        """Is ``kind/name`` held to the referee from the state before the step?"""
        return key.startswith(END_TO_END) and key in self._ensemble

    def noise(self, key: str, right: np.ndarray) -> float:
        """How far rounding moves ``kind/name``, at least by the rounding of that one result, ``right``."""
        level = max(self.levels.level(key) or 0.0, _loss_level(key, self.truth), UNIT * norm(right))
        return max(self._ensemble[key], level)

    def float64_noise(self) -> dict[str, float]:
        """Norm of what Float64 rounding leaves in each tensor: that of Float32, scaled down."""
        return {
            key: FLOAT64_OVER_FLOAT32 * max(value, self.levels.level(key) or 0.0)
            for key, value in self._ensemble.items()
        }

    def judge(self, record: StepRecord) -> list[Judged]:
        """One run by itself: its flipped units, its tensors from the state before the step, its updates."""
        right, found = self.carrying(record)
        mine, theirs = common(record, right)
        wide = {key: value.astype(np.float64) if value.dtype == np.float32 else value for key, value in mine.items()}
        for difference in compare_arrays(wide, theirs):
            key = difference.key
            if difference.fault or key == "state/step":
                found.append(Judged(difference, difference.relative, 0.0, "equal"))
            elif self.moves(key):
                found.append(_weighed(difference, difference.absolute, None, self.noise(key, theirs[key]), theirs[key]))
        return [*found, *self.updates(record)]

    def updates(self, record: StepRecord) -> list[Judged]:
        """A run's updates from its own gradients, where gradients and states are there in full."""
        if not record.gradient or not record.state:
            return []
        right, levels = self._referee.updated(self._before, record.gradient, self.truth.order)
        arrays = flat(record, ("state", "updated"))
        reason = "an update from the run's own gradient"
        return [
            _alone(key, arrays[key], value, levels[key], reason)
            for key, value in right.items()
            if key in arrays and arrays[key].shape == value.shape
        ]


class Float32Judge:
    """Judges Float32 steps of two sides by one referee."""

    def __init__(self, together: Together | Sides, referee: Referee) -> None:
        self._together, self._referee = together, referee

    def float64_pair(self, pair: Pair, capture: tuple[str, ...]) -> Pair | None:
        """Both sides' Float64 steps from the Float32 state; None where one of them cannot be had. Two live sides get
        the betas' powers as Float64 has them; a recorded step was taken from the run's own, so the other must be."""
        recorded = [side for side in (self._together.candidate, self._together.reference) if not side.live]
        theirs = recorded[0].twin_step(pair.step, capture, pair.before) if recorded else None
        if recorded and theirs is None:
            return None
        made = []
        before = pair.before if recorded else self._referee.with_exact_powers(pair.before)
        for side in (self._together.candidate, self._together.reference):
            if isinstance(side, Live):
                words = capture if theirs is None else words_of(theirs)
                made.append(side.twin_step(pair.step, words, before))
            else:
                made.append(theirs)
        assert made[0] is not None and made[1] is not None
        return Pair(pair.step, before, made[0], made[1])

    def judge(self, pair: Pair, rules: Mapping[str, str] | None = None) -> Rounded:
        """Everything that can be said of one step of both runs."""
        step = RefereeStep(self._referee, pair.step, pair.before)
        found = Rounded()
        rights = []
        for role, record in (("candidate", pair.candidate), ("reference", pair.reference)):
            right, flips = step.carrying(record, f" ({role})")
            rights.append(_tensors(right))
            found.flips += flips
        mine, theirs = common(pair.candidate, pair.reference)
        for difference in compare_arrays(mine, theirs, rules):
            key = difference.key.removeprefix("sketch/")
            if difference.fault or difference.key == "state/step":
                found.ensemble.append(Judged(difference, difference.relative, 0.0, "equal"))
            elif step.moves(key):
                truths = [tensors[key] for tensors in rights]
                both = zip((mine, theirs), truths, strict=True)
                own, other = (_gap(side[difference.key], right, difference.key) for side, right in both)
                found.ensemble.append(_weighed(difference, own, other, step.noise(key, truths[0]), truths[0]))
        for side, record in ((self._together.candidate, pair.candidate), (self._together.reference, pair.reference)):
            if record.gradient and record.state:
                found.updates.setdefault(side.title, []).extend(step.updates(record))
        self._alone(pair, step.truth, step.levels, found)
        return found

    def _alone(self, pair: Pair, truth: StepRecord, levels: Levels, found: Rounded) -> None:
        """Each live torch side once more, every operation fed the referee's values."""
        for side in (self._together.candidate, self._together.reference):
            if not isinstance(side, Live) or not side.can_be_led:
                continue
            fed = side.spare.step(pair.step, FORCED, pair.before, force=truth).to_arrays()
            rows = found.alone.setdefault(side.title, [])
            for key, value in truth.to_arrays().items():
                if key in fed and key.startswith(ALONE) and fed[key].shape == value.shape and value.dtype.kind == "f":
                    level = levels.level(key)
                    if level is None:  # operations between taps: as many terms as a sample has
                        level = UNIT * max(1, value[0].size if value.ndim else 1) ** 0.5 * norm(value)
                    level = max(level, _loss_level(key, truth), UNIT * norm(value))
                    rows.append(_alone(key, fed[key], value, level, "one operation fed the referee's values"))


def patterns_of(record: StepRecord, truth: StepRecord) -> dict[str, np.ndarray]:
    """The on/off patterns of a run: recorded in full, or as the units that are not as in the Float64 step."""
    if record.pattern:
        return {k: v for k, v in record.pattern.items() if k in truth.pattern and v.shape == truth.pattern[k].shape}
    made = {}
    for key, places in record.flip.items():
        if key in truth.pattern and len(places):
            made[key] = truth.pattern[key].copy()
            made[key][tuple(places.T)] ^= True
    return made


def _tensors(record: StepRecord) -> dict[str, np.ndarray]:
    return {key: value for key, value in record.to_arrays().items() if key.startswith(END_TO_END)}


def _gap(value: np.ndarray, truth: np.ndarray, key: str) -> float:
    """Distance from the referee's tensor; of a sketch, estimated from its projections on random signs."""
    if not key.startswith("sketch/"):
        return distance(value, truth)
    gaps = (value - sketch(truth))[1 : 1 + PROJECTIONS]
    return float(np.sqrt(np.mean(np.square(gaps))))


def _loss_level(key: str, truth: StepRecord) -> float:
    """Noise of a loss: a mean over the batch of functions of the logits."""
    if not key.startswith("loss/"):
        return 0.0
    value = abs(float(truth.loss[key.partition("/")[2]]))
    logits = [array for array in truth.logits.values() if array.size]
    most = max((len(array) for array in logits), default=1)
    largest = max((float(np.abs(array).max()) for array in logits), default=0.0)
    return float(UNIT * (ELEMENTWISE + most**0.5) * (value + largest))


def _weighed(difference: Difference, own: float, other: float | None, noise: float, truth: np.ndarray) -> Judged:
    """Both distances from the referee, or that of a run without a reference, against the ensemble's noise level."""
    size = norm(truth) or 1.0  # of a zero all numbers are absolute
    error = None if other is None else other / size
    if other is not None and other > REFERENCE_CAP * noise:
        reason = f"the reference's own distance from the referee, held to {REFERENCE_CAP:g} noise levels"
        return Judged(difference, other / size, REFERENCE_CAP * noise / size, reason, error)
    allowed = max(ENSEMBLE_FACTOR * noise, min(REFERENCE_FACTOR * (other or 0.0), REFERENCE_CAP * noise))
    reason = f"distance from the Float64 referee; the noise level is {noise / size:.1e}"
    return Judged(difference, own / size, allowed / size, reason, error)


def _alone(key: str, value: np.ndarray, truth: np.ndarray, level: float, reason: str) -> Judged:
    gap = distance(value, truth)
    size = norm(truth)
    if size == 0:  # then both numbers are absolute
        size = 1.0
    difference = Difference(key, value.shape, relative=gap / size, absolute=gap)
    if not np.isfinite(gap):
        difference = Difference(key, value.shape, fault="not finite when it is fed the referee's values")
    return Judged(difference, gap / size, LOCAL_FACTOR * level / size, reason)


def _flip(key: str, places: np.ndarray, inputs: np.ndarray, noise: np.ndarray) -> Judged:
    """Units with another sign than in the referee: sound where the input is within the noise of its channel."""
    allowed = (
        KINK_FACTOR * noise[places[:, 1]] if places.shape[1] > 1 else np.full(len(places), KINK_FACTOR * noise.max())
    )
    share = np.abs(inputs) / np.maximum(allowed, np.finfo(np.float64).tiny)
    worst = int(np.argmax(share))
    where = tuple(int(i) for i in places[worst])
    reason = f"{len(places)} units have another sign than in the referee; the input that is furthest from zero"
    return Judged(
        Difference(f"pattern/{key}", (len(places),), worst=where),
        float(abs(inputs[worst])),
        float(allowed[worst]),
        reason,
    )


def in_noise_levels(flip: Judged) -> Judged:
    """A judged flip whose numbers are counted in noise levels of what enters the unit."""
    level = max(flip.allowed / KINK_FACTOR, float(np.finfo(np.float64).tiny))
    return replace(flip, value=flip.value / level, allowed=KINK_FACTOR)


def pictures_judged(
    referee: Referee, state: State, latent: np.ndarray, pictures: tuple[Arrays, Arrays], difference: Difference
) -> Judged:
    """Both sides' pictures of one state against the referee's."""
    truth, spread = referee.pictures(state, latent)
    own, other = (distance(one["values"], truth) for one in pictures)
    return _weighed(difference, own, other, max(spread, UNIT) * norm(truth), truth)
