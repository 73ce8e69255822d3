"""What the parity claims compare: configs, shipped traces, torch stacks like them, and the batches they saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from pygan.data import Dataset, load
from pygan.data.dataset import published_paths
from pygan.data.registry import PUBLISHED
from pygan.draws import Draws
from pygan.errors import DataError
from pygan.parity.claims import CORRECTNESS, EVERY
from pygan.parity.judge import Cancelling, Judged, flat, judge_float64, judge_patterns
from pygan.parity.referee import Referee
from pygan.parity.report import Row
from pygan.parity.sides import Live, Pair, Recorded, Side, Together
from pygan.parity.stepping import Stepping
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.recipes import config_from_dict
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.schedule import Schedule
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace


def config(width: str, dtype: str = "float32", **changes: object) -> FluxTutorialConfig:
    """The recipe's config: ``narrow`` (on one thread, tiny tensors are slower on two) or ``full``."""
    return FluxTutorialConfig(dtype=dtype, **{**({**NARROW, "threads": 1} if width == "narrow" else {}), **changes})  # type: ignore[arg-type]


def recorded(name: str) -> Trace:
    """A shipped trace of real Flux."""
    return Trace(traces_dir() / name)


def torch_like(trace: Trace, kind: type[TorchStack] = TorchStack, **changes: object) -> TorchStack:
    """A torch stack with the config of ``trace`` (and its threads: tiny tensors are slower on two)."""
    return kind(config_from_dict({**trace.header.config, **changes}))


def load_or_skip(name: str, limit: int | None = None) -> Dataset:
    """The data set. Skips only where the files of a published one are not here; damaged files are failures."""
    if name in PUBLISHED:
        try:
            published_paths(PUBLISHED[name], None, "train")
        except DataError as error:
            pytest.skip(f"recorded on {name}: {error}")
    return load(name, limit=limit)


def data_of(trace: Trace) -> Dataset:
    """The images that the recorded run saw (checked by hash). Skips where they are not here."""
    data = load_or_skip(trace.header.data["name"], trace.header.data["images"])
    assert data.sha256 == trace.header.data["sha256"], "the data is not what the trace was recorded on"
    return data


def schedule_of(trace: Trace) -> Schedule:
    """The batches that the recorded run saw."""
    return Schedule(data_of(trace).images, trace.header.config["batch"], Draws(trace.header.config["seed"]))


def live_like(trace: Trace, kind: type[TorchStack] = TorchStack, **changes: object) -> Live:
    """A live torch stack that runs as the recorded one did, on the images that it saw."""
    return Live(torch_like(trace, kind, **changes), data_of(trace), kind)


# --- judged steps ------------------------------------------------------------------------------------------------


def stepped(candidate: Side, reference: Side, steps: Iterable[int]) -> tuple[Stepping, list[Pair]]:
    """A teacher-forced pass over ``steps``, with its pairs."""
    together = Together(candidate, reference)
    stepping = Stepping(together, Referee(together.follower.config, together.follower.dataset))
    return stepping, list(stepping.run(list(steps)))


def port_against(trace: Trace, kind: type[TorchStack] = TorchStack, most: int = 10**9) -> tuple[Stepping, list[Pair]]:
    """The port from every recorded state of ``trace``, for at most so many steps."""
    held = range(min(trace.training_steps, most))
    return stepped(live_like(trace, kind), Recorded(trace), held)


def assert_agree(stepping: Stepping, least: int = 60, twins: bool = True) -> dict[str, Row]:
    """Every claim about the steps that was judged agrees, over ``least`` tensors of each step and more; by claim.

    ``twins``: must correctness have been judged too?
    """
    rows = {row.claim: row for row in stepping.rows()}
    bad = [
        f"level {row.level}, {row.claim}: {row.where}; {row.reason}" for row in rows.values() if row.verdict == DIFFERS
    ]
    assert not bad, "\n".join([*bad, str(stepping.diagnosis())])
    assert stepping.diagnosis() is None
    assert rows[EVERY].compared >= least * stepping.steps
    if twins and CORRECTNESS in rows:
        assert rows[CORRECTNESS].verdict == AGREE, rows[CORRECTNESS].reason
    return rows


def outside(candidate: StepRecord, reference: StepRecord, cancelling: bool = False) -> list[Judged]:
    """What differs between two Float64 steps from one state. ``cancelling``: leave out what may be rounding of sums
    that cancel, which a comparison asks the referee about."""
    pair = Pair(reference.step, {}, candidate, reference)
    judged = [one for one in (*judge_float64(pair), *judge_patterns(pair)) if not one.ok]
    if not cancelling:
        return judged
    may_cancel = Cancelling([one.difference for one in judged], flat(reference))
    return [one for one in judged if not may_cancel(one.difference)]


def assert_same_step(candidate: StepRecord, reference: StepRecord, least: int = 60) -> None:
    """Two Float64 steps from one state agree, in at least so many tensors."""
    assert not (bad := outside(candidate, reference, cancelling=True)), told(bad)
    assert len(judge_float64(Pair(reference.step, {}, candidate, reference))) >= least


def told(bad: Sequence[Judged]) -> str:
    """The first of ``bad``, a line each."""
    return "\n".join(str(one) for one in bad[:8])


def batches(width: str, count: int) -> list[np.ndarray]:
    """Batches of digits ``(N, 1, 28, 28)``; for the narrow recipe the last one is partial (6 of 8)."""
    size = 8 if width == "narrow" else 128
    images = load("digits", limit=size * count - (2 if width == "narrow" else 32)).images
    schedule = Schedule(images, size, Draws(0))
    return [schedule[step] for step in range(count)]
