"""Judging one Float32 step: is what separates it from the Float64 referee rounding, and nothing else?

A run is measured against the referee that carries the run's own on/off pattern. How far it may be is what rounding does
to the referee itself (an ensemble of shaken steps), and each layer, backward pass and update that is fed the referee's
values is held to the noise of that one operation. Nothing is imposed on a judged run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from pygan.parity.compare import Difference, compare_arrays, norm
from pygan.parity.judge import Judged, common, flat, relative
from pygan.parity.referee import Levels, Referee, distance, root_mean_square
from pygan.parity.rounding import ELEMENTWISE, UNIT
from pygan.parity.sides import Live, Pair, Together, words_of
from pygan.parity.tolerances import (
    ENSEMBLE_FACTOR,
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


class Float32Judge:
    """Judges Float32 steps of two sides by one referee."""

    def __init__(self, together: Together, referee: Referee) -> None:
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
        truth, levels = self._referee.measured(pair.step, pair.before, TRUTH)
        shaken, kink_noise = self._referee.shaken(pair.step, pair.before, truth, levels)
        found = Rounded()
        own_truth = []
        for role, record in (("candidate", pair.candidate), ("reference", pair.reference)):
            patterns = patterns_of(record, truth)
            places = {key: np.argwhere(patterns[key] != truth.pattern[key]) for key in patterns}
            places = {key: where for key, where in places.items() if len(where)}
            right = truth
            if places:
                right = self._referee.step(pair.step, pair.before, TRUTH, impose=patterns, look=places)
                found.flips += [
                    _flip(f"{key} ({role})", where, right.kink[key], kink_noise[key]) for key, where in places.items()
                ]
            own_truth.append(_tensors(right))
        ensemble = root_mean_square(shaken, _tensors(truth))
        mine, theirs = common(pair.candidate, pair.reference)
        for difference in compare_arrays(mine, theirs, rules):
            key = difference.key.removeprefix("sketch/")
            if difference.fault or difference.key == "state/step":
                found.ensemble.append(Judged(difference, difference.relative, 0.0, "equal"))
            elif key.startswith(END_TO_END) and key in ensemble:
                rights = [tensors[key] for tensors in own_truth]
                both = zip((mine, theirs), rights, strict=True)
                own, other = (_gap(side[difference.key], right, difference.key) for side, right in both)
                level = max(levels.level(key) or 0.0, _loss_level(key, truth), UNIT * norm(rights[0]))
                found.ensemble.append(_weighed(difference, own, other, max(ensemble[key], level), rights[0]))
        self._updates(pair, truth, found)
        self._alone(pair, truth, levels, found)
        return found

    def _updates(self, pair: Pair, truth: StepRecord, found: Rounded) -> None:
        """Each side's updates from its own gradients, where gradients and states are there in full."""
        for side, record in ((self._together.candidate, pair.candidate), (self._together.reference, pair.reference)):
            if not record.gradient or not record.state:
                continue
            right, levels = self._referee.updated(pair.before, record.gradient, truth.order)
            arrays = flat(record, ("state", "updated"))
            rows = found.updates.setdefault(side.title, [])
            for key, value in right.items():
                if key in arrays and arrays[key].shape == value.shape:
                    rows.append(_alone(key, arrays[key], value, levels[key], "an update from the run's own gradient"))

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


def _weighed(difference: Difference, own: float, other: float, noise: float, truth: np.ndarray) -> Judged:
    """Both distances from the referee against what the ensemble admits."""
    if other > REFERENCE_CAP * noise:
        reason = (
            f"the reference's own distance from the referee; the ensemble's {relative(noise, truth):.0e} admits no more"
        )
        return Judged(
            difference, relative(other, truth), relative(REFERENCE_CAP * noise, truth), reason, relative(other, truth)
        )
    allowed = max(ENSEMBLE_FACTOR * noise, min(REFERENCE_FACTOR * other, REFERENCE_CAP * noise))
    reason = f"distance from the referee; shaken referee steps are {relative(noise, truth):.0e} from it"
    return Judged(difference, relative(own, truth), relative(allowed, truth), reason, relative(other, truth))


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
    """Units with another sign than in the referee: admissible where the input is within the noise of its channel."""
    allowed = (
        KINK_FACTOR * noise[places[:, 1]] if places.shape[1] > 1 else np.full(len(places), KINK_FACTOR * noise.max())
    )
    share = np.abs(inputs) / np.maximum(allowed, np.finfo(np.float64).tiny)
    worst = int(np.argmax(share))
    where = tuple(int(i) for i in places[worst])
    reason = (
        f"{len(places)} units with another sign than the referee's; the furthest from zero, against the noise there"
    )
    return Judged(
        Difference(f"pattern/{key}", (len(places),), worst=where),
        float(abs(inputs[worst])),
        float(allowed[worst]),
        reason,
    )


def pictures_judged(
    referee: Referee, state: State, latent: np.ndarray, pictures: tuple[Arrays, Arrays], difference: Difference
) -> Judged:
    """Both sides' pictures of one state against the referee's."""
    truth, spread = referee.pictures(state, latent)
    own, other = (distance(one["values"], truth) for one in pictures)
    return _weighed(difference, own, other, max(spread, UNIT) * norm(truth), truth)
