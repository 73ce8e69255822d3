"""Level 2: do a stack's own random numbers follow the published laws?

For runs with ``randomness = native``: initial weights, dropout and noise come from the framework's own generator, so
there is nothing to compare them with but their laws. A recipe's config states these as plain data
(``initial_laws()``, ``step_laws()``); here they are tested, by Kolmogorov and Smirnov's test of the whole
distribution, and by the first two moments, which see a slightly wrong scale much sooner. Constants are held exactly.

All tests of one call share one false-alarm probability, :data:`FALSE_ALARM`, divided equally (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod, sqrt
from typing import Any, Protocol

import numpy as np
from scipy import stats

from pygan.errors import ConfigError
from pygan.parity.structure import layer_order
from pygan.records import StepRecord
from pygan.state import SLOTS

FALSE_ALARM = 1e-6
"""Probability that a stack with the right laws is blamed by any of the tests of one call."""

MOMENTS_FROM = 30
"""Elements from which the mean and the standard deviation are tested."""

Laws = Mapping[str, Sequence[Any]]
"""A recipe's laws: ``(name, *numbers)`` by path."""


class Law(Protocol):
    """A distribution of independent numbers."""

    def kolmogorov_smirnov(self, values: np.ndarray) -> float:
        """p-value of the flat Float64 ``values``."""

    def moments(self, values: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
        """``(deviation, p-value)`` of the mean and of the standard deviation; deviations in standard errors."""


@dataclass(frozen=True)
class Normal:
    """N(mean, std^2)."""

    mean: float
    std: float

    def kolmogorov_smirnov(self, values: np.ndarray) -> float:
        """As in :class:`Law`."""
        return float(stats.kstest(values, "norm", (self.mean, self.std)).pvalue)

    def moments(self, values: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
        """As in :class:`Law`; exact for every number of values (the variance is chi-squared)."""
        count = len(values)
        mean = (float(values.mean()) - self.mean) / (self.std / sqrt(count))
        ratio = float(values.var(ddof=1)) / self.std**2
        scaled = ratio * (count - 1)
        p = 2 * min(stats.chi2.cdf(scaled, count - 1), stats.chi2.sf(scaled, count - 1))
        return (mean, _two_sided(mean)), ((sqrt(ratio) - 1) * sqrt(2 * count), float(min(p, 1.0)))

    def __str__(self) -> str:
        return f"N({self.mean:g}, {self.std:g}^2)"


@dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high]; a value outside has probability 0."""

    low: float
    high: float

    def kolmogorov_smirnov(self, values: np.ndarray) -> float:
        """As in :class:`Law`."""
        slack = 1e-6 * (self.high - self.low)  # the bound itself is rounded to Float32
        if len(values) and (values.min() < self.low - slack or values.max() > self.high + slack):
            return 0.0
        return float(stats.kstest(values, "uniform", (self.low, self.high - self.low)).pvalue)

    def moments(self, values: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
        """As in :class:`Law`. Mean and mean square are normal by the central limit theorem: kurtosis 9/5."""
        middle, width = (self.low + self.high) / 2, self.high - self.low
        unit = (values - middle) / (width / sqrt(12))
        mean = float(unit.mean()) * sqrt(len(values))
        spread = (float((unit**2).mean()) - 1) / sqrt(0.8 / len(values))
        return (mean, _two_sided(mean)), (spread, _two_sided(spread))

    def __str__(self) -> str:
        return f"U({self.low:.5g}, {self.high:.5g})"


@dataclass(frozen=True)
class Constant:
    """Every element is ``value`` exactly."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g} everywhere"


@dataclass(frozen=True)
class LawCheck:
    """One test of one tensor (or of one layer's draws).

    ``p`` is the probability of a deviation as large where the law holds; it must not be below ``limit``. Checks
    without probability have ``p`` 1 where they pass and 0 where they fail.
    """

    key: str
    what: str
    law: str
    detail: str
    p: float
    limit: float

    @property
    def ok(self) -> bool:
        """Is the deviation one that chance makes?"""
        return self.p >= self.limit

    def __str__(self) -> str:
        chance = f", p = {self.p:.2g} where {self.limit:.1g} is the limit" if 0 < self.limit < 1 else ""
        return f"{self.key}: {self.what} of {self.law}: {self.detail}{chance}"


def law_of(stated: Sequence[Any], shape: tuple[int, ...] = ()) -> Normal | Uniform | Constant:
    """The law that a recipe ``stated``; ``shape`` is the parameter's in PyTorch's layout.

    ``glorot_uniform`` is U(-b, b) with b = sqrt(6 / (fan_in + fan_out)), the fans counted over the kernel's places.
    Raises ``ConfigError`` for a law that is not known.
    """
    match stated:
        case ("normal", mean, std):
            return Normal(mean, std)
        case ("uniform", low, high):
            return Uniform(low, high)
        case ("constant", value):
            return Constant(value)
        case ("glorot_uniform",) if len(shape) >= 2:
            bound = sqrt(6 / (prod(shape[2:]) * (shape[0] + shape[1])))
            return Uniform(-bound, bound)
    raise ConfigError(f"no law {tuple(stated)!r} for a tensor of shape {shape}; known: normal mean std, "
                      "uniform low high, constant value, glorot_uniform of a weight")  # fmt: skip


# --- initial states ------------------------------------------------------------------------------------------------


def check_initial(states: Sequence[Mapping[str, np.ndarray]], laws: Laws) -> list[LawCheck]:
    """Parameters and buffers of one or more native initial states (of different seeds, pooled) against their ``laws``.

    Moments of the optimisers must be 0. A tensor without a law, or a law without its tensor, is a failed check.
    """
    drawn: dict[str, tuple[Normal | Uniform, np.ndarray]] = {}
    checks, seen = [], set()
    for key in sorted({key for state in states for key in state}):
        group, _, path = key.partition("/")
        if group not in ("parameter", "buffer", *SLOTS):
            continue
        seen.add(path)
        if path not in laws and group in ("parameter", "buffer"):
            checks.append(LawCheck(key, "law", "nothing", "the recipe states none for it", 0.0, 1.0))
            continue
        parts = [state[key] for state in states if key in state]
        law = law_of(laws[path], parts[0].shape) if group in ("parameter", "buffer") else Constant(0.0)
        values = np.concatenate([part.reshape(-1) for part in parts]).astype(np.float64)
        if isinstance(law, Constant):
            checks.append(_constant(key, law, values))
        else:
            drawn[key] = (law, values)
    missing = sorted(set(laws) - seen)
    checks += [LawCheck(path, "law", str(tuple(laws[path])), "no such tensor", 0.0, 1.0) for path in missing]
    return checks + check_samples(drawn)


def check_samples(samples: Mapping[str, tuple[Normal | Uniform, np.ndarray]]) -> list[LawCheck]:
    """The Kolmogorov-Smirnov test and both moments of each sample, all held to one :data:`FALSE_ALARM`."""
    tests = sum(3 if values.size >= MOMENTS_FROM else 1 for _, values in samples.values())
    limit = FALSE_ALARM / max(tests, 1)
    checks = []
    for key, (law, values) in samples.items():
        flat = np.asarray(values, np.float64).reshape(-1)
        if not np.isfinite(flat).all():
            checks.append(LawCheck(key, "finite values", str(law), "NaN or infinity among them", 0.0, limit))
            continue
        p = law.kolmogorov_smirnov(flat)
        checks.append(LawCheck(key, "Kolmogorov-Smirnov", str(law), f"{flat.size} values", p, limit))
        if flat.size >= MOMENTS_FROM:
            for what, (deviation, p) in zip(("mean", "std"), law.moments(flat), strict=True):
                checks.append(LawCheck(key, what, str(law), f"{deviation:+.2f} standard errors", p, limit))
    return checks


def check_seeds(
    state: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], laws: Laws
) -> list[LawCheck]:
    """``again`` (same seed) must equal ``state`` bit for bit, ``other`` (another seed) differ in whatever is drawn."""
    checks = []
    for key, value in state.items():
        group, _, path = key.partition("/")
        if group in ("parameter", "buffer"):
            same = np.array_equal(value, again[key])
            checks.append(_exact(key, "the same seed", "equal values", same, "they are equal", "they are not"))
            if path in laws and laws[path][0] != "constant":
                equal = int((value == other[key]).sum())
                told = f"{equal} of {value.size} elements equal"
                checks.append(_exact(key, "another seed", "other values", 2 * equal < value.size, told, told))
    return checks


