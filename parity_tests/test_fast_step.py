"""Claim: the fast step computes what Flux computes, by the idiomatic one's rules, and hides no bug.

Everything here holds :class:`~pygan.stacks.fast.stack.FastTorchStack` to recordings of real Flux; the live twin is
``pygan parity torch-fast flux``.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from compared_runs import config, load_or_skip, recorded, torch_like
from planted import score, torch_faults
from planted.fault import Fault

from pygan.parity.claims import CORRECTNESS, EVERY
from pygan.parity.referee import Referee
from pygan.parity.sides import Live, Recorded, Together
from pygan.parity.stepping import Stepping, diagnose
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.stacks.fast import layers
from pygan.stacks.fast.stack import FastTorchStack


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


def pass_over(side: Live, reference: Live | Recorded, steps: range) -> Stepping:
    """A teacher-forced pass of both sides, judged."""
    stepping = Stepping(Together(side, reference), Referee(side.config, side.dataset))
    for _ in stepping.run(steps):
        pass
    assert not stepping.differs, str(stepping.diagnosis())
    assert not [row for row in stepping.rows() if row.verdict == DIFFERS]
    return stepping


@pytest.mark.parametrize("name", ["flux-narrow-float64", "flux-narrow-float32", "flux-narrow-as-printed"])
def test_recorded_narrow_steps(name: str, joined: Counter[str]) -> None:
    """Every recorded step; where no layers are to be recorded, layers are computed together as in a training."""
    trace = recorded(name)
    stack = torch_like(trace, FastTorchStack)
    side = Live(stack, load_or_skip(trace.header.data["name"], trace.header.data["images"]), torch_like_fast)
    found = pass_over(side, Recorded(trace), range(trace.training_steps))
    assert found.steps == trace.training_steps
    assert all(joined[function] for function in ("_flatten_dense", "_leaky_dropout", "_norm_relu"))
    rows = {row.claim: row for row in found.rows()}
    if stack.config.dtype == "float32":
        assert rows[CORRECTNESS].verdict == AGREE and rows[CORRECTNESS].compared > 30 * trace.training_steps
    assert rows[EVERY].verdict == AGREE and rows[EVERY].compared > 10 * trace.training_steps


def torch_like_fast(wanted: Any) -> FastTorchStack:
    return FastTorchStack(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux-full-digits", "flux-full-mnist"])
def test_the_recorded_first_step_at_full_width(name: str) -> None:
    """From the keyed weights: sketches of gradients and state, the Float64 step, flips of either run."""
    trace = recorded(name)
    side = Live(torch_like(trace, FastTorchStack), load_or_skip(trace.header.data["name"]), torch_like_fast)
    rows = {row.claim: row for row in pass_over(side, Recorded(trace), range(1)).rows()}
    assert rows[CORRECTNESS].verdict == rows[EVERY].verdict == AGREE


PLANTED = torch_faults.FAULTS[::8]


@cache
def row(fault: Fault) -> score.Row:
    return next(score.torch_rows([0], [fault], FastTorchStack, quick=True))


@pytest.mark.parametrize("fault", PLANTED, ids=str)
def test_a_bug_planted_in_the_fast_step_is_caught(fault: Fault) -> None:
    assert row(fault).verdict in (score.RIGHT, score.PLACED, score.UNSEEN), str(row(fault))


@pytest.mark.slow
def test_the_score_through_the_fast_step(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(fault) for fault in torch_faults.FAULTS]
    with capsys.disabled():
        print(f"\nthrough the fast step: {score.summary(rows)}")
    counts = score.totals(rows)
    assert counts[score.MISSED] == counts[score.WRONG] == 0
    assert counts[score.RIGHT] >= 0.75 * counts["caught"]


def test_the_clean_fast_step_raises_no_alarm_layer_by_layer() -> None:
    trace = torch_faults.clean()
    side = Live(torch_like(trace, FastTorchStack), torch_faults.data(), torch_like_fast)
    assert diagnose(Together(side, Recorded(trace)), range(trace.training_steps)) is None


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_live_flux_at_full_width(dtype: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config("full", dtype)
    data = load_or_skip("digits", 224)
    flux = live_flux(wanted)
    side = Live(FastTorchStack(wanted), data, torch_like_fast)
    found = pass_over(side, Live(flux, data), range(2))
    assert found.steps == 2
