"""Updates: Adam as Optimisers.jl writes it, and what its usual slips make of the same gradient.

With gradient g, moments m and v, and the running products p of the betas,

    m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2      x <- x - lr m / (1 - p1) / (sqrt(v / (1 - p2)) + eps)

An explanation must reproduce the parameter and its whole optimiser state, not just the tensor that differed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from pygan.parity.causes import update
from pygan.parity.causes.common import NARROW, Hypothesis, other_widths, resolved, solve
from pygan.parity.causes.update import Numbers, Slots

MOMENTS = ("exp_avg", "exp_avg_sq")


def moments(before: Mapping[str, np.ndarray], g: np.ndarray, k: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """The two moments after the update."""
    m = k["beta1"] * before["exp_avg"] + (1 - k["beta1"]) * g
    v = k["beta2"] * before["exp_avg_sq"] + (1 - k["beta2"]) * g * g
    return m, v


def movement(m: np.ndarray, v: np.ndarray, p: np.ndarray, k: Numbers) -> np.ndarray:
    """What is subtracted from the parameter."""
    return np.asarray(k["lr"] * (m / (1 - p[0])) / (np.sqrt(v / (1 - p[1])) + k["eps"]))


def adam(before: Mapping[str, np.ndarray], g: np.ndarray, k: Numbers, powers: np.ndarray | None = None) -> Slots:
    """Every slot after one update; ``powers`` in place of those of the state correct the bias."""
    x, decay = before["parameter"], k.get("weight_decay", 0.0)
    if not k.get("decoupled", 0.0):
        g = g + decay * x
    m, v = moments(before, g, k)
    p = before["beta_power"] if powers is None else powers
    return {
        "parameter": x - movement(m, v, p, k) - (k["lr"] * decay * x if k.get("decoupled", 0.0) else 0.0),
        "exp_avg": m,
        "exp_avg_sq": v,
        "beta_power": before["beta_power"] * [k["beta1"], k["beta2"]],
    }


class Update(update.Update):
    """An update by Adam."""

    numbers = frozenset({"lr", "beta1", "beta2", "eps"})
    slots = frozenset({"parameter", *MOMENTS, "beta_power"})

    def rule(self) -> Slots:
        """Every slot after the update."""
        self.powers = self.before["beta_power"]
        return adam(self.before, self.g, self.k)

    @property
    def count(self) -> int:
        """Number of this update, from 1."""
        for power, beta in zip(self.powers, (self.k["beta1"], self.k["beta2"]), strict=True):
            if 0 < beta < 1 and 0 < power < 1:
                return max(1, round(float(np.log(power) / np.log(beta))))
        return self.evidence.step + 1

    def power(self, k: Numbers, count: int) -> np.ndarray:
        """Products of the betas over ``count`` updates."""
        return np.array([k["beta1"], k["beta2"]]) ** count

    def with_powers(self, name: str, slots: Slots, detail: str = "", free: int = 0) -> Iterator[Hypothesis]:
        """The hypothesis, with the stored powers as the slots say, as the reference's, or not advanced."""
        for powers in (slots["beta_power"], self.reference["beta_power"], self.powers):
            yield Hypothesis(name, {**slots, "beta_power": powers}, detail, free)


# --- constants ---------------------------------------------------------------------------------------------------


