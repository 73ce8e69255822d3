"""Two sides of a comparison: who leads, who follows, from which state, and which other stacks a side has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_runs import EVERYTHING, config, live, planted, traced, turned

from pygan.data import load
from pygan.errors import ConfigError, TraceError
from pygan.parity.sides import Live, Recorded, Together, same_bits, words_of
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter


def recorded(folder: Path, words: tuple[str, ...] = EVERYTHING, **how: Any) -> Recorded:
    return Recorded(traced(folder, words=words, every=0, **how))


def unled(side: Live) -> Live:
    """A live side that nothing can be forced on, as Flux is."""
    side.title = "flux"
    return side


def test_a_recording_leads_and_the_live_side_follows_whatever_their_roles(tmp_path: Path) -> None:
    trace, torch = recorded(tmp_path / "t"), live()
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


def test_of_two_live_sides_that_leads_which_cannot_be_led_else_the_reference() -> None:
    one, other = live(), live()
    assert Together(one, other).leader is other
    assert Together(unled(one), other).leader is one
    assert Together(other, one).leader is one


def test_two_sides_that_cannot_be_led_are_refused(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t")
    for pair in ((trace, trace), (trace, unled(live())), (unled(live()), trace)):
        with pytest.raises(ConfigError, match="neither side is a live torch stack"):
            Together(*pair)


def test_every_step_of_the_follower_starts_from_the_leaders_state(same_arrays) -> None:
    """Also when the follower's own way would lead elsewhere: it is spoilt between the steps."""
    follower, leader = live(), live()
    for pair in Together(follower, leader).steps(range(3), ("state", "gradients")):
        same_arrays(dict(pair.candidate.state), dict(pair.reference.state))
        spoilt = {key: value + 1 if value.dtype.kind == "f" else value for key, value in follower.stack.state().items()}
        follower.stack.load_state(spoilt)
    alone = live()
    free = [alone.step(number, ("state",)) for number in range(3)]
    same_arrays(dict(free[2].state), dict(pair.reference.state))


def test_a_live_leader_that_is_asked_out_of_order_is_refused() -> None:
    together = Together(live(), live())
    together.lead(0, ("state",))
    with pytest.raises(ConfigError, match="torch is at step 1, not at 2"):
        together.lead(2, ("state",))


