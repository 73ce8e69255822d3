"""Claim: the published loop never trains its generator, in Flux and in the port alike."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import assert_agree, batches, config, live_like, port_against, recorded, stepped

from pygan.draws import Draws
from pygan.parity.sides import Recorded
from pygan.stacks.torch_stack import TorchStack


def generator_part(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in state.items() if "generator" in key}


def assert_frozen(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    for key, value in generator_part(before).items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    moved = [key for key in before if key.startswith("parameter/discriminator") and (before[key] != after[key]).any()]
    assert len(moved) == 6, "the discriminator must have trained"


def test_recorded_flux_left_its_generator_alone() -> None:
    trace = recorded("flux-narrow-as-printed")
    states = [record for record in trace if record.state]
    assert len(states) >= 2
    assert_frozen(trace.initial_state(), states[-1].state)
    assert not any("generator" in key for key in trace.record(0).gradient)


def test_the_port_takes_the_same_steps_and_leaves_its_generator_alone() -> None:
    trace = recorded("flux-narrow-as-printed")
    stepping, pairs = port_against(trace)
    assert_agree(stepping, 10)
    assert stepping.steps == trace.training_steps >= 2
    for pair in pairs:
        assert pair.candidate.gradient.keys() == pair.reference.gradient.keys()
        assert_frozen(pair.before, pair.candidate.state)


def test_a_port_that_trains_its_generator_would_be_seen() -> None:
    trace = recorded("flux-narrow-as-printed")
    stepping, _ = stepped(live_like(trace, semantics="fixed"), Recorded(trace), [0])
    assert stepping.differs
    found = stepping.diagnosis()
    assert found is not None and found.step == 0 and "generator" in found.key


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