def betas(u: Update) -> Iterator[Hypothesis]:
    """Another beta1 or beta2, solved from its moment; the bias corrected by the given powers or by its own."""
    g = u.g
    solved = {
        "beta1": solve(g, u.before["exp_avg"] - g, u.after["exp_avg"]),
        "beta2": solve(g * g, u.before["exp_avg_sq"] - g * g, u.after["exp_avg_sq"]),
    }
    for name, beta in solved.items():
        # 1 - beta is what the moment sees: a Float32 run that rounds it otherwise has the same beta
        if beta is None or not 0 <= beta < 1 or not resolved(u.evidence, 1 - beta, 1 - u.k[name]):
            continue
        if u.evidence.tolerance > NARROW and abs(beta - u.k[name]) < 1e-6:
            continue
        k = {**u.k, name: beta}
        other = {"beta1": "beta2", "beta2": "beta1"}[name]
        near = solved[other]
        if near is not None and near != u.k[other] and abs(near - u.k[other]) < 1e-6 * u.k[other]:
            k[other] = next((width for width in other_widths(u.k[other]) if abs(width - near) < 1e-9), u.k[other])
        for powers in (u.powers, u.power(k, u.count)):
            slots = adam(u.before, g, k, powers)
            for stored in (u.powers, u.power(k, u.count)):
                after = stored * [k["beta1"], k["beta2"]]
                constant = (name, beta, u.k[name])
                yield Hypothesis(name, {**slots, "beta_power": after}, free=1, constant=constant)
            yield Hypothesis(
                name, {**slots, "beta_power": u.reference["beta_power"]}, free=1, constant=(name, beta, u.k[name])
            )


def betas_swapped(u: Update) -> Iterator[Hypothesis]:
    """Each beta where the other belongs."""
    k = {**u.k, "beta1": u.k["beta2"], "beta2": u.k["beta1"]}
    for powers in (u.powers, u.power(k, u.count)):
        yield from u.with_powers("betas swapped", adam(u.before, u.g, k, powers))
        yield Hypothesis("betas swapped", adam(u.before, u.g, k, powers) | {"beta_power": u.power(k, u.count + 1)})


def adam_eps(u: Update) -> Iterator[Hypothesis]:
    """Another eps beside the root, solved; and the given one inside it."""
    start = u.x * (1 - u.k["lr"] * u.k.get("weight_decay", 0.0)) if u.k.get("decoupled", 0.0) else u.x
    m, v = u.reference["exp_avg"], u.reference["exp_avg_sq"]
    top, root = u.k["lr"] * m / (1 - u.powers[0]), np.sqrt(v / (1 - u.powers[1]))
    eps = _eps_of(start - u.after["parameter"], top, root, u.k["eps"])
    if eps is not None and resolved(u.evidence, eps, u.k["eps"]):
        slots = u.reference | {"parameter": start - top / (root + eps)}
        yield Hypothesis("Adam eps", slots, free=1, constant=("eps", eps, u.k["eps"]))
    inside = start - top / np.sqrt(v / (1 - u.powers[1]) + u.k["eps"])
    yield Hypothesis("Adam eps inside the root", u.reference | {"parameter": inside})


def _eps_of(moved: np.ndarray, top: np.ndarray, root: np.ndarray, start: float) -> float | None:
    """The eps of ``moved = top / (root + eps)``: least squares on ``moved (root + eps) = top``, each element weighted
    by how far its movement depends on eps."""
    eps = start
    if moved.shape != top.shape or not np.isfinite(moved).all() or np.count_nonzero(moved) < 2:
        return None
    for _ in range(12):
        sizes = np.where(root + max(eps, 0.0) > 0, root + max(eps, 0.0), np.inf)
        weight = moved / sizes**2
        new, share = float(np.sum(weight * (top - moved * root))), float(np.sum(weight * moved))
        if share == 0 or not np.isfinite(new / share):
            return None
        last, eps = eps, new / share
        if abs(eps - last) <= 1e-13 * abs(eps):
            break
    return max(eps, 0.0)


def constant_width(u: Update) -> Iterator[Hypothesis]:
    """One or several of the constants in the other width."""
    if u.evidence.tolerance > NARROW:
        return
    others = {name: next(other_widths(u.k[name]), None) for name in ("lr", "beta1", "beta2", "eps")}
    known = {name: other for name, other in others.items() if other is not None}
    for count in range(1, len(known) + 1):
        for names in combinations(known, count):
            k = {**u.k, **{name: known[name] for name in names}}
            mine, theirs = (", ".join(f"{numbers[name]:.10g}" for name in names) for numbers in (k, u.k))
            constant = (", ".join(names), mine, theirs)
            for slots in (adam(u.before, u.g, k), adam(u.before, u.g, k, u.power(k, u.count))):
                yield Hypothesis("constant in the wrong width", slots, constant=constant)
                own = u.power(k, u.count + 1)
                yield Hypothesis("constant in the wrong width", {**slots, "beta_power": own}, constant=constant)


