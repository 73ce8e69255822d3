"""Trained freely from the same key, both stacks draw pictures that differ by less than 1 % as far as the recordings of
Flux keep exact ones; these pictures are shown and not judged. Another run's pictures are told apart at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared_runs import load_or_skip, recorded, torch_like

from pygan.gifs import close_until
from pygan.parity.free_run import CLOSE, FreeRunVerdict, shown
from pygan.parity.verdicts import DIFFERS, NOT_RUN
from pygan.pictures import grid, split
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


def check_close(found: FreeRunVerdict, until: int) -> None:
    assert found.verdict == NOT_RUN, "free runs are never said to agree"
    assert {step.verdict for step in found.steps} == {NOT_RUN}
    reached = close_until(found.steps)
    assert reached is not None and reached >= until, found.reason


@pytest.mark.parametrize("kind", [TorchStack, FastTorchStack])
def test_torch_draws_the_pictures_of_recorded_flux_on_digits(kind: type[TorchStack]) -> None:
    trace = recorded("flux-full-digits")
    check_close(shown(torch_pictures(trace, 21, 10, kind), list(trace)), until=20)


@pytest.mark.parametrize("kind", [TorchStack, FastTorchStack])
def test_torch_draws_the_pictures_of_recorded_flux_on_mnist(kind: type[TorchStack]) -> None:
    trace = recorded("flux-full-mnist")
    check_close(shown(torch_pictures(trace, 7, 6, kind), list(trace)), until=6)


@pytest.mark.parametrize("changes", [{"semantics": "as_printed"}, {"seed": 1}], ids=str)
def test_another_seed_or_semantics_is_far_off_at_the_first_step(changes: dict[str, object]) -> None:
    trace = recorded("flux-full-digits")
    found = shown(torch_pictures(trace, 1, 10, **changes), list(trace))  # type: ignore[arg-type]
    assert found.steps[0].step == 0 and found.steps[0].relative > CLOSE
    assert close_until(found.steps) is None


def test_recorded_pictures_show_a_trained_generator() -> None:
    """Learning gate: the last pictures are no longer flat, and not all the same."""
    trace = recorded("flux-full-digits")
    first, last = trace.record(0), trace.record(trace.steps[-1])
    values = last.pictures["grid"].astype(float)
    assert grid(first.pictures["values"], 5).std() < 2, "N(0, 0.02) weights draw flat grey"
    assert values.std() > 40
    cells = split(last.pictures["grid"], 5).reshape(25, -1).astype(float)
    assert np.abs(cells[0] - cells[1:]).mean(axis=1).min() > 2


def test_a_picture_that_is_not_finite_differs_at_any_step() -> None:
    trace = recorded("flux-full-digits")
    framed = [record for record in trace if record.pictures]
    bad = replace(framed[-1], pictures={"values": np.full((25, 1, 28, 28), np.nan, np.float32)})
    found = shown([*framed[:-1], bad], framed)
    assert found.verdict == DIFFERS
    assert [step.verdict for step in found.steps] == [NOT_RUN] * (len(framed) - 1) + [DIFFERS]


def test_even_equal_runs_are_shown_and_not_judged() -> None:
    framed = [record for record in recorded("flux-full-digits") if record.pictures]
    found = shown(framed, framed)
    assert found.verdict == NOT_RUN
    assert {(step.relative, step.verdict) for step in found.steps} == {(0.0, NOT_RUN)}
