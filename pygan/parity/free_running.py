"""Levels 8 and 9: both runs on their own ways from the same start, and the pictures that they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pygan.parity.bands import FREE_FLOAT64, TensorBands, picture_band, tensor_bands
from pygan.parity.compare import Difference, compare_arrays, compare_records
from pygan.parity.free_run import AGREE, BEYOND, DIFFERS, NOT_RUN, judge, relative_picture
from pygan.parity.report import Row
from pygan.records import StepRecord

Compared = list[tuple[int, Difference]]
"""Every compared tensor of two free runs, with its step."""


def compared(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> Compared:
    """Losses, logits, gradients, states and sketches at the steps that both runs recorded."""
    kinds = ("loss", "logits", "gradient", "state", "sketch")
    theirs = {record.step: record for record in reference}
    pairs = [(one, theirs[one.step]) for one in candidate if one.step in theirs]
    return [(mine.step, one) for mine, other in pairs for one in compare_records(mine, other, kinds=kinds)]


def curves(differences: Compared) -> dict[str, dict[int, float]]:
    """Relative difference of losses and of the state (of its sketches where only those are there), by key and step."""
    found: dict[str, dict[int, float]] = {}
    without = ("state/step", "state/beta_power", "sketch/gradient")
    for step, one in differences:
        if one.key.startswith(("loss/", "state/", "sketch/")) and not one.fault and not one.key.startswith(without):
            found.setdefault(one.key.removeprefix("sketch/"), {})[step] = one.relative
    return found


def free_rows(
    candidate: Sequence[StepRecord], reference: Sequence[StepRecord], config: Mapping[str, Any]
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of level 8 and the divergence curves of two free runs of ``config``."""
    differences = compared(candidate, reference)
    found = curves(differences)
    if not found:
        return [Row(8, "tensors over steps", NOT_RUN, reason="no step has states or sketches in both runs")], {}
    stored = {key: {"steps": list(points), "relative": list(points.values())} for key, points in found.items()}
    if bad := [(step, one) for step, one in differences if one.fault]:  # what no band can admit
        step, one = bad[0]
        reason = f"{one.fault} (and {len(bad) - 1} more)" if len(bad) > 1 else one.fault
        where = f"{one.key} @ step {step}"
        return [Row(8, "tensors over steps", DIFFERS, len(found), where=where, reason=reason)], stored
    if config["dtype"] == "float64":
        return [_float64_row(found, _outside(differences))], stored
    return [_float32_row(found, tensor_bands(config))], stored


def _worst(found: Mapping[str, Mapping[int, float]]) -> tuple[str, int, float]:
    return max(((k, s, v) for k, points in found.items() for s, v in points.items()), key=lambda one: one[2])


def _outside(differences: Compared) -> list[tuple[float, str, int]]:
    """Tensors that the band of free Float64 runs does not admit, worst first."""
    return sorted(
        (
            (one.relative, one.key, step)
            for step, one in differences
            if not one.key.startswith("sketch/gradient") and not FREE_FLOAT64.admits(one)
        ),
        reverse=True,
    )


def _float64_row(found: Mapping[str, Mapping[int, float]], outside: Sequence[tuple[float, str, int]]) -> Row:
    key, step, value = _worst(found)
    last = max(step for points in found.values() for step in points)
    if last >= FREE_FLOAT64_STEPS:
        reason = f"the band was measured over {FREE_FLOAT64_STEPS} steps, this run has {last + 1}"
        return Row(8, "tensors over steps", BEYOND, len(found), value, None, value, f"{key} @ step {step}", reason)
    band = FREE_FLOAT64
    verdict = DIFFERS if outside else AGREE
    if outside:
        value, key, step = outside[0]
    elif value > band.relative:  # the worst in relative norm cancels, and is inside in absolute norm
        inside = [(v, k, s) for k, points in found.items() for s, v in points.items() if v <= band.relative]
        value, key, step = max(inside, default=(value, key, step))
    where = f"{key} @ step {step}"
    return Row(8, "tensors over steps", verdict, len(found), value, band.relative, value, where, band.reason)