# --- steps ---------------------------------------------------------------------------------------------------------


def check_steps(records: Iterable[StepRecord], laws: Laws) -> list[LawCheck]:
    """What native steps drew against ``laws``: dropout by layer, and inputs by tap. Needs ``layers`` in the records.

    Dropout: the share of units kept, among those that were not 0 before, over all records and calls (binomial); the
    scale of kept units within 4 ulp; nothing dropped in eval mode; another pattern at every call. A law whose layer
    or input no record holds is a failed check.
    """
    dropped: dict[str, list[_Dropped]] = {}
    inputs: dict[str, list[np.ndarray]] = {}
    for record in records:
        for path, stated in laws.items():
            if stated[0] == "dropout":
                dropped.setdefault(path, []).extend(_dropout_calls(record, path))
            elif path in record.activation:
                inputs.setdefault(path, []).append(record.activation[path].reshape(-1))
    checks = []
    drawn: dict[str, tuple[Normal | Uniform, np.ndarray]] = {}
    for path, stated in laws.items():
        if stated[0] == "dropout" and dropped.get(path):
            checks += _check_dropout(path, float(stated[1]), dropped[path], len(laws))
        elif path in inputs and not isinstance(law := law_of(stated), Constant):
            drawn[path] = (law, np.concatenate(inputs[path]))
        else:
            checks.append(LawCheck(path, "law", str(tuple(stated)), "no record holds it", 0.0, 1.0))
    return checks + check_samples(drawn)


