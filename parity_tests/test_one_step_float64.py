"""Claim: in Float64 one step of the port is one step of Flux: 1e-11 relative per tensor, or the stated floor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compared_runs import batches, config, recorded, schedule_of, torch_like

from pygan.draws import Draws
from pygan.parity.bands import FLOAT64, outside
from pygan.parity.compare import compare_records, flips
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
        assert not (bad := outside(differences, FLOAT64)), explain(bad)
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
        assert not (bad := outside(differences, FLOAT64)), f"step {step}\n{explain(bad)}"
    assert sizes == {6, 8}, "the recorded steps must include a partial last batch"


def test_recorded_narrow_run_agrees_free_running() -> None:
    trace = recorded("flux-narrow-float64")
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in trace.steps[:-1]:
        mine = torch.step(schedule[step], Draws(trace.header.config["seed"]).at(step), CAPTURE)
    differences = compare_records(mine, trace.record(step), torch.rules())
    worst = max(difference.relative for difference in differences)
    assert worst < 1e-8, f"after {len(trace)} free steps: {worst:.1e}"


def test_a_wrong_constant_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    schedule = schedule_of(trace)
    for change in ({"bn_momentum": 0.1 + 1e-8}, {"beta1": 0.9 + 2e-8}, {"leaky_slope": 0.2 + 2e-8}, {"adam_eps": 2e-8}):
        torch = torch_like(trace, constants="native", **change)
        torch.load_state(trace.state_before(0))
        mine = torch.step(schedule[0], Draws(trace.header.config["seed"]).at(0), CAPTURE)
        assert outside(compare_records(mine, trace.record(0)), FLOAT64), f"{change} went unseen"


def test_a_missing_update_would_be_seen() -> None:
    trace = recorded("flux-narrow-float64")
    theirs = trace.record(0)
    stale = replace(
        theirs, state={**theirs.state, **{k: v for k, v in trace.initial_state().items() if "running" in k}}
    )
    assert len(outside(compare_records(stale, theirs), FLOAT64)) == 6
