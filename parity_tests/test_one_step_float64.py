"""Claim: in Float64 one step of the port is one step of Flux: 1e-11 relative in every tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared_runs import (
    assert_agree,
    batches,
    config,
    load_or_skip,
    outside,
    port_against,
    recorded,
    schedule_of,
    stepped,
    torch_like,
)

from pygan.draws import Draws
from pygan.parity.claims import EVERY, PARTIAL
from pygan.parity.sides import Live
from pygan.parity.tolerances import FLOAT64_STEP
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.torch_stack import TorchStack

CAPTURE = ("logits", "gradients", "patterns", "state")
CANCELS = "discriminator.dense.bias"
"""Its gradient is the difference of two sums near 1/2, of which four digits and more can cancel."""


@pytest.mark.live
@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
@pytest.mark.parametrize("width", ["narrow", "full"])
def test_live_steps_agree(width: str, semantics: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config(width, "float64", semantics=semantics)
    data = load_or_skip("digits", 14 if width == "narrow" else 224)  # the second batch is the partial one
    flux, torch = Live(live_flux(wanted), data), Live(TorchStack(wanted), data, TorchStack)
    stepping, pairs = stepped(torch, flux, range(2))
    assert_agree(stepping)
    assert [len(pair.reference.logits["real"]) for pair in pairs] == [wanted.batch, len(data.images) - wanted.batch]


def test_recorded_narrow_steps_agree_from_the_recorded_states() -> None:
    trace = recorded("flux-narrow-float64")
    stepping, pairs = port_against(trace)
    rows = assert_agree(stepping, 78)
    assert stepping.steps == trace.training_steps >= 10
    assert {len(pair.reference.logits["real"]) for pair in pairs} == {6, 8}, "a partial last batch is among them"
    assert rows[EVERY].allowed == FLOAT64_STEP
    assert not [one for pair in pairs for one in outside(pair.candidate, pair.reference, cancelling=True)]
    cancelled = {one.key for pair in pairs for one in outside(pair.candidate, pair.reference)}
    assert all(key.endswith(CANCELS) for key in cancelled), "only that gradient cancels to nothing"
    assert rows[EVERY].minimum is not None and rows[EVERY].minimum <= 10 * FLOAT64_STEP
    assert rows[PARTIAL].verdict == "agree"


def next_float32(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(1)))


CONSTANTS = ("bn_momentum", "bn_eps", "beta1", "beta2", "leaky_slope", "discriminator_lr", "generator_lr")
BY_ONE_ULP = [{name: next_float32(getattr(FluxTutorialConfig(), name))} for name in CONSTANTS]


@pytest.mark.parametrize(
    "change", [{}, *BY_ONE_ULP, {"adam_eps": 1.1e-8}, {"dropout": 0.3000001}, {"constants": "native"}], ids=str
)
def test_a_constant_off_by_one_float32_ulp_would_be_seen(change: dict[str, object]) -> None:
    trace = recorded("flux-narrow-float64")
    torch, schedule = torch_like(trace, **change), schedule_of(trace)
    before = trace.state_before(1)
    for network in ("discriminator", "generator"):  # the state holds beta1^t, beta2^t: those of the changed betas
        before[f"beta_power/{network}"] = torch.state()[f"beta_power/{network}"] ** 2
    torch.load_state(before)
    mine = torch.step(schedule[1], Draws(trace.header.config["seed"]).at(1), CAPTURE)
    found = [one for one in outside(mine, trace.record(1)) if not one.key.endswith(CANCELS)]
    assert bool(found) is bool(change), f"{change} went unseen"


def test_an_error_of_1e_9_in_any_tensor_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    tried = 0
    for step in (0, 7):
        theirs = trace.record(step)
        for kind in ("loss", "logits", "activation", "activation_gradient", "gradient", "buffer", "updated", "state"):
            for key, value in getattr(theirs, kind).items():
                if value.dtype.kind != "f" or (step == 0 and not value.any()):
                    continue
                wrong = replace(theirs, **{kind: {**getattr(theirs, kind), key: value * (1 + 1e-9)}})
                assert [one.key for one in outside(wrong, theirs)] == [f"{kind}/{key}"], f"step {step}"
                tried += 1
    assert tried > 120


def test_a_tensor_that_is_missing_or_not_finite_would_be_seen() -> None:
    theirs = recorded("flux-narrow-float64").record(7)
    for key, value in theirs.state.items():
        without = replace(theirs, state={other: held for other, held in theirs.state.items() if other != key})
        assert [one.key for one in outside(without, theirs)] == [f"state/{key}"]
        if value.dtype.kind == "f":
            broken = value.copy()
            broken.reshape(-1)[-1] = np.nan
            found = outside(replace(theirs, state={**theirs.state, key: broken}), theirs)
            assert [one.key for one in found] == [f"state/{key}"]


def test_a_missing_update_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    theirs, initial = trace.record(0), trace.initial_state()
    stale = replace(theirs, state={**theirs.state, **{k: v for k, v in initial.items() if "running" in k}})
    assert len(outside(stale, theirs)) == 6


def test_the_steps_of_another_run_would_be_seen() -> None:
    """Every batch of digits, another seed: nothing of the step is the same."""
    wanted = config("narrow", "float64")
    one, other = (TorchStack(wanted.replace(seed=seed)) for seed in (0, 1))
    batch = batches("narrow", 1)[0]
    other.load_state(one.state())
    mine, theirs = (stack.step(batch, Draws(seed), CAPTURE) for seed, stack in ((1, other), (0, one)))
    kinds = {found.key.partition("/")[0] for found in outside(mine, theirs)}
    assert {"loss", "logits", "gradient", "state"} <= kinds
