"""Claim: trained freely from the same key, both stacks draw the same pictures up to the committed horizon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared_runs import load_or_skip, recorded, torch_like

from pygan.parity.bands import PictureBand, picture_band
from pygan.parity.free_run import AGREE, BEYOND, DIFFERS, NOT_RUN, judge
from pygan.pictures import grid, split
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import train


def committed_band() -> PictureBand:
    band = picture_band(recorded("flux-full-digits").header.config)
    assert band is not None
    return band


def torch_pictures(
    trace: Trace, steps: int, every: int, kind: type[TorchStack] = TorchStack, **changes: object
) -> list[StepRecord]:
    data = load_or_skip(trace.header.data["name"])
    assert data.sha256 == trace.header.data["sha256"]
    made = train(torch_like(trace, kind, **changes), data, steps, picture_every=every)
    return [record for record in made if record.pictures]


@pytest.mark.parametrize("kind", [TorchStack, FastTorchStack])
def test_torch_draws_the_pictures_of_recorded_flux_on_digits(kind: type[TorchStack]) -> None:
    trace, band = recorded("flux-full-digits"), committed_band()
    verdict = judge(torch_pictures(trace, 21, 10, kind), list(trace), band)
    assert verdict.verdict == AGREE, verdict.reason
    assert verdict.agreed_until >= 20


@pytest.mark.parametrize("kind", [TorchStack, FastTorchStack])
def test_torch_draws_the_pictures_of_recorded_flux_on_mnist(kind: type[TorchStack]) -> None:
    trace = recorded("flux-full-mnist")
    verdict = judge(torch_pictures(trace, 7, 6, kind), list(trace), committed_band())
    assert verdict.verdict == AGREE, verdict.reason


def test_another_seed_or_semantics_differs() -> None:
    trace = recorded("flux-full-digits")
    changed = torch_pictures(trace, 1, 10, semantics="as_printed")
    assert judge(changed, list(trace), committed_band()).verdict == DIFFERS
    other = torch_pictures(trace, 1, 10, seed=1)
    assert judge(other, list(trace), committed_band()).verdict == DIFFERS


def test_pictures_beyond_the_horizon_are_never_called_agreeing() -> None:
    trace, band = recorded("flux-full-digits"), committed_band()
    late = [record for record in trace if record.step > band.horizon and record.pictures]
    assert late, "the trace must reach beyond the horizon"
    verdict = judge(late, late, band)
    assert {step.verdict for step in verdict.steps} == {BEYOND}
    assert verdict.verdict != AGREE


def test_recorded_pictures_show_a_trained_generator() -> None:
    """Learning gate: the last pictures are no longer flat, and not all the same."""
    trace = recorded("flux-full-digits")
    first, last = trace.record(0), trace.record(trace.steps[-1])
    values = last.pictures["grid"].astype(float)
    assert grid(first.pictures["values"], 5).std() < 2, "N(0, 0.02) weights draw flat grey"
    assert values.std() > 40
    cells = split(last.pictures["grid"], 5).reshape(25, -1).astype(float)
    assert np.abs(cells[0] - cells[1:]).mean(axis=1).min() > 2


def test_a_nan_picture_differs_even_beyond_the_horizon() -> None:
    trace, band = recorded("flux-full-digits"), committed_band()
    late = next(record for record in trace if record.step > band.horizon and record.pictures)
    bad = replace(late, pictures={"values": np.full((25, 1, 28, 28), np.nan, np.float32)})
    assert judge([bad], [late], band).verdict == DIFFERS


def test_a_run_without_a_committed_floor_is_shown_and_not_judged() -> None:
    trace = recorded("flux-full-digits")
    for change in ({"width": 32}, {"dtype": "float64"}, {"randomness": "native"}, {"semantics": "as_printed"}):
        assert picture_band({**trace.header.config, **change}) is None
    assert picture_band({**trace.header.config, "seed": 5, "threads": 7}) is not None
    shown = [record for record in trace if record.pictures][:3]
    verdict = judge(shown, shown, None)
    assert verdict.verdict == NOT_RUN
    assert {step.verdict for step in verdict.steps} == {NOT_RUN}
