"""Two sides of a comparison: who leads, who follows, from which state, and with which patterns imposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygan.data import Dataset
from pygan.errors import ConfigError, TraceError
from pygan.parity.sides import Live, Recorded, Together
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.recording import record
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")


def live(narrow: FluxTutorialConfig, digits: Dataset, dtype: str = "float64") -> Live:
    return Live(TorchStack(narrow.replace(dtype=dtype)), digits)


def recorded(
    narrow: FluxTutorialConfig, digits: Dataset, folder: Path, words: tuple[str, ...] = EVERYTHING
) -> Recorded:
    for _ in record(TorchStack(narrow.replace(dtype="float64")), digits, 3, folder, capture=lambda step: words):
        pass
    return Recorded(Trace(folder))


def unled(side: Live) -> Live:
    """A live side that nothing can be imposed on, as Flux is."""
    side.title = "flux"
    return side


def test_a_recording_leads_and_the_live_side_follows_whatever_their_roles(narrow, digits, tmp_path) -> None:
    trace, torch = recorded(narrow, digits, tmp_path / "t"), live(narrow, digits)
    for candidate, reference in ((torch, trace), (trace, torch)):
        together = Together(candidate, reference)
        assert (together.leader, together.follower) == (trace, torch)
        pairs = list(together.steps(range(3), EVERYTHING))
        assert [pair.step for pair in pairs] == [0, 1, 2]
        for pair in pairs:
            mine, theirs = (pair.candidate, pair.reference) if candidate is torch else (pair.reference, pair.candidate)
            assert theirs.gradient.keys() == trace.trace.record(pair.step).gradient.keys()
            assert mine.kink == theirs.kink == {}
            assert int(pair.before["step"]) == pair.step


def test_of_two_live_sides_that_leads_which_cannot_be_led_else_the_reference(narrow, digits) -> None:
    one, other = live(narrow, digits), live(narrow, digits)
    assert Together(one, other).leader is other
    assert Together(unled(one), other).leader is one
    assert Together(other, one).leader is one


def test_two_sides_that_cannot_be_led_are_refused(narrow, digits, tmp_path) -> None:
    trace = recorded(narrow, digits, tmp_path / "t")
    for pair in ((trace, trace), (trace, unled(live(narrow, digits))), (unled(live(narrow, digits)), trace)):
        with pytest.raises(ConfigError, match="neither side is a live torch stack"):
            Together(*pair)


def test_every_step_of_the_follower_starts_from_the_leaders_state(narrow, digits, same_arrays) -> None:
    """Also when the follower's own way would lead elsewhere: it is spoilt between the steps."""
    follower, leader = live(narrow, digits), live(narrow, digits)
    for pair in Together(follower, leader).steps(range(3), ("state", "gradients")):
        same_arrays(dict(pair.candidate.state), dict(pair.reference.state))
        spoilt = {key: value + 1 if value.dtype.kind == "f" else value for key, value in follower.stack.state().items()}
        follower.stack.load_state(spoilt)
    alone = live(narrow, digits)
    free = [alone.step(number, ("state",)) for number in range(3)]
    same_arrays(dict(free[2].state), dict(pair.reference.state))


def test_a_live_leader_that_is_asked_out_of_order_is_refused(narrow, digits) -> None:
    together = Together(live(narrow, digits), live(narrow, digits))
    together.lead(0, ("state",))
    with pytest.raises(ConfigError, match="torch stands before step 1, not 2"):
        together.lead(2, ("state",))


def test_a_recording_without_states_is_refused_in_words(narrow, digits, tmp_path) -> None:
    trace = recorded(narrow, digits, tmp_path / "t", ("gradients",))
    with pytest.raises(TraceError):
        list(Together(live(narrow, digits), trace).steps(range(2), EVERYTHING))


@pytest.mark.parametrize(("dtype", "imposed"), [("float32", True), ("float64", False)])
def test_patterns_are_imposed_in_float32_alone(dtype: str, imposed: bool, narrow, digits, monkeypatch) -> None:
    follower, leader = live(narrow, digits, dtype), live(narrow, digits, dtype)
    seen: list[Any] = []
    step = TorchStack.step

    def watched(stack: TorchStack, *arguments: Any, **how: Any) -> Any:
        if stack is follower.stack:
            seen.append(how["impose"])
        return step(stack, *arguments, **how)

    monkeypatch.setattr(TorchStack, "step", watched)
    (pair,) = Together(follower, leader).steps(range(1), ("patterns", "state"))
    assert len(seen) == 1
    assert (seen[0] is pair.imposed) == imposed
    assert len(pair.imposed) == 9


def test_the_referee_takes_a_float32_state_widened(narrow, digits) -> None:
    state = TorchStack(narrow).state()
    wide = live(narrow, digits).step(0, ("state",), before=state)
    assert wide.state["parameter/generator.conv1.weight"].dtype == np.float64
    assert {str(value.dtype) for value in state.values()} == {"float32", "int64"}


def test_the_follower_sees_the_batches_and_draws_of_its_step(narrow, digits) -> None:
    """A step number picks both; the same state at another number is another step."""
    side = live(narrow, digits)
    before = side.stack.state()
    first = side.step(0, ("gradients",), before)
    assert side.step(0, ("gradients",), before).batch_sha256 == first.batch_sha256
    other = side.step(1, ("gradients",), before)
    assert other.batch_sha256 != first.batch_sha256
    assert not np.array_equal(other.loss["generator"], first.loss["generator"])
