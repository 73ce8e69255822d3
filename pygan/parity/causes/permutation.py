"""Slices of the reference in another order, along one axis, and as a last resort any order of single elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygan.parity.causes.common import Hypothesis
from pygan.parity.compare import norm
from pygan.parity.evidence import Evidence, InputEvidence

SAMPLE_KINDS = ("activation", "activation_gradient", "logits")
FREE = 2
"""An order has more freedom than a formula: whatever else explains the data as well goes first."""


def permutations(evidence: Evidence) -> Iterator[Hypothesis]:
    """Every axis of the tensor, then pixels jointly, then single elements."""
    mine, theirs = evidence.candidate, evidence.reference
    if mine.shape != theirs.shape or mine.ndim == 0 or not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return
    by_sample = evidence.key.partition("/")[0] in SAMPLE_KINDS or isinstance(evidence, InputEvidence)
    if mine.ndim > 1 and by_sample:
        yield from along(evidence, 0, "samples permuted")
    if mine.ndim == 4 and by_sample:
        yield from along(evidence, 1, "channels permuted")
        yield from _pixels(evidence)
        yield from _features(evidence)
    elif mine.ndim == 2 and by_sample:
        yield from along(evidence, 1, "channels permuted")
    elif not by_sample:
        for axis in range(min(mine.ndim, 2)):
            yield from along(evidence, axis, "channels permuted", f"axis {axis}" if mine.ndim > 1 else "")
    if mine.ndim != 1 or by_sample:
        yield from elements(evidence)


def along(evidence: Evidence, axis: int, name: str, detail: str = "") -> Iterator[Hypothesis]:
    """The reference's slices along ``axis`` in the order that the candidate shows."""
    rows = [np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1) for one in (evidence.candidate, evidence.reference)]
    if rows[0].shape[1] == 1 and not _countable(evidence):
        return
    order = match_rows(*rows)
    if order is not None:
        yield Hypothesis(name, np.take(evidence.reference, order, axis), detail or _order(order), FREE)


def _order(order: np.ndarray) -> str:
    if len(order) > 1 and np.array_equal(order, np.arange(len(order))[::-1]):
        return "in reverse order"
    return ""


def _pixels(evidence: Evidence) -> Iterator[Hypothesis]:
    """Pixels in one other order in all samples and channels; named where it is a turn or a mirror."""
    mine, theirs = evidence.candidate, evidence.reference
    turns = {
        "mirrored in x": theirs[..., ::-1],
        "mirrored in y": theirs[..., ::-1, :],
        "turned by 180 degrees": theirs[..., ::-1, ::-1],
        "x and y swapped": theirs.swapaxes(2, 3),
        "turned by 90 degrees": np.rot90(theirs, 1, (2, 3)),
        "turned by 270 degrees": np.rot90(theirs, 3, (2, 3)),
        "x and y swapped and turned by 180 degrees": theirs[..., ::-1, ::-1].swapaxes(2, 3),
    }
    for detail, value in turns.items():
        if value.shape == mine.shape:
            yield Hypothesis("pixels permuted", value, detail, FREE - 1)
    if np.prod(mine.shape[:2]) > 1:
        order = match_rows(*(one.reshape(-1, one.shape[2] * one.shape[3]).T for one in (mine, theirs)))
        if order is not None:
            value = theirs.reshape(*theirs.shape[:2], -1)[..., order].reshape(theirs.shape)
            yield Hypothesis("pixels permuted", value, free=FREE)


def _features(evidence: Evidence) -> Iterator[Hypothesis]:
    """Channels and pixels together in one other order in all samples, as a reshape in another memory order makes it."""
    theirs = evidence.reference.reshape(len(evidence.reference), -1)
    if len(theirs) > 1:
        order = match_rows(evidence.candidate.reshape(theirs.shape).T, theirs.T)
        if order is not None:
            value = theirs[:, order].reshape(evidence.reference.shape)
            yield Hypothesis("elements permuted", value, "in the same way in every sample", FREE + 1)


def elements(evidence: Evidence) -> Iterator[Hypothesis]:
    """The same numbers in any order; only where chance would not bring two numbers that close."""
    mine, theirs = evidence.candidate, evidence.reference
    if not _countable(evidence):
        return
    value = np.empty(mine.size)
    value[np.argsort(mine, axis=None)] = np.sort(theirs, axis=None)
    yield Hypothesis("elements permuted", value.reshape(mine.shape), free=FREE + 2)


def _countable(evidence: Evidence) -> bool:
    """Are the elements so few that equal numbers are no accident, and moved by as much as they vary?"""
    mine, theirs = evidence.candidate, evidence.reference
    spread = norm(theirs - theirs.mean())
    return mine.size > 1 and mine.size * evidence.tolerance <= 1e-2 and norm(mine - theirs) >= 1e-2 * spread


def match_rows(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray | None:
    """The order with ``mine`` near ``theirs[order]``, row by row; None where there is none or it is the identity.

    Rows are compared by eight random projections, so that a call costs two passes over the data.
    """
    count, length = theirs.shape
    if mine.shape != theirs.shape or count < 2 or length == 0:
        return None
    directions = np.random.default_rng(0).standard_normal((length, 8))
    a, b = mine @ directions, theirs @ directions
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    # Ranked by one projection, equal rows pair up one to one; rounding can swap near neighbours, so then look around.
    by_mine, by_theirs = np.argsort(a[:, 0], kind="stable"), np.argsort(b[:, 0], kind="stable")
    order = np.empty(count, int)
    order[by_mine] = by_theirs
    if not _close(a, b[order]):
        near = np.searchsorted(b[by_theirs, 0], a[:, 0])[:, None] + np.arange(-8, 9)
        options = by_theirs[np.clip(near, 0, count - 1)]
        gaps = np.linalg.norm(b[options] - a[:, None], axis=2)
        order = options[np.arange(count), gaps.argmin(axis=1)]
        if len(np.unique(order)) < count:
            return None
    return None if np.array_equal(order, np.arange(count)) else order


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b))
