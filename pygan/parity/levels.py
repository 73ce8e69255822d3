"""Levels 1, 2 and 10 as rows of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np

from pygan.errors import ConfigError
from pygan.parity.init_laws import check_initial, check_steps
from pygan.parity.learning import NEVER_UPDATED, LearningCheck, NetworkLearning, PictureLearning, learning_gate
from pygan.parity.report import Row
from pygan.parity.sides import Live, Pair, Recorded, Side, Together
from pygan.parity.structure import TensorCheck, compare_calls, compare_counts, compare_modes, compare_rules
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.records import StepRecord
from pygan.stacks import LayerSpec, Stack
from pygan.stacks.choose import make_stack

NATIVE_STEPS = 4
LAWS_TESTED = "Kolmogorov-Smirnov tests and moments; one false alarm in a million"
ACTIVATIONS = ("relu", "leakyrelu", "tanh", "sigmoid", "elu", "gelu", "softplus", "silu")
"""Kinds of layers that a stack may fuse with the layer before them."""
PADDING = "zeropad2d"
"""A layer that pads or crops, which a stack may do inside the convolution beside it."""


def pads_itself(spec: LayerSpec) -> bool:
    """Is this a convolution with padding of its own?"""
    padding = spec.numbers.get("padding", 0) if spec.kind in ("conv", "conv_transpose") else 0
    return padding not in (0, (0, 0), "valid")


def _row(level: int, claim: str, checks: Sequence[Any], reason: str = "", missing: str = "nothing to compare") -> Row:
    """One row of many checks; the first that fails is named. ``reason`` is for those that agree, ``missing`` says why
    there are none."""
    if not checks:
        return Row(level, claim, NOT_RUN, reason=missing)
    if not (failed := [check for check in checks if not check.ok]):
        return Row(level, claim, AGREE, len(checks), reason=reason)
    where, _, told = str(failed[0]).partition(": ")
    return Row(level, claim, DIFFERS, len(checks), where=where, reason=f"{len(failed)} of {len(checks)} fail: {told}")


def layout_rows(checks: Sequence[TensorCheck]) -> list[Row]:
    """Level 1: the tensors of both states. Every one that is missing, extra or of another shape is told."""
    claim = "names, shapes and dtypes of the state"
    if not checks:
        return [Row(1, claim, NOT_RUN, reason="a recording holds no initial state")]
    bad = [one for one in checks if not one.ok]
    if not bad:
        return [Row(1, claim, AGREE, len(checks), reason="the same tensors on both sides")]
    told = "; ".join(str(one) for one in bad[:MOST_TOLD]) + (
        f"; and {len(bad) - MOST_TOLD} more" if len(bad) > MOST_TOLD else ""
    )
    return [Row(1, claim, DIFFERS, len(checks), where=bad[0].key, reason=told)]


MOST_TOLD = 6
"""Tensors of unlike shape that a report names one by one."""


def batch_row(together: Together, steps: int) -> Row:
    """Level 4: the order and scaling of the batches of two epochs, by each live stack's own code."""
    claim = "batches of two epochs, by each stack's own order and scaling"
    sides = [side for side in (together.candidate, together.reference) if isinstance(side, Live)]
    schedule = together.follower.schedule
    epoch = schedule.steps_per_epoch
    numbers = sorted(
        {*range(min(max(steps, 2 * epoch), MOST_BATCHES)), *(epoch + n for n in (-1, 0, 1)), 2 * epoch - 1}
    )
    images = together.follower.dataset.images
    leader = together.leader
    held: Mapping[int, str] = {}
    if isinstance(leader, Recorded):
        held = {record.step: record.batch_sha256 for record in leader.trace if record.batch_sha256}
        numbers = [number for number in numbers if number in held]
    rows = [(side.title, side.stack.batch_hashes(images, numbers)) for side in sides]
    if isinstance(leader, Recorded):
        rows.append((leader.title, [held[number] for number in numbers]))
    if not numbers:
        return Row(4, claim, NOT_RUN, reason="no second order of batches to compare with")
    (mine, ours), (other, theirs) = rows
    unlike = [number for number, a, b in zip(numbers, ours, theirs, strict=True) if a != b]
    if not unlike:
        return Row(4, claim, AGREE, len(numbers), reason="each batch has the same SHA-256")
    leads = dict(zip(numbers, rows[0 if sides[0] is not together.follower else 1][1], strict=True))
    gaps = [together.batches.gap(number, leads[number]) for number in unlike]
    rounded = [gap for gap in gaps if gap is not None]
    if len(rounded) == len(unlike):
        told = f"{len(unlike)} were scaled by other operations: up to {max(rounded):.1e} apart, Float32 rounding"
        return Row(4, claim, AGREE, len(numbers), reason=told)
    told = f"{len(unlike)} batches of {mine} are not those of {other}, first at step {unlike[0]}"
    same = {sha: number for number, sha in zip(numbers, theirs, strict=True)}
    seen = [(number, same[sha]) for number, sha in zip(numbers, ours, strict=True) if same.get(sha, number) != number]
    told += f"; {mine}'s step {seen[0][0]} sees what {other}'s step {seen[0][1]} does" if seen else ""
    return Row(4, claim, DIFFERS, len(numbers), where=f"batch @ step {unlike[0]}", reason=told)


