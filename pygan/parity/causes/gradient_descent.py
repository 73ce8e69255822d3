"""Updates by SGD, plain, with momentum or Nesterov's, and what its usual slips make of the same gradient.

With gradient g, weight decay w, momentum r and the buffer b that it keeps (torch's SGD; Optimisers.jl 0.4 keeps lr b),

    d = g + w x      b <- r b + d      x <- x - lr b,  with Nesterov's momentum  x <- x - lr (d + r b)

An explanation must reproduce the parameter and the buffer, not just the tensor that differed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pygan.parity.causes.common import Hypothesis, other_widths, reproduces_reference, resolved, solve
from pygan.parity.evidence import UpdateEvidence

Slots = dict[str, np.ndarray]
Numbers = Mapping[str, float]
BUFFER = "momentum_buffer"


def descent(before: Mapping[str, np.ndarray], g: np.ndarray, k: Numbers) -> Slots:
    """Every slot after one update."""
    x = before["parameter"]
    d = g + k.get("weight_decay", 0.0) * x
    if BUFFER not in before:
        return {"parameter": x - k["lr"] * d}
    b = k["momentum"] * before[BUFFER] + d
    return {"parameter": x - k["lr"] * (d + k["momentum"] * b if k["nesterov"] else b), BUFFER: b}


class Update:
    """The evidence with its reference recomputed. ``holds``: is the reference's update this gradient descent?"""

    def __init__(self, evidence: UpdateEvidence) -> None:
        self.evidence, self.k, self.g, self.before = evidence, evidence.numbers, evidence.gradient, evidence.before
        self.holds = {"lr", "momentum", "nesterov"} <= self.k.keys() and "parameter" in self.before
        self.holds = self.holds and all(
            slot not in self.before or value.shape == self.before[slot].shape
            for slot, value in evidence.after_candidate.items()
        )
        if self.holds:
            self.x = self.before["parameter"]
            self.reference = descent(self.before, self.g, self.k)
            self.holds = reproduces_reference(evidence, self.reference)

    @property
    def after(self) -> Mapping[str, np.ndarray]:
        """What the candidate made of it; the reference's slots where it has none of its own."""
        return {**self.reference, **self.evidence.after_candidate}


def learning_rate(u: Update) -> Iterator[Hypothesis]:
    """Another factor of the movement, solved."""
    unit = (u.reference["parameter"] - u.x) / u.k["lr"]
    rate = solve(u.x, unit, u.after["parameter"])
    if rate is not None and rate > 0 and resolved(u.evidence, rate, u.k["lr"]):
        slots = u.reference | {"parameter": u.x + rate * unit}
        yield Hypothesis("learning rate", slots, free=1, constant=("learning rate", rate, u.k["lr"]))
    for width in other_widths(u.k["lr"]):
        slots = descent(u.before, u.g, {**u.k, "lr": width})
        yield Hypothesis("constant in the wrong width", slots, constant=("lr", width, u.k["lr"]))


def momentum(u: Update) -> Iterator[Hypothesis]:
    """Another momentum, solved from the buffer; Nesterov's for the plain one and the other way round; none at all."""
    if BUFFER not in u.before:
        return
    other = {**u.k, "nesterov": float(not u.k["nesterov"])}
    forms = ["in the plain form", "in Nesterov's form"]
    mine, theirs = reversed(forms) if not u.k["nesterov"] else forms
    yield Hypothesis("momentum", descent(u.before, u.g, other), constant=("momentum", mine, theirs))
    fresh = u.reference[BUFFER] - u.k["momentum"] * u.before[BUFFER]
    factor = solve(fresh, u.before[BUFFER], u.after[BUFFER])
    if factor is not None and resolved(u.evidence, factor, u.k["momentum"]):
        slots = descent(u.before, u.g, {**u.k, "momentum": factor})
        yield Hypothesis("momentum", slots, free=1, constant=("momentum", factor, u.k["momentum"]))
    for kept in (u.reference[BUFFER], u.before[BUFFER]):
        yield Hypothesis("momentum", {"parameter": u.x - u.k["lr"] * fresh, BUFFER: kept}, "none: plain descent")