def test_a_recording_without_states_is_refused_in_words(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t", ("gradients",))
    with pytest.raises(TraceError, match="stores no full state before step 1"):  # step 0: the live side's own start
        list(Together(live(), trace).steps(range(2), EVERYTHING))


def test_the_first_step_starts_from_the_live_state_where_digests_of_it_were_recorded(
    tmp_path: Path, same_arrays
) -> None:
    trace, torch = recorded(tmp_path / "t", ("sketches",)), live()
    torch.step(0)
    (pair,) = Together(torch, trace).steps(range(1), EVERYTHING)
    same_arrays(pair.before, live().stack.state())
    with pytest.raises(TraceError, match="no full state before step 1"):
        list(Together(torch, trace).steps(range(1, 2), EVERYTHING))


def test_a_float32_state_is_widened_for_a_float64_stack() -> None:
    state = TorchStack(config("float32")).state()
    wide = live().step(0, ("state",), before=state)
    assert wide.state["parameter/generator.conv1.weight"].dtype == np.float64
    assert {str(value.dtype) for value in state.values()} == {"float32", "int64"}


def test_the_follower_sees_the_batches_and_draws_of_its_step() -> None:
    """A step number picks both; the same state at another number is another step."""
    side = live()
    before = side.stack.state()
    first = side.step(0, ("gradients",), before)
    assert side.step(0, ("gradients",), before).batch_sha256 == first.batch_sha256
    other = side.step(1, ("gradients",), before)
    assert other.batch_sha256 != first.batch_sha256
    assert not np.array_equal(other.loss["generator"], first.loss["generator"])


# --- a side's other stacks ---------------------------------------------------------------------------------------


def test_a_sides_other_stacks_have_its_faults_and_leave_its_run_alone(same_arrays) -> None:
    side = live("float32", turned)
    before = side.stack.state()
    other = side.spare
    assert other.stack is not side.stack
    assert type(other.stack) is type(side.stack)
    own = side.step(0, EVERYTHING)
    same_arrays(other.step(0, EVERYTHING, before).to_arrays(), own.to_arrays())
    other.step(1)
    assert int(side.stack.state()["step"]) == 1
    wide = side.in_float64
    assert wide.config == side.config.replace(dtype="float64")
    right = live("float64").step(0, EVERYTHING, before)
    wrong = side.twin_step(0, EVERYTHING, before)
    assert wrong is not None
    gaps = {
        name: np.linalg.norm(right.logits[name] - wrong.logits[name]) / np.linalg.norm(right.logits[name])
        for name in right.logits
    }
    assert gaps["real"] > 1e-3, "the twin has the fault too"
    np.testing.assert_allclose(own.logits["real"], wrong.logits["real"], rtol=1e-3)


def test_a_float64_side_is_its_own_twin_and_by_name_another_stack_is_made() -> None:
    side = live()
    assert side.in_float64 is side
    named = Live(FastTorchStack(config("float32")), load("digits", limit=14))
    assert named.title == "torch-fast"
    assert (named.spare.title, type(named.spare.stack)) == ("torch-fast", FastTorchStack)
    assert (named.in_float64.title, named.in_float64.config.dtype) == ("torch-fast", "float64")


def test_closing_a_side_closes_its_other_stacks() -> None:
    closed: list[str] = []

    class Closing(planted()):  # type: ignore[misc]
        def close(self) -> None:
            closed.append(self.config.dtype)

    def made(dtype: str) -> Live:
        return Live(Closing(config(dtype)), load("digits", limit=14), Closing)

    side = made("float32")
    side.spare.step(0)
    side.in_float64.step(0)
    side.close()
    assert sorted(closed) == ["float32", "float32", "float64"]
    closed.clear()
    alone = made("float64")
    assert alone.in_float64 is alone
    alone.close()
    assert closed == ["float64"], "once"


def test_a_float32_recordings_float64_run_is_the_one_beside_it(tmp_path: Path) -> None:
    narrow = recorded(tmp_path / "a", dtype="float32")
    assert narrow.in_float64 is None
    recorded(tmp_path / "of another seed", dtype="float64", seed=3)
    recorded(tmp_path / "on other images", dtype="float64", images=22)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "trace.json").write_text("{}")
    assert Recorded(narrow.trace).in_float64 is None
    wide = recorded(tmp_path / "wide", dtype="float64", threads=2)
    found = Recorded(narrow.trace).in_float64
    assert found is not None
    assert found.trace.folder == wide.trace.folder
    assert wide.in_float64 is wide


def test_both_sides_in_float64_or_none(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "a" / "t", dtype="float32")
    assert Together(live("float32"), trace).in_float64 is None
    both = Together(live("float32"), live("float32")).in_float64
    assert both is not None
    assert {side.config.dtype for side in (both.candidate, both.reference)} == {"float64"}
    wide = Together(live(), live())
    assert wide.in_float64 is wide


# --- small parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [("logits",), ("gradients", "state"), ("patterns",), ("layers",), ("sketches",), ("layer_sketches",), EVERYTHING],
)
def test_what_a_record_holds_tells_what_was_asked_for(asked: tuple[str, ...], tmp_path: Path) -> None:
    record = live().step(0, asked)
    assert set(words_of(record)) == set(asked)
    with TraceWriter(tmp_path / "t", recorded(tmp_path / "h").trace.header) as writer:
        writer.write(record)
    assert set(words_of(Trace(tmp_path / "t").record(0))) == set(asked)
    assert words_of(StepRecord(0)) == []


def test_bits_are_those_of_value_shape_and_dtype() -> None:
    one = np.array([1.0, -0.0, np.nan])
    assert same_bits(one, one.copy())
    assert not same_bits(one, np.array([1.0, 0.0, np.nan]))
    assert not same_bits(one, one.astype(np.float32))
    assert not same_bits(one, one[None])
