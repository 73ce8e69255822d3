"""Updates by SGD, plain, with momentum or Nesterov's, and what its usual slips make of the same gradient.

With gradient g, weight decay w, momentum r and the buffer b that it keeps (torch's SGD; Optimisers.jl 0.4 keeps lr b),

    d = g + w x      b <- r b + d      x <- x - lr b,  with Nesterov's momentum  x <- x - lr (d + r b)

An explanation must reproduce the parameter and the buffer, not just the tensor that differed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pygan.parity.causes import update
from pygan.parity.causes.common import Hypothesis, other_widths, resolved, solve
from pygan.parity.causes.update import Numbers, Slots

BUFFER = "momentum_buffer"


def descent(before: Mapping[str, np.ndarray], g: np.ndarray, k: Numbers) -> Slots:
    """Every slot after one update."""
    x = before["parameter"]
    d = g + k.get("weight_decay", 0.0) * x
    if BUFFER not in before:
        return {"parameter": x - k["lr"] * d}
    b = k["momentum"] * before[BUFFER] + d
    return {"parameter": x - k["lr"] * (d + k["momentum"] * b if k["nesterov"] else b), BUFFER: b}


class Update(update.Update):
    """An update by SGD."""

    numbers = frozenset({"lr", "momentum", "nesterov"})
    slots = frozenset({"parameter"})

    def rule(self) -> Slots:
        """Every slot after the update."""
        return descent(self.before, self.g, self.k)


def constant_width(u: Update) -> Iterator[Hypothesis]:
    """The learning rate in the other width."""
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
    """No update, or the update done twice."""
    yield Hypothesis("missing update", {**u.before, "parameter": u.x})
    yield Hypothesis("missing update", {**u.reference, "parameter": u.x})
    yield Hypothesis("update applied twice", descent({**u.before, **u.reference}, u.g, u.k))


def weight_decay(u: Update) -> Iterator[Hypothesis]:
    """Another decay, in the gradient or taken off beside it; solved."""
    own = u.k.get("weight_decay", 0.0)
    unit = descent(u.before, u.g + u.x, u.k)["parameter"] - u.reference["parameter"]
    decay = update.other_decay(own, solve(u.reference["parameter"], unit, u.after["parameter"]))
    if decay is not None:
        slots = descent(u.before, u.g, {**u.k, "weight_decay": decay})
        yield Hypothesis("weight decay", slots, free=1, constant=("weight decay", decay, own))
    off = solve(u.reference["parameter"], -u.k["lr"] * u.x, u.after["parameter"])
    if off is not None and off > 0:
        slots = u.reference | {"parameter": u.reference["parameter"] - off * u.k["lr"] * u.x}
        yield Hypothesis("weight decay", slots, f"decoupled, {off:.6g}", 1)


def other_gradient(u: Update) -> Iterator[Hypothesis]:
    """A gradient clamped or scaled before the update."""
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


def other_rule(u: Update) -> Iterator[Hypothesis]:
    """Adam's first update: every element moves by the learning rate against its gradient's sign."""
    rate = solve(u.x, -np.sign(u.g), u.after["parameter"])
    if rate is not None and rate > 0:
        for kept in ({}, {BUFFER: u.before[BUFFER]} if BUFFER in u.before else {}):
            slots = {**u.reference, **kept, "parameter": u.x - rate * np.sign(u.g)}
            yield Hypothesis("other optimiser", slots, f"moves by the gradient's sign, as Adam at first, {rate:.6g}", 1)


RULES = (
    update.learning_rate,
    constant_width,
    momentum,
    buffers,
    movement,
    update.sign,
    weight_decay,
    update.clipped_weights,
    other_gradient,
    other_rule,
)