def buffers(u: Update) -> Iterator[Hypothesis]:
    """A buffer that was not stored, or that started at zero again."""
    if BUFFER in u.before:
        yield Hypothesis("moments not kept", u.reference | {BUFFER: u.before[BUFFER]})
        empty = {**u.before, BUFFER: np.zeros_like(u.x)}
        yield Hypothesis("moments reset", descent(empty, u.g, u.k))


def movement(u: Update) -> Iterator[Hypothesis]:
    """No update, the update done twice, or added instead of subtracted."""
    yield Hypothesis("missing update", {**u.before, "parameter": u.x})
    yield Hypothesis("missing update", {**u.reference, "parameter": u.x})
    yield Hypothesis("update applied twice", descent({**u.before, **u.reference}, u.g, u.k))
    yield Hypothesis("sign of the update", u.reference | {"parameter": 2 * u.x - u.reference["parameter"]})


def weight_decay(u: Update) -> Iterator[Hypothesis]:
    """Another decay, in the gradient or taken off beside it; solved."""
    own = u.k.get("weight_decay", 0.0)
    unit = descent(u.before, u.g + u.x, u.k)["parameter"] - u.reference["parameter"]
    more = solve(u.reference["parameter"], unit, u.after["parameter"])
    if more is not None:
        decay = 0.0 if abs(own + more) < 1e-9 * own else own + more
        slots = descent(u.before, u.g, {**u.k, "weight_decay": decay})
        yield Hypothesis("weight decay", slots, free=1, constant=("weight decay", decay, own))
    off = solve(u.reference["parameter"], -u.k["lr"] * u.x, u.after["parameter"])
    if off is not None and off > 0:
        slots = u.reference | {"parameter": u.reference["parameter"] - off * u.k["lr"] * u.x}
        yield Hypothesis("weight decay", slots, f"decoupled, {off:.6g}", 1)


def other_gradient(u: Update) -> Iterator[Hypothesis]:
    """A gradient clamped or scaled before the update; weights clipped after it."""
    entered = u.g + (u.reference["parameter"] - u.after["parameter"]) / (
        u.k["lr"] * (1 + (u.k["momentum"] if u.k["nesterov"] else 0.0))
    )
    limit = float(np.max(np.abs(entered), initial=0.0))
    if np.isfinite(limit) and limit < (1 - 1e-6) * float(np.max(np.abs(u.g), initial=0.0)):
        clipped = descent(u.before, np.clip(u.g, -limit, limit), u.k)
        yield Hypothesis("gradient clipped", clipped, f"to {limit:.6g} and less", 1)
    factor = solve(np.zeros_like(u.g), u.g, entered)
    if BUFFER in u.before and factor is not None and factor > 0:  # without a buffer it is another learning rate
        slots = descent(u.before, factor * u.g, u.k)
        yield Hypothesis("gradient scaled", slots, f"times {factor:.6g} before the momentum", 1)
    most = float(np.max(np.abs(u.after["parameter"]), initial=0.0))
    cut = np.clip(u.reference["parameter"], -most, most)
    if most > 0 and np.count_nonzero(np.abs(cut) == most) > 1:
        yield Hypothesis("weights clipped", u.reference | {"parameter": cut}, f"to {most:.6g} and less", 1)


def other_rule(u: Update) -> Iterator[Hypothesis]:
    """Adam's first update: every element moves by the learning rate against its gradient's sign."""
    rate = solve(u.x, -np.sign(u.g), u.after["parameter"])
    if rate is not None and rate > 0:
        for kept in ({}, {BUFFER: u.before[BUFFER]} if BUFFER in u.before else {}):
            slots = {**u.reference, **kept, "parameter": u.x - rate * np.sign(u.g)}
            yield Hypothesis("other optimiser", slots, f"moves by the gradient's sign, as Adam at first, {rate:.6g}", 1)


RULES = (learning_rate, momentum, buffers, movement, weight_decay, other_gradient, other_rule)