# --- steps left out, done twice, done otherwise -------------------------------------------------------------------


def missing_update(u: Update) -> Iterator[Hypothesis]:
    """The parameter left as it was, with or without its optimiser state."""
    for kept in (u.reference, u.before):
        for powers in (u.reference["beta_power"], u.powers):
            yield Hypothesis("missing update", {**kept, "parameter": u.x, "beta_power": powers})


def applied_twice(u: Update) -> Iterator[Hypothesis]:
    """The whole update done again with the same gradient."""
    for powers in (u.reference["beta_power"], u.powers):
        again = adam({**u.reference, "beta_power": powers}, u.g, u.k)
        yield from u.with_powers("update applied twice", again)


def bias_correction(u: Update) -> Iterator[Hypothesis]:
    """No correction of the first moments' start at zero, or that of another step."""
    first, second = u.powers
    for powers, detail in (((0, 0), ""), ((0, second), "first moment"), ((first, 0), "second moment")):
        slots = adam(u.before, u.g, u.k, np.array(powers, float))
        yield from u.with_powers("no bias correction", slots, detail)
    count = u.count
    for other in sorted({1, *range(max(1, count - 3), count + 4)} - {count}):
        slots = adam(u.before, u.g, u.k, u.power(u.k, other))
        detail = f"those of update {other} in update {count}"
        yield from u.with_powers("stale beta powers", slots, detail)
        yield Hypothesis("stale beta powers", {**slots, "beta_power": u.power(u.k, other + 1)}, detail)
    for stored, detail in (
        (u.powers, "not advanced"),
        (u.power(u.k, 1), "reset"),
        (u.power(u.k, count + 2), "advanced twice"),
    ):
        yield Hypothesis("stale beta powers", u.reference | {"beta_power": stored}, detail)


def weight_decay(u: Update) -> Iterator[Hypothesis]:
    """``lr decay x`` taken off beside the movement, or ``decay x`` added to the gradient; the decay solved."""
    own, apart = u.k.get("weight_decay", 0.0), bool(u.k.get("decoupled", 0.0))
    off = solve(u.reference["parameter"], -u.k["lr"] * u.x, u.after["parameter"])
    within = solve(u.reference["exp_avg"], (1 - u.k["beta1"]) * u.x, u.after["exp_avg"])
    for more, decoupled in ((off, True), (within, False)):
        decay = update.other_decay(own, more)
        if decay is not None and (own == 0 or apart == decoupled):
            k = {**u.k, "weight_decay": decay, "decoupled": float(decoupled)}
            what = "weight decay (decoupled)" if decoupled else "weight decay (in the gradient)"
            yield Hypothesis("weight decay", adam(u.before, u.g, k), free=1, constant=(what, decay, own))


def other_gradient(u: Update) -> Iterator[Hypothesis]:
    """A gradient clamped or scaled between the backward pass and the moments; how, is read from the first moment."""
    b1 = u.k["beta1"]
    if b1 >= 1:
        return
    entered = (u.after["exp_avg"] - b1 * u.before["exp_avg"]) / (1 - b1)
    limit = float(np.max(np.abs(entered), initial=0.0))
    if np.isfinite(limit) and limit < (1 - 1e-6) * float(np.max(np.abs(u.g), initial=0.0)):
        clipped = np.clip(u.g, -limit, limit)
        yield from u.with_powers("gradient clipped", adam(u.before, clipped, u.k), f"to {limit:.6g} and less", 1)
    factor = solve(np.zeros_like(u.g), u.g, entered)
    if factor is not None and factor > 0:
        slots = adam(u.before, factor * u.g, u.k)
        yield from u.with_powers("gradient scaled", slots, f"times {factor:.6g} before the moments", 1)


def moments_not_kept(u: Update) -> Iterator[Hypothesis]:
    """The parameter moved by moments that were not stored."""
    for slots in (MOMENTS, *((one,) for one in MOMENTS)):
        yield Hypothesis("moments not kept", u.reference | {slot: u.before[slot] for slot in slots})


