"""Trained freely from the same key, both stacks draw pictures between which the eye sees no difference for a while;
they are shown and not judged. Another run's pictures are told apart at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared_runs import load_or_skip, recorded, torch_like

from pygan.gifs import Run, Shown, pictures_shown
from pygan.parity.free_run import CLOSE
from pygan.parity.verdicts import DIFFERS, NOT_RUN
from pygan.pictures import split
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import train


def torch_pictures(
    trace: Trace, steps: int, every: int, kind: type[TorchStack] = TorchStack, **changes: object
) -> list[StepRecord]:
    data = load_or_skip(trace.header.data["name"])
    assert data.sha256 == trace.header.data["sha256"]
    made = train(torch_like(trace, kind, **changes), data, steps, picture_every=every)
    return [record for record in made if record.pictures]


def shown(torch: list[StepRecord], trace: Trace) -> Shown:
    steps = {record.step for record in torch}
    flux = [record for record in trace if record.step in steps]
    return pictures_shown(Run("Flux", {}, flux), Run("PyTorch", {}, torch), torch_like(trace).config)


@pytest.mark.parametrize("kind", [pytest.param(TorchStack, marks=pytest.mark.slow), FastTorchStack])
@pytest.mark.parametrize(
    ("name", "steps", "every", "last"),
    [("flux-full-digits", 1, 1, 1), ("flux-full-digits-pictures", 21, 20, 20), ("flux-full-mnist", 1, 1, 1)],
)
def test_torch_draws_the_pictures_of_recorded_flux(
    name: str, steps: int, every: int, last: int, kind: type[TorchStack]
) -> None:
    trace = recorded(name)
    found = shown(torch_pictures(trace, steps, every, kind), trace)
    assert found.close_until == found.steps[-1].step == last, found.reason
    assert {step.verdict for step in found.steps} == {NOT_RUN}, "free runs are never said to agree"


@pytest.mark.parametrize("changes", [{"semantics": "as_printed"}, {"seed": 1}], ids=str)
def test_another_seed_or_semantics_is_far_off_at_the_first_step(changes: dict[str, object]) -> None:
    trace = recorded("flux-full-digits")
    found = shown(torch_pictures(trace, 1, 1, **changes), trace)  # type: ignore[arg-type]
    assert found.steps[0].step == 0 and found.steps[0].relative > CLOSE
    assert found.close_until is None


def test_recorded_pictures_show_a_trained_generator() -> None:
    """Learning gate: the last pictures are no longer flat, and not all the same."""
    framed = [record for record in recorded("flux-full-digits-pictures") if record.pictures]
    first, last = framed[0].pictures["grid"], framed[-1].pictures["grid"]
    assert first.std() < 2, "N(0, 0.02) weights draw flat grey"
    assert last.std() > 40
    cells = split(last, 5).reshape(25, -1).astype(float)
    assert np.abs(cells[0] - cells[1:]).mean(axis=1).min() > 2


def test_a_picture_that_is_not_finite_is_told_at_any_step() -> None:
    trace = recorded("flux-full-digits-pictures")
    framed = [record for record in trace if record.pictures]
    bad = replace(framed[-1], pictures={"values": np.full((25, 1, 28, 28), np.nan, np.float32)})
    found = shown([*framed[:-1], bad], trace)
    assert found.unfit
    assert [step.verdict for step in found.steps] == [NOT_RUN] * (len(framed) - 1) + [DIFFERS]
    equal = shown(framed, trace)
    assert not equal.unfit and {(step.relative, step.verdict) for step in equal.steps} == {(0.0, NOT_RUN)}
