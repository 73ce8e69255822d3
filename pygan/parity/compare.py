"""How two tensors, and two records, differ: in full elements, never by means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pygan.layouts import rule
from pygan.records import StepRecord


@dataclass(frozen=True)
class Difference:
    """How ``candidate`` differs from ``reference`` in one tensor.

    ``relative`` is the 2-norm of the difference over that of the reference, ``absolute`` the norm of the difference,
    ``max_abs`` and ``max_ulp`` the worst element's. ``worst`` is its index in PyTorch's layout, ``worst_flux`` in
    Julia's (1-based; empty where no layout rule is known). ``fault`` names a hard failure (missing, extra, shape,
    dtype, non-finite on one side) for which no number is given.
    """

    key: str
    shape: tuple[int, ...] = ()
    relative: float = 0.0
    absolute: float = 0.0
    max_abs: float = 0.0
    max_ulp: float = 0.0
    worst: tuple[int, ...] = ()
    worst_flux: tuple[int, ...] = ()
    values: tuple[float, float] = (0.0, 0.0)
    fault: str = ""

    def __str__(self) -> str:
        if self.fault:
            return f"{self.key}: {self.fault}"
        place = f"[{', '.join(map(str, self.worst))}]" + (
            f" = Julia {list(self.worst_flux)}" if self.worst_flux else ""
        )
        ulps = f"{self.max_ulp:.0f}" if self.max_ulp < 1e6 else f"{self.max_ulp:.1e}"
        return (
            f"{self.key} {self.shape}: relative difference {self.relative:.2e}, largest {self.max_abs:.2e} "
            f"({ulps} ulp) at {place}: {self.values[0]:.9g} against {self.values[1]:.9g}"
        )


def norm(array: np.ndarray) -> float:
    """2-norm over all elements, accumulated in Float64 without overflow."""
    flat = array.reshape(-1).astype(np.float64)
    top = float(np.max(np.abs(flat), initial=0.0))
    if not np.isfinite(top):
        return top
    return top * float(np.sqrt(np.sum((flat / top) ** 2))) if top > 0 else 0.0


def compare_tensors(key: str, candidate: np.ndarray, reference: np.ndarray, layout: str = "") -> Difference:
    """The :class:`Difference` of two tensors in PyTorch's layout; ``layout`` names the rule for Julia's indices."""
    if candidate.shape != reference.shape:
        return Difference(key, fault=f"shape {candidate.shape} against {reference.shape}")
    if candidate.dtype != reference.dtype:
        return Difference(key, fault=f"dtype {candidate.dtype} against {reference.dtype}")
    a, b = candidate.astype(np.float64), reference.astype(np.float64)
    finite_a, finite_b = np.isfinite(a), np.isfinite(b)
    if not (finite_a.all() and finite_b.all()):
        place = tuple(int(i) for i in np.argwhere(~(finite_a & finite_b))[0])
        return Difference(key, fault=f"not finite at {list(place)}: {a[place]} against {b[place]}")
    if a.size == 0:
        return Difference(key, candidate.shape)
    delta = np.abs(a - b)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(delta)), delta.shape))
    absolute, size = norm(delta), norm(b)
    ulp = delta
    if reference.dtype.kind == "f":
        size_of_ulp = np.spacing(np.maximum(np.abs(reference), np.finfo(reference.dtype).tiny)).astype(np.float64)
        with np.errstate(over="ignore"):  # a large difference from zero is more ulps than a Float64 can count
            ulp = delta / size_of_ulp
    return Difference(
        key,
        candidate.shape,
        relative=absolute / size if size > 0 else (0.0 if absolute == 0 else float("inf")),
        absolute=absolute,
        max_abs=float(delta[worst]),
        max_ulp=float(ulp.max()),
        worst=worst,
        worst_flux=rule(layout).flux_index(worst, candidate.shape) if layout else (),
        values=(float(a[worst]), float(b[worst])),
    )


def compare_arrays(
    candidate: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], rules: Mapping[str, str] | None = None
) -> list[Difference]:
    """Differences of every tensor of two flat records; a key on one side only is a fault.

    ``rules`` gives the layout rule by parameter path (``network.layer.tensor``), the end of a key.
    """
    found = []
    for key in sorted(candidate.keys() | reference.keys()):
        if key not in candidate:
            found.append(Difference(key, fault="missing in the candidate"))
        elif key not in reference:
            found.append(Difference(key, fault="missing in the reference"))
        else:
            layout = "" if key.startswith("sketch/") else (rules or {}).get(key.rpartition("/")[2], "")
            found.append(compare_tensors(key, candidate[key], reference[key], layout))
    return found


def compare_records(
    candidate: StepRecord, reference: StepRecord, rules: Mapping[str, str] | None = None, kinds: tuple[str, ...] = ()
) -> list[Difference]:
    """Differences of the parts that both records carry (or of just ``kinds``), batch contents first."""
    found = []
    if candidate.batch_sha256 and reference.batch_sha256 and candidate.batch_sha256 != reference.batch_sha256:
        found.append(Difference("batch", fault="the two runs saw different batches (SHA-256 of the scaled pixels)"))
    for kind in kinds or ("logits", "loss", "gradient", "state", "sketch"):
        mine, theirs = getattr(candidate, kind), getattr(reference, kind)
        if mine and theirs:
            label = {f"{kind}/{key}": value for key, value in mine.items()}
            found += compare_arrays(label, {f"{kind}/{key}": value for key, value in theirs.items()}, rules)
    return found


def flips(candidate: StepRecord, reference: StepRecord) -> dict[str, np.ndarray]:
    """Units whose on/off pattern differs: ``(count, rank)`` indices by ``call/network.layer``, only where any.

    Patterns of unlike shape are left out: their layers' outputs differ in shape, and that is the fault to report.
    """
    found = {}
    for key in sorted(candidate.pattern.keys() & reference.pattern.keys()):
        mine, theirs = candidate.pattern[key], reference.pattern[key]
        places = np.argwhere(mine != theirs) if mine.shape == theirs.shape else np.empty((0, mine.ndim))
        if len(places):
            found[key] = places
    return found
