"""Where two runs part: the first differing tensor in execution order, culprits against victims, and a hint at why.

At the first step that differs, the run that can be led takes the step once more while every layer, gradient and update
is fed the other run's recorded values. What still differs then is a culprit: its inputs agree and its output does not.
What differed before and agrees now is a victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pygan.parity.bands import FLOAT64_ABSOLUTE, LOCAL_TOLERANCE, group_of, minimum_relative
from pygan.parity.compare import Difference, compare_arrays, norm
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.gather import Gatherer
from pygan.parity.judge import CANCELLING, Judged, common, flat, judge_step, network_scales
from pygan.parity.sides import Live, Pair, Together
from pygan.records import StepRecord

FULL_CAPTURE = ("logits", "gradients", "patterns", "state", "layers")
"""What a step must record for the search to reach single layers."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found at the first step that differs.

    ``key`` is the first culprit in execution order and ``difference`` its size from equal inputs; ``culprits`` are all
    tensors that differ although their inputs agree, ``victims`` those that only inherit a difference. ``outside`` are
    the judged tensors outside their bands, in execution order, ``minimum`` the smallest relative tolerance that would
    have let everything pass. Without full records on both sides the first differing tensor stands for the culprit.
    """

    step: int
    key: str
    cause: Cause
    difference: Difference
    culprits: tuple[Difference, ...]
    victims: tuple[str, ...]
    outside: tuple[Judged, ...]
    minimum: float
    forced: bool

    def __str__(self) -> str:
        also = f" and {len(self.culprits) - 1} more" if len(self.culprits) > 1 else ""
        how = "its inputs agree, its output does not" if self.forced else "first in execution order"
        return (
            f"step {self.step}: {self.cause} at {self.key}{also} ({how}); {len(self.victims)} tensors inherit it\n"
            f"  {self.difference}"
        )


def diagnose(together: Together, steps: Iterable[int], referee: Live | None = None) -> Diagnosis | None:
    """Step both sides together until a step differs, and say where and why; None where all steps agree.

    ``referee`` (a torch stack in Float64) is needed where the runs are in Float32.
    """
    previous: StepRecord | None = None
    for number in steps:
        before, lead = together.lead(number, FULL_CAPTURE)
        follow = together.follow(before, lead, FULL_CAPTURE)
        pair = together.pair(before, lead, follow)
        if found := diagnose_step(together, pair, previous, referee):
            return found
        previous = pair.reference
    return None


def mode_differences(pair: Pair) -> list[Difference]:
    """Layers that ran in train mode on one side and in eval mode on the other."""
    mine, theirs = pair.candidate.mode, pair.reference.mode
    word = {True: "train", False: "eval"}
    return [
        Difference(f"mode/{key}", fault=f"{word[bool(mine[key])]} mode against {word[bool(theirs[key])]} mode")
        for key in mine.keys() & theirs.keys()
        if bool(mine[key]) != bool(theirs[key])
    ]


def diagnose_step(
    together: Together, pair: Pair, previous: StepRecord | None = None, referee: Live | None = None
) -> Diagnosis | None:
    """The diagnosis of one step; None where it agrees. ``previous`` is the reference's record of the step before."""
    rules = together.follower.stack.rules()
    judged = judge_step(pair, referee, rules)
    modes = mode_differences(pair)
    outside = [one for one in judged if not one.ok]
    minimum = minimum_relative(one.difference for one in judged)
    lead = pair.reference if together.follower is together.candidate else pair.candidate
    if not outside and not modes:
        return None
    follow = pair.candidate if lead is pair.reference else pair.reference
    forced = None
    if lead.activation and lead.gradient and lead.state:
        forced = together.follow(pair.before, lead, FULL_CAPTURE, force=lead)
    sides = together.roles(lead, forced) if forced else (pair.candidate, pair.reference)
    order = place_in_order((forced or pair.candidate).order or pair.reference.order, lead.order)
    local = local_differences(*sides, rules) if forced else [one.difference for one in outside]
    culprits = sorted([*modes, *local], key=lambda one: order(one.key))
    outside.sort(key=lambda one: order(one.key))
    first = culprits[0] if culprits else outside[0].difference
    cause = UNKNOWN
    if first.key.startswith("mode/"):
        cause = Cause("train or eval mode", first.fault)
    elif first.key.startswith("pattern/"):
        cause = Cause("on/off pattern", outside[0].reason)
    elif forced and culprits:
        from pygan.parity.causes import name_cause

        kind, _, name = first.key.partition("/")
        if kind == "gradient" and [first.key] == [one.key for one in outside[:1]] and name in follow.gradient:
            # The forced step is the second one from this state: what a stack wrongly carries over would count twice.
            forced = replace(forced, gradient={**forced.gradient, name: follow.gradient[name]})
        gatherer = Gatherer(together.follower.stack, pair.step, pair.before, lead, forced, previous)
        candidate_follows = together.follower is together.candidate
        cause = gatherer.cause_of(first, candidate_follows, name_cause)
    own = {one.key for one in culprits}
    victims = tuple(one.key for one in outside if one.key not in own)
    return Diagnosis(
        pair.step, first.key, cause, first, tuple(culprits), victims, tuple(outside), minimum, forced is not None
    )


def local_differences(
    candidate: StepRecord, reference: StepRecord, rules: Mapping[str, str] | None = None
) -> list[Difference]:
    """Tensors whose own computation differs, from a forced step: by the tolerance of one layer's rounding."""
    mine, theirs = common(candidate, reference)
    scales = network_scales({key: value.astype(np.float64) for key, value in flat(reference).items()})
    found = []
    for one in compare_arrays(mine, theirs, rules):
        if not one.fault and np.isfinite(one.relative):
            tolerance = LOCAL_TOLERANCE[str(theirs[one.key].dtype)] if theirs[one.key].dtype.kind == "f" else 0.0
            scale = max(norm(theirs[one.key]), scales.get(group_of(one.key), 0.0) / CANCELLING)
            kind = one.key.removeprefix("state/").partition("/")[0]
            allowance = FLOAT64_ABSOLUTE.get(kind, 0.0) if str(theirs[one.key].dtype) == "float64" else 0.0
            if one.relative <= tolerance or one.absolute <= max(tolerance * 1e-2 * scale, allowance):
                continue
        found.append(one)
    return found


def place_in_order(order: Sequence[str], other: Sequence[str] = ()) -> Callable[[str], tuple[float, str]]:
    """Sort key of ``kind/name``: its last place in the order of the step. What only the ``other`` run computed comes
    after what it computed before it; what is unknown comes last, by name."""
    places = {key: float(place) for place, key in enumerate(order)}
    before = -1.0
    for key in dict.fromkeys(other):
        before = places.setdefault(key, before if before % 1 else before + 0.5)
    return lambda key: (places.get(key.removeprefix("sketch/"), float(len(places))), key)