def moments_reset(u: Update) -> Iterator[Hypothesis]:
    """The moments taken as zero before the update."""
    empty = {**u.before, **{slot: np.zeros_like(u.before[slot]) for slot in MOMENTS}}
    for powers in (u.powers, u.power(u.k, 1)):
        yield from u.with_powers("moments reset", adam({**empty, "beta_power": powers}, u.g, u.k))
    for slot in MOMENTS:
        only = {**u.before, slot: np.zeros_like(u.before[slot])}
        detail = f"only the {'first' if slot == 'exp_avg' else 'second'}"
        yield from u.with_powers("moments reset", adam(only, u.g, u.k), detail)


def square_missing(u: Update) -> Iterator[Hypothesis]:
    """The second moment fed with g, or its size, instead of g squared."""
    m, _ = moments(u.before, u.g, u.k)
    for fed in (u.g, np.abs(u.g)):
        v = u.k["beta2"] * u.before["exp_avg_sq"] + (1 - u.k["beta2"]) * fed
        with np.errstate(invalid="ignore"):
            x = u.x - movement(m, v, u.powers, u.k)
        yield Hypothesis("gradient squared missing", u.reference | {"exp_avg_sq": v, "parameter": x})


def other_optimiser(u: Update) -> Iterator[Hypothesis]:
    """Gradient descent, plain, with momentum, or scaled by the second moment alone; the rate solved."""
    v = u.reference["exp_avg_sq"]
    directions = {
        "plain gradient descent": u.g,
        "gradient descent with momentum": u.reference["exp_avg"],
        "no first moment": u.g / (np.sqrt(v / (1 - u.powers[1])) + u.k["eps"]),
        "no second moment's root": u.reference["exp_avg"] / (v / (1 - u.powers[1]) + u.k["eps"]),
    }
    own = u.x - u.reference["parameter"]
    for what, direction in directions.items():
        if _parallel(direction, own):  # as in the first update: then it is a learning rate
            continue
        rate = solve(u.x, -direction, u.after["parameter"])
        if rate is None or rate <= 0:
            continue
        moved = {"parameter": u.x - rate * direction}
        for kept in (u.reference, u.before):
            for powers in (u.reference["beta_power"], u.powers):
                slots = {**kept, **moved, "beta_power": powers}
                yield Hypothesis("other optimiser", slots, f"{what}, rate {rate:.6g}", 1)


def known_rules(u: Update) -> Iterator[Hypothesis]:
    """NAdam and RMSprop with the state's own numbers; what they do not use may stay as it was."""
    (p, q), b1 = u.powers, u.k["beta1"]
    m, v = u.reference["exp_avg"], u.reference["exp_avg_sq"]
    root = np.sqrt(v / (1 - q)) + u.k["eps"]
    nadam = u.x - u.k["lr"] * (b1 * m / (1 - p * b1) + (1 - b1) * u.g / (1 - p)) / root
    yield from u.with_powers("other optimiser", {**u.reference, "parameter": nadam}, "NAdam")
    plain = np.sqrt(v) + u.k["eps"]
    for moment in (u.before["exp_avg"], m):
        slots = {**u.reference, "exp_avg": moment, "parameter": u.x - u.k["lr"] * u.g / plain}
        yield from u.with_powers("other optimiser", slots, "RMSprop")


def _parallel(a: np.ndarray, b: np.ndarray) -> bool:
    sizes = float(np.sum(a * a)) * float(np.sum(b * b))
    return bool(sizes > 0 and float(np.sum(a * b)) ** 2 > (1 - 1e-6) * sizes)


RULES = (
    betas,
    betas_swapped,
    update.learning_rate,
    adam_eps,
    constant_width,
    missing_update,
    applied_twice,
    update.sign,
    bias_correction,
    weight_decay,
    update.clipped_weights,
    other_gradient,
    moments_not_kept,
    moments_reset,
    square_missing,
    other_optimiser,
    known_rules,
)