MOST_BATCHES = 24
"""First batches that are compared, besides those around the ends of two epochs."""


def structure_rows(together: Together, pair: Pair | None) -> list[Row]:
    """Level 1: counts and layout rules, and the calls, layers and modes of the first step."""
    follower = together.follower
    before = follower.stack.state()
    theirs: Mapping[str, np.ndarray] = pair.before if pair else before
    sides = (before, theirs) if follower is together.candidate else (theirs, before)
    counts = compare_counts(sides[0], sides[1], follower.config.published_counts())
    rows = [
        _row(
            1,
            "parameter counts",
            counts if pair else [],
            "; ".join(f"{one.candidate:,} {one.network}" for one in counts),
            "no step was compared",
        ),
    ]
    leader = together.leader
    if isinstance(leader, Live):
        rules = [side.stack.rules() for side in (together.candidate, together.reference) if isinstance(side, Live)]
        checks = compare_rules(rules[0], rules[1])
        rows.append(_row(1, "layout rules of both stacks", checks, "the same rule for each tensor"))
    if pair is None or not (pair.candidate.mode and pair.reference.mode):
        told = "no record of both sides says which layers ran in which mode"
        return [*rows, Row(1, "calls, layers and modes", NOT_RUN, reason=told)]
    layers = follower.stack.layers()
    functions = [path for path, spec in layers.items() if spec.kind in ACTIVATIONS]
    paddings = {path for path, spec in layers.items() if spec.kind == PADDING or pads_itself(spec)}
    calls = compare_calls(pair.candidate, pair.reference, functions, paddings)
    modes = compare_modes(pair.candidate, pair.reference, follower.stack.rules())
    trained = sum(bool(mode) for mode in pair.reference.mode.values())
    told = f"{trained} of {len(modes)} layers at calls run in train mode"
    return [
        *rows,
        _row(1, "calls and their layers in order", calls, f"{len(calls)} calls"),
        _row(1, "train or eval mode of every layer at every call", modes, told),
    ]


def init_law_rows(candidate: Side, reference: Side) -> list[Row]:
    """Level 2: what each live side's own generator draws, against the recipe's published laws."""
    rows = []
    for side in (candidate, reference):
        claim = f"native initial weights, dropout and noise of {side.title}"
        config: Any = side.config
        if not isinstance(side, Live) or not config.initial_laws():
            told = (
                "a recording has no random numbers of its own"
                if not isinstance(side, Live)
                else "the recipe states no laws"
            )
            rows.append(Row(2, claim, NOT_RUN, reason=told))
            continue
        try:
            stack = make_stack(side.title, config.replace(randomness="native"))
        except ConfigError as error:
            rows.append(Row(2, claim, NOT_RUN, reason=str(error)))
            continue
        try:
            rows.append(_row(2, claim, _native_checks(stack, side), LAWS_TESTED))
        finally:
            stack.close()
    return rows


def _native_checks(stack: Stack, side: Live) -> list[Any]:
    config: Any = stack.config
    native = Live(stack, side.dataset)
    checks: list[Any] = list(check_initial([stack.state()], config.initial_laws()))
    records = [native.step(number, ("layers",)) for number in range(NATIVE_STEPS)]
    return checks + list(check_steps(records, config.step_laws()))


def learning_rows(
    together: Together, initial: Mapping[str, np.ndarray], free: Iterable[StepRecord], lead: Iterable[StepRecord]
) -> list[Row]:
    """Level 10: did each run train? Two runs can agree to the last bit on a network that never moves.

    A network that was never updated is a failure, unless the config says that it never is (``untrained``).
    """
    rows = []
    config = together.follower.config
    faults = []
    for side, records in ((together.follower, free), (together.leader, lead)):
        checks = learning_gate(records, initial, config.networks, isqrt(config.pictures))
        still = [one.network for one in checks if isinstance(one, NetworkLearning) and one.verdict == NEVER_UPDATED]
        failed = [one for one in checks if not one.ok and not _announced(one, config)]
        faults.append({_what(one) for one in failed})
        told = "; ".join([*(f"{name} never updated" for name in still), *(str(one) for one in failed)])
        told = told or "; ".join(str(one).split(":")[0] for one in checks if isinstance(one, NetworkLearning))
        where = str(failed[0]).partition(":")[0] if failed else ""
        verdict = DIFFERS if failed else AGREE
        rows.append(Row(10, f"{side.title} learned", verdict, len(checks), where=where, reason=told))
    if faults[0] and faults[0] == faults[1]:  # a degenerate config, not a difference between the runs
        return [replace(row, verdict=AGREE, where="", reason=f"neither run learns: {row.reason}") for row in rows]
    return rows


def _what(check: LearningCheck) -> str:
    """What failed, without its numbers."""
    return f"{check.network} {check.verdict}" if isinstance(check, NetworkLearning) else f"{type(check).__name__}"


def _announced(check: LearningCheck, config: Any) -> bool:
    """Is this what the config's caveats say: a network that never trains, and its pictures that never change?"""
    frozen = config.untrained
    if isinstance(check, NetworkLearning):
        return check.network in frozen and check.verdict == NEVER_UPDATED
    return bool(frozen) and isinstance(check, PictureLearning) and check.faults == ("what they were at first",)
