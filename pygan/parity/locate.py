"""Where two runs part: the first differing tensor in execution order, culprits against victims, and a hint at why.

At a step that differs, the run that can be led takes the step once more while every layer, gradient and update is fed
the other run's recorded values. What still differs then is a culprit: its inputs agree and its output does not. What
differed before and agrees now is a victim. All of this is done in Float64, where rounding hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pygan.parity.compare import Difference, compare_arrays
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.gather import Gatherer
from pygan.parity.judge import Cancelling, Judged, Noise, common
from pygan.parity.sides import Pair, Together
from pygan.parity.tolerances import ENSEMBLE_FACTOR, FLOAT64_STEP
from pygan.records import StepRecord

FULL_CAPTURE = ("logits", "gradients", "patterns", "state", "layers")
"""What a step must record for the search to reach single layers."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found at a step that differs.

    ``key`` is the first culprit in execution order and ``difference`` its size from equal inputs; ``culprits`` are all
    tensors that differ although their inputs agree, ``victims`` those that only inherit a difference. ``outside`` are
    the judged tensors outside their tolerance, in execution order. ``forced``: was the step taken once more with the
    other run's values? Else the first differing tensor stands for the culprit. ``span`` says between which two taps the
    difference arises where operations that no tap covers lie before ``key``. ``note`` is what else a reader must know.
    """

    step: int
    key: str
    cause: Cause
    difference: Difference
    culprits: tuple[Difference, ...] = ()
    victims: tuple[str, ...] = ()
    outside: tuple[Judged, ...] = ()
    forced: bool = False
    span: str = ""
    note: str = ""

    def __str__(self) -> str:
        also = f" and {len(self.culprits) - 1} more" if len(self.culprits) > 1 else ""
        how = self.span or ("its inputs agree, its output does not" if self.forced else "first in execution order")
        inherit = f"; {len(self.victims)} tensors inherit it" if self.victims else ""
        note = f"\n  {self.note}" if self.note else ""
        return (
            f"step {self.step}: first difference at {self.key}{also} ({how}){inherit}\n"
            f"  {self.difference}\n  probable cause: {self.cause}{note}"
        )


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
    together: Together,
    pair: Pair,
    outside: Sequence[Judged],
    previous: StepRecord | None = None,
    noise: Noise | None = None,
) -> Diagnosis:
    """The diagnosis of one Float64 step with tensors ``outside`` their tolerance, or modes that differ.

    ``previous`` is the reference's record of the step before. ``noise``: as ``judge_float64`` takes it.
    """
    rules = together.follower.stack.rules()
    modes = mode_differences(pair)
    candidate_follows = together.follower is together.candidate
    lead, follow = (pair.reference, pair.candidate) if candidate_follows else (pair.candidate, pair.reference)
    forced = None
    if lead.gradient and lead.state:
        forced = together.follower.spare.step(pair.step, FULL_CAPTURE, pair.before, force=lead)
    sides = together.roles(lead, forced) if forced else (pair.candidate, pair.reference)
    order = place_in_order((forced or follow).order or lead.order, lead.order)
    found = local_differences(*sides, rules, noise) if forced else [one.difference for one in outside]
    if forced and not lead.activation and any(one.key.startswith("logits/") for one in found):
        found = [one for one in found if not one.key.startswith(("gradient/", "loss/"))]  # these were not fed
    culprits = sorted([*modes, *found], key=lambda one: order(one.key))
    outside = sorted(outside, key=lambda one: order(one.key))
    first = culprits[0] if culprits else outside[0].difference
    cause = UNKNOWN
    if first.key.startswith("mode/"):
        cause = Cause("train or eval mode", first.fault)
    elif first.key == "batch":
        cause = Cause("other batch", first.fault)
    elif forced:
        from pygan.parity.causes import NO_EXPLANATION, name_cause

        kind, _, name = first.key.partition("/")
        if kind == "gradient" and name in follow.gradient and not any(one.key == first.key for one in found):
            forced = replace(forced, gradient={**forced.gradient, name: follow.gradient[name]})  # with its history
        gatherer = Gatherer(together.follower.stack, pair.step, pair.before, lead, forced, previous)
        cause = gatherer.cause_of(first, candidate_follows, name_cause)
        if cause == UNKNOWN and kind == "loss":  # one number says little: the gradient at its logits says more
            for one in found:
                if one.key.startswith("activation_gradient/") and cause == UNKNOWN:
                    told = gatherer.loss_cause_of(one, candidate_follows, name_cause)
                    cause = told if told.name not in NO_EXPLANATION else cause
        batch = next((one.difference for one in outside if one.key == "batch"), None)
        if cause == UNKNOWN and batch is not None and first.key.endswith(".input"):
            cause = Cause("other batch", batch.fault)
    own = {one.key for one in culprits}
    victims = tuple(one.key for one in outside if one.key not in own and one.key != first.key)
    span = _span(first.key, forced, lead) if forced and culprits else ""
    return Diagnosis(
        pair.step, first.key, cause, first, tuple(culprits), victims, tuple(outside), bool(forced and culprits), span
    )


def local_differences(
    candidate: StepRecord, reference: StepRecord, rules: Mapping[str, str] | None = None, noise: Noise | None = None
) -> list[Difference]:
    """Tensors whose own computation differs, from a forced Float64 step."""
    found = []
    left: Mapping[str, float] | None = None
    mine, theirs = common(candidate, reference)
    differences = compare_arrays(mine, theirs, rules)
    may_cancel = Cancelling(differences, theirs)
    for one in differences:
        if not one.fault and one.relative <= FLOAT64_STEP:
            continue
        if noise is not None and may_cancel(one):
            left = noise() if left is None else left
            if one.absolute <= ENSEMBLE_FACTOR * left.get(one.key, 0.0):
                continue
        found.append(one)
    return found


def _span(key: str, forced: StepRecord, lead: StepRecord) -> str:
    """Between which taps a culprit's own operations lie, where more than one module's are among them."""
    kind, _, tap = key.partition("/")
    if kind == "logits" and not lead.activation:
        earlier = forced.order[: list(forced.order).index(key)]
        calls = dict.fromkeys(one.split("/", 1)[1].partition(".")[0] for one in earlier if one[:11] == "activation/")
        known = {one.partition("/")[2] for one in earlier if one.startswith("logits/")}  # and found equal
        made = ", ".join(one for one in calls if one.partition("/")[0] not in known)
        return f"somewhere in the calls {made}, whose layers were not recorded at this step"
    if kind == "activation":
        if tap.endswith(".input"):
            return ""
        source = forced.sources.get(tap)
        while source and source not in lead.activation:  # a tap that the other run has fused with the next
            source = forced.sources.get(source)
        if source or source is None:
            return ""
        before = _neighbour(tap, forced, lead, -1)
        return f"somewhere in the operations between {before} and {tap}, not all of which are modules"
    if kind == "activation_gradient":
        users = [other for other, source in forced.sources.items() if source == tap]
        after = _neighbour(tap, forced, lead, +1)
        if after and not users:
            return f"somewhere in the operations between {tap} and {after}, not all of which are modules"
    return ""


def _neighbour(tap: str, forced: StepRecord, lead: StepRecord, step: int) -> str:
    """The tap before or after another one of its call, among those that both runs have."""
    call = tap.rpartition(".")[0] if "." in tap else tap
    network = call.partition(".")[0]
    taps = [key.partition("/")[2] for key in forced.order if key.startswith("activation/")]
    taps = [one for one in taps if one.startswith(f"{network}.") and (one in lead.activation or one == tap)]
    at = taps.index(tap) + step if tap in taps else -1
    return taps[at] if 0 <= at < len(taps) else ""


def agreeing(first: Diagnosis, second: Diagnosis | None, constants: frozenset[str]) -> Diagnosis:
    """The first diagnosis, its name taken back where the same place has another name, or the same constant another
    value, at a second step: a formula that explains one step only is no explanation. Of names between which the first
    step does not tell, the second may."""
    if second is None or second.key != first.key:
        return first
    if second.cause.name in first.cause.either:
        return replace(first, cause=second.cause)
    if first.cause == UNKNOWN:
        return first
    mine, other = first.cause, second.cause
    if mine.name != other.name or (mine.name in constants and mine.detail != other.detail):
        told = f"step {first.step} alone looks like {mine}, step {second.step} like {other}"
        return replace(first, cause=UNKNOWN, note="; ".join(part for part in (first.note, told) if part))
    return first


def place_in_order(order: Sequence[str], other: Sequence[str] = ()) -> Callable[[str], tuple[float, str]]:
    """Sort key of ``kind/name``: its last place in the order of the step. What only the ``other`` run computed comes
    after what it computed before it; what is unknown comes last, by name."""
    places = {key: float(place) for place, key in enumerate(order)}
    places["batch"] = -2.0
    before = -1.0
    for key in dict.fromkeys(other):
        before = places.setdefault(key, before if before % 1 else before + 0.5)
    return lambda key: (places.get(key.removeprefix("sketch/"), float(len(places))), key)


def largest(differences: Sequence[Difference]) -> float:
    """The smallest relative tolerance that would pass; infinite if there is a fault."""
    return max((float("inf") if d.fault else d.relative for d in differences), default=0.0)
