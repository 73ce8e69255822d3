"""Claim: the fast step computes what Flux computes, within the idiomatic one's bands, and hides no bug.

Everything here holds :class:`~pygan.stacks.fast.stack.FastTorchStack` to recordings of real Flux; the live twin is
``pygan parity torch-fast flux``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from compared_runs import config, load_or_skip, recorded, schedule_of, torch_like
from planted import score, torch_faults
from planted.fault import Fault

from pygan.draws import Draws
from pygan.parity.bands import EARLY_LOSS, float32_band
from pygan.parity.compare import compare_records
from pygan.parity.judge import judge_step
from pygan.parity.locate import diagnose
from pygan.parity.sides import Live, Pair, Recorded, Together, referee_of
from pygan.stacks.fast import layers
from pygan.stacks.fast.stack import FastTorchStack

CAPTURE = ("logits", "gradients", "patterns", "state")
"""What leaves layers computed together, as in a training (``tests/fast/test_joined_patterns.py``)."""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often layers were computed together, by the function that does it."""
    counts: Counter[str] = Counter()

    def counted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counts[function.__name__] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(layers, "_JOINED", {pair: counted(function) for pair, function in layers._JOINED.items()})
    return counts


@pytest.mark.parametrize("name", ["flux-narrow-float64", "flux-narrow-float32", "flux-narrow-as-printed"])
def test_recorded_narrow_steps_with_layers_computed_together(name: str, joined: Counter[str]) -> None:
    """As in a training: nothing is imposed, which no step of the narrow recordings needs. Patterns are compared."""
    trace = recorded(name)
    stack, images = torch_like(trace, FastTorchStack), schedule_of(trace)
    referee = torch_like(trace, dtype="float64") if stack.config.dtype == "float32" else None
    steps = range(trace.training_steps)
    for step in steps:
        theirs, before = trace.record(step), trace.state_before(step)
        stack.load_state(before)
        mine = stack.step(images[step], Draws(stack.config.seed).at(step), CAPTURE)
        theirs = replace(theirs, activation={}, activation_gradient={}, mode={})
        side = None if referee is None else Live(referee, load_or_skip(trace.header.data["name"], len(images.images)))
        judged = judge_step(Pair(step, before, mine, theirs, {}), side, stack.rules())
        assert all(one.ok for one in judged), "\n".join(str(one) for one in judged if not one.ok)
        assert len(judged) > 60
    dense, leaky, norms = (joined[name] for name in ("_flatten_dense", "_leaky_dropout", "_norm_relu"))
    assert dense == 3 * len(steps) and leaky == 6 * len(steps) and norms >= 3 * len(steps)


def test_full_width_float32_trains_as_flux_did_with_layers_computed_together(joined: Counter[str]) -> None:
    """Losses of the first free steps, in which every gradient of the joined layers has had its say."""
    trace = recorded("flux-full-digits")
    stack, images = torch_like(trace, FastTorchStack), schedule_of(trace)
    for step in range(4):
        mine, theirs = stack.step(images[step], Draws(0).at(step)), trace.record(step)
        for difference in compare_records(mine, theirs, kinds=("loss",)):
            assert EARLY_LOSS.admits(difference), f"step {step}: {difference}"
    assert joined["_leaky_dropout"] == 24 and joined["_norm_relu"] == 24


@pytest.mark.parametrize("name", ["flux-narrow-float64", "flux-narrow-float32", "flux-narrow-as-printed"])
def test_recorded_narrow_steps(name: str) -> None:
    trace = recorded(name)
    images = schedule_of(trace)
    stack = torch_like(trace, FastTorchStack)
    side = Live(stack, load_or_skip(trace.header.data["name"], trace.header.data["images"]))
    referee = referee_of(side)
    compared = partial = 0
    for pair in Together(side, Recorded(trace)).steps(range(trace.training_steps), CAPTURE):
        judged = judge_step(pair, referee, stack.rules())
        assert all(one.ok for one in judged), "\n".join(str(one) for one in judged if not one.ok)
        compared += len(judged)
        partial += len(images.indices(pair.step)) < stack.config.batch
    assert compared >= 40 * trace.training_steps and (partial or name.endswith("as-printed"))


def test_the_recorded_first_step_at_full_width() -> None:
    """Gradients and state by their sketches, with Flux's on/off patterns imposed on the generator's step."""
    trace = recorded("flux-full-digits")
    stack, theirs = torch_like(trace, FastTorchStack), trace.record(0)
    mine = stack.step(schedule_of(trace)[0], Draws(0), ("logits", "gradients", "sketches"), impose=theirs.pattern)
    differences = compare_records(mine, theirs, kinds=("sketch", "logits", "loss"))
    assert len(differences) > 60
    bad = [one for one in differences if not float32_band(one.key, "first_step").admits(one)]
    assert not bad, "\n".join(map(str, bad))


@cache
def row(fault: Fault, seed: int) -> score.Row:
    return next(score.torch_rows([seed], [fault], FastTorchStack))


@pytest.mark.parametrize("fault", torch_faults.FAULTS, ids=str)
def test_a_bug_planted_in_the_fast_step_is_caught(fault: Fault) -> None:
    found = row(fault, 0)
    assert found.verdict in (score.RIGHT, score.UNKNOWN), str(found)
    assert found.step == fault.first_step, str(found)


def test_the_score_through_the_fast_step(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(fault, 0) for fault in torch_faults.FAULTS]
    with capsys.disabled():
        print(f"\nthrough the fast step: {score.summary(rows)}")
    counts = score.totals(rows)
    assert counts[score.MISSED] == counts[score.WRONG] == 0
    assert counts[score.RIGHT] >= 0.75 * counts["planted"]


def test_the_clean_fast_step_raises_no_alarm_layer_by_layer() -> None:
    trace = torch_faults.clean()
    side = Live(torch_like(trace, FastTorchStack), torch_faults.data())
    assert diagnose(Together(side, Recorded(trace)), trace.steps) is None


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_live_flux_at_full_width(dtype: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config("full", dtype)
    data = load_or_skip("digits", 224)
    flux = live_flux(wanted)
    side = Live(FastTorchStack(wanted), data)
    referee = referee_of(side)
    for pair in Together(side, Live(flux, data)).steps(range(2), CAPTURE):
        judged = judge_step(pair, referee, side.stack.rules())
        assert all(one.ok for one in judged), "\n".join(str(one) for one in judged if not one.ok)
        assert len(judged) > 60
