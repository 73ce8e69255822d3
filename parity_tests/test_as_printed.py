"""Claim: the published loop never trains its generator, in Flux and in the port alike."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import batches, config, recorded, schedule_of, torch_like

from pygan.draws import Draws
from pygan.parity.bands import EARLY_LOSS
from pygan.parity.compare import compare_records
from pygan.stacks.torch_stack import TorchStack


def generator_part(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in state.items() if "generator" in key}


def assert_frozen(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    for key, value in generator_part(before).items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    moved = [key for key in before if key.startswith("parameter/discriminator") and (before[key] != after[key]).any()]
    assert len(moved) == 6, "the discriminator must have trained"


def test_recorded_flux_left_its_generator_alone_and_torch_agrees() -> None:
    trace = recorded("flux-narrow-as-printed")
    last = trace.record(trace.steps[-1] if trace.record(trace.steps[-1]).state else trace.steps[-2])
    assert_frozen(trace.initial_state(), last.state)
    assert not any("generator" in key for key in trace.record(0).gradient)
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in range(last.step + 1):
        mine = torch.step(schedule[step], Draws(trace.header.config["seed"]).at(step), ("gradients",))
        theirs = trace.record(step)
        assert mine.gradient.keys() == theirs.gradient.keys()
        for difference in compare_records(mine, theirs, kinds=("loss",)):
            assert EARLY_LOSS.admits(difference), difference
    assert_frozen(trace.initial_state(), torch.state())


@pytest.mark.live
def test_live_flux_leaves_its_generator_alone(live_flux) -> None:  # type: ignore[no-untyped-def]
    flux = live_flux(config("narrow", semantics="as_printed"))
    before = flux.state()
    for step, batch in enumerate(batches("narrow", 2)):
        flux.step(batch, Draws(0).at(step))
    assert_frozen(before, flux.state())


def test_fixed_semantics_move_both_networks() -> None:
    torch = TorchStack(config("narrow"))
    before = torch.state()
    torch.step(batches("narrow", 1)[0], Draws(0))
    after = torch.state()
    for key, value in before.items():
        if key.startswith(("parameter/", "buffer/")):
            assert (after[key] != value).any(), f"{key} did not move"