FREE_FLOAT64_STEPS = 20


def _float32_row(found: Mapping[str, Mapping[int, float]], bands: TensorBands | None) -> Row:
    key, step, value = _worst(found)
    where = f"{key} @ step {step}"
    if bands is None:
        reason = "no noise floor is committed for free runs of this config; the curve is shown and not judged"
        return Row(8, "tensors over steps", NOT_RUN, len(found), value, None, value, where, reason)
    judged = [
        (points[step] / bands.at(key, step), key, step, points[step])
        for key, points in found.items()
        if key in bands.floor
        for step in points
        if step <= bands.horizon
    ]
    if not judged:
        return Row(8, "tensors over steps", BEYOND, len(found), value, None, value, where, "no step before the horizon")
    share, key, step, value = max(judged)
    verdict = AGREE if share <= 1 else DIFFERS
    reason = (
        f"{len(judged)} points up to step {bands.horizon}; {bands.factor:g} times the spread of one stack's own runs"
    )
    return Row(
        8, "tensors over steps", verdict, len(judged), value, bands.at(key, step), value, f"{key} @ step {step}", reason
    )


def picture_rows(
    candidate: Sequence[StepRecord], reference: Sequence[StepRecord], config: Mapping[str, Any]
) -> list[Row]:
    """Level 9 of two free runs: their picture grids up to the horizon."""
    if config["dtype"] == "float64":
        return [_float64_pictures(candidate, reference)]
    verdict = judge(candidate, reference, picture_band(config))
    inside = [step for step in verdict.steps if step.verdict in (AGREE, DIFFERS)]
    worst = max(inside or verdict.steps, key=lambda step: step.relative / (step.band or 1), default=None)
    return [
        Row(
            9,
            "pictures of both free runs",
            verdict.verdict,
            len(inside),
            None if worst is None else worst.relative,
            None if worst is None or not worst.band else worst.band,
            None if worst is None else worst.relative,
            "" if worst is None else f"pictures @ step {worst.step}",
            verdict.reason,
        )
    ]


def picture_curve(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> dict[str, list[float]]:
    """Relative difference of the pictures by step, where both runs drew some."""
    theirs = {record.step: record for record in reference if record.pictures}
    both = [
        (one.step, relative_picture(one, theirs[one.step])[0])
        for one in candidate
        if one.pictures and one.step in theirs
    ]
    return {"steps": [step for step, _ in both], "relative": [value for _, value in both]}


def _float64_pictures(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> Row:
    theirs = {record.step: record.pictures for record in reference if "values" in record.pictures}
    exact = [one for one in candidate if "values" in one.pictures and one.step in theirs]
    pairs = [
        (one.step, {"values": one.pictures["values"]}, {"values": theirs[one.step]["values"]})
        for one in exact
        if one.step < FREE_FLOAT64_STEPS
    ]
    if exact and not pairs:
        told = f"the band was measured over {FREE_FLOAT64_STEPS} steps"
        return Row(9, "pictures of both free runs", BEYOND, len(exact), reason=told)
    if not pairs:
        return Row(9, "pictures of both free runs", NOT_RUN, reason="no step has exact pictures in both runs")
    step, one = max(
        ((step, one) for step, mine, other in pairs for one in compare_arrays(mine, other)),
        key=lambda found: np.inf if found[1].fault else found[1].relative,
    )
    verdict = DIFFERS if one.fault or one.relative > FREE_FLOAT64.relative else AGREE
    reason = one.fault or FREE_FLOAT64.reason
    value = None if one.fault else one.relative
    where = f"pictures @ step {step}"
    return Row(9, "pictures of both free runs", verdict, len(pairs), value, FREE_FLOAT64.relative, value, where, reason)