@dataclass(frozen=True)
class _Dropped:
    """What one call of a dropout layer did: input, output, train mode."""

    x: np.ndarray
    y: np.ndarray
    train: bool


def _dropout_calls(record: StepRecord, path: str) -> list[_Dropped]:
    """The calls of the layer ``path`` in one record; its input is the tap before it."""
    network, _, layer = path.partition(".")
    found = []
    for call, layers in layer_order(record).items():
        if call.partition("/")[2] == network and layer in layers[1:]:
            before = layers[layers.index(layer) - 1]
            key = f"{call}.{layer}"
            if {key, f"{call}.{before}"} <= record.activation.keys():
                train = bool(record.mode[key])
                found.append(_Dropped(record.activation[f"{call}.{before}"], record.activation[key], train))
    return found


def _check_dropout(path: str, rate: float, calls: list[_Dropped], layers: int) -> list[LawCheck]:
    law, limit = f"dropout at rate {rate:g}", FALSE_ALARM / (2 * layers)
    checks = []
    training = [call for call in calls if call.train]
    for call in calls:
        if not call.train:
            same = np.array_equal(call.x, call.y)
            checks.append(_exact(path, "eval mode", law, same, "nothing dropped", "it changes values in eval mode"))
    if not training:
        return [*checks, LawCheck(path, "train mode", law, "no call in train mode", 0.0, 1.0)]
    alive = [call.x != 0 for call in training]
    kept = [call.y[there] != 0 for call, there in zip(training, alive, strict=True)]
    count, stayed = sum(one.size for one in kept), sum(int(one.sum()) for one in kept)
    p = float(stats.binomtest(stayed, count, 1 - rate).pvalue) if count else 0.0
    told = f"{stayed} of {count} units kept" + (f", {stayed / count:.4f}" if count else "")
    checks.append(LawCheck(path, "share", law, told, p, limit))
    worst = 0.0
    for call, there, stays in zip(training, alive, kept, strict=True):
        x, y = call.x[there][stays].astype(np.float64), call.y[there][stays].astype(np.float64)
        worst = max(worst, float(np.max(np.abs(y / x * (1 - rate) - 1), initial=0.0)))
    ulps = worst / float(np.finfo(training[0].y.dtype).eps)
    told = f"within {ulps:.1f} ulp of 1 / (1 - {rate:g})"
    checks.append(_exact(path, "scale", law, ulps <= 4, told, told))
    repeated, chance = 0, 0.0  # equal patterns, and how many of independent ones would be equal
    for one, two in combinations(training, 2):
        if one.x.shape == two.x.shape:
            both = (one.x != 0) & (two.x != 0)
            repeated += np.array_equal(one.y[both] != 0, two.y[both] != 0)
            chance += float((rate**2 + (1 - rate) ** 2) ** int(both.sum()))
    told = f"{repeated} of {len(training)} patterns repeated"
    checks.append(LawCheck(path, "independence", law, told, min(1.0, chance) if repeated else 1.0, limit))
    return checks


# --- small parts ---------------------------------------------------------------------------------------------------


def _two_sided(deviation: float) -> float:
    return float(2 * stats.norm.sf(abs(deviation)))


def _exact(key: str, what: str, law: str, good: bool, yes: str, no: str) -> LawCheck:
    return LawCheck(key, what, law, yes if good else no, float(good), 1.0)


def _constant(key: str, law: Constant, values: np.ndarray) -> LawCheck:
    wrong = int((values != law.value).sum())
    told = f"{wrong} of {values.size} elements are not"
    return _exact(key, "constant", str(law), wrong == 0, f"all {values.size} elements", told)
