"""Claim: in Float64 one step of the port is one step of Flux: 1e-11 relative per tensor, or the stated floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compared_runs import batches, config, recorded, schedule_of, torch_like

from pygan.draws import Draws
from pygan.parity.bands import FREE_FLOAT64, outside_float64
from pygan.parity.compare import compare_records, flips
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.torch_stack import TorchStack

CAPTURE = ("logits", "gradients", "patterns", "state")


def explain(bad: list) -> str:  # type: ignore[type-arg]
    return "\n".join(str(difference) for difference in bad[:8])


@pytest.mark.live
@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
@pytest.mark.parametrize("width", ["narrow", "full"])
def test_live_steps_agree(width: str, semantics: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config(width, "float64", semantics=semantics)
    flux, torch = live_flux(wanted), TorchStack(wanted)
    for step, batch in enumerate(batches(width, 2)):  # the second batch is the partial one
        theirs = flux.step(batch, Draws(0).at(step), CAPTURE)
        mine = torch.step(batch, Draws(0).at(step), CAPTURE)
        assert not flips(mine, theirs)
        differences = compare_records(mine, theirs, torch.rules())
        assert len(differences) > 60
        assert not (bad := outside_float64(differences)), explain(bad)
        torch.load_state(theirs.state)


def test_recorded_narrow_steps_agree_teacher_forced() -> None:
    trace = recorded("flux-narrow-float64")
    torch, schedule = torch_like(trace), schedule_of(trace)
    sizes = set()
    for step in trace.steps[:-1]:
        torch.load_state(trace.state_before(step))
        theirs = trace.record(step)
        mine = torch.step(schedule[step], Draws(trace.header.config["seed"]).at(step), CAPTURE)
        sizes.add(len(schedule[step]))
        assert not flips(mine, theirs)
        differences = compare_records(mine, theirs, torch.rules())
        assert len(differences) == 78, "the trace must carry state, gradients, logits and losses"
        assert not (bad := outside_float64(differences)), f"step {step}\n{explain(bad)}"
    assert sizes == {6, 8}, "the recorded steps must include a partial last batch"


def test_recorded_narrow_run_agrees_free_running() -> None:
    trace = recorded("flux-narrow-float64")
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in trace.steps[:-1]:
        mine = torch.step(schedule[step], Draws(trace.header.config["seed"]).at(step), CAPTURE)
    differences = compare_records(mine, trace.record(step), torch.rules())
    assert not (bad := [one for one in differences if not FREE_FLOAT64.admits(one)]), explain(bad)


def next_float32(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(1)))


CONSTANTS = ("bn_momentum", "bn_eps", "beta1", "beta2", "leaky_slope", "dropout", "discriminator_lr", "generator_lr")
BY_ONE_ULP = [{name: next_float32(getattr(FluxTutorialConfig(), name))} for name in CONSTANTS if name != "dropout"]


@pytest.mark.parametrize(
    "change", [*BY_ONE_ULP, {"adam_eps": 1.1e-8}, {"dropout": 0.3000001}, {"constants": "native"}], ids=str
)
def test_a_constant_off_by_one_float32_ulp_would_be_seen(change: dict[str, object]) -> None:
    trace = recorded("flux-narrow-float64")
    torch, schedule = torch_like(trace, **change), schedule_of(trace)
    before = trace.state_before(1)
    for network in ("discriminator", "generator"):  # the state holds beta1^t, beta2^t: those of the changed betas
        before[f"beta_power/{network}"] = torch.state()[f"beta_power/{network}"] ** 2
    torch.load_state(before)
    mine = torch.step(schedule[1], Draws(trace.header.config["seed"]).at(1), CAPTURE)
    assert outside_float64(compare_records(mine, trace.record(1))), f"{change} went unseen"


def test_an_error_of_1e_9_in_any_tensor_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    for step in (0, 7):
        theirs = trace.record(step)
        for kind in ("loss", "logits", "gradient", "state"):
            for key, value in getattr(theirs, kind).items():
                if key == "step" or (step == 0 and not value.any()):
                    continue
                wrong = replace(theirs, **{kind: {**getattr(theirs, kind), key: value * (1 + 1e-9)}})
                assert outside_float64(compare_records(wrong, theirs)), f"step {step}: {kind}/{key}"


def test_a_missing_update_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    theirs = trace.record(0)
    stale = replace(
        theirs, state={**theirs.state, **{k: v for k, v in trace.initial_state().items() if "running" in k}}
    )
    assert len(outside_float64(compare_records(stale, theirs))) == 6
