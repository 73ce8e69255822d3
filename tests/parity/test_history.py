"""Faults that live outside the state: what is carried from step to step, and what no two runs do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from lowered import layer_of
from parity_runs import Plant, live, offered, planted, replay_of, stepped
from run_pygan import Pygan
from torch.nn import functional as F

from pygan.parity.history import CARRIED, NONE, RANDOM, first_unlike, history_of
from pygan.parity.locate import FULL_CAPTURE
from pygan.parity.sides import Live, Pair, Together
from pygan.parity.spot import look
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State


def not_reset(stack: TorchStack) -> None:
    """Gradients are set to zero after the update in place of before it: what the other network's loss leaves stays."""
    for optimiser in stack.optimisers.values():
        step, reset = optimiser.step, optimiser.zero_grad

        def then_reset(step: Any = step, reset: Any = reset) -> None:
            step()
            reset()

        optimiser.step = then_reset
        optimiser.zero_grad = lambda *_: None


def scheduled(stack: TorchStack) -> None:
    """A learning rate that halves with the fourth update, by a count that no state holds."""
    optimiser = stack.optimisers["generator"]
    rate, step, taken = optimiser.param_groups[0]["lr"], optimiser.step, []

    def count_and_step() -> None:
        taken.append(1)
        optimiser.param_groups[0]["lr"] = rate / 2 if len(taken) > 3 else rate
        step()

    optimiser.step = count_and_step


def unkeyed(stack: TorchStack) -> None:
    """A dropout that draws from torch's own generator."""
    drop: Any = layer_of(stack, "discriminator.drop1")
    own = drop.forward
    drop.forward = lambda x: F.dropout(x, drop.p, True) if drop.training else own(x)


CARRIERS: dict[str, tuple[Plant, int, str]] = {
    "gradients not reset": (not_reset, 1, "gradient/discriminator/discriminator.conv1.weight"),
    "schedule": (scheduled, 3, "state/parameter/generator.dense.weight"),
}


@pytest.mark.parametrize("what", CARRIERS)
def test_what_is_carried_over_is_told_at_the_step_where_it_first_shows(what: str) -> None:
    plant, at, key = CARRIERS[what]
    assert stepped(live(plant=plant), live(), at).diagnosis() is None, "the steps before agree"
    found = stepped(live(plant=plant), live(), at + 2).diagnosis()
    assert found is not None
    assert (found.step, found.key) == (at, key)
    assert found.cause.name == CARRIED
    assert "a fresh stack makes another" in found.cause.detail
    assert "the same after the earlier steps" in found.cause.detail
    assert found.difference.relative > 1e-5


@pytest.mark.parametrize("what", CARRIERS)
def test_in_float32_it_is_seen_at_the_same_step(what: str) -> None:
    plant, at, key = CARRIERS[what]
    stepping = stepped(live("float32", plant), live("float32"), at + 1)
    assert stepping.incorrect == at
    found = stepping.diagnosis()
    assert found is not None
    assert (found.step, found.key) == (at, key)


def test_the_reference_may_be_the_one_that_carries_something() -> None:
    plant, at, key = CARRIERS["schedule"]
    found = stepped(live(), live(plant=plant), at + 1).diagnosis()
    assert found is not None
    assert (found.step, found.key) == (at, key)


def test_randomness_without_a_key_is_not_deterministic() -> None:
    found = stepped(live(plant=unkeyed), live(), 2).diagnosis()
    assert found is not None
    assert (found.step, found.cause.name) == (0, RANDOM)
    assert found.key == "activation/real/discriminator.drop1"
    assert "two runs of the same steps from the same states differ in" in found.cause.detail


@pytest.mark.parametrize("what", CARRIERS)
def test_the_spot_shows_the_difference_that_the_run_had(what: str) -> None:
    plant, at, key = CARRIERS[what]
    found = stepped(live(plant=plant), live(), at + 1).diagnosis()
    assert found is not None
    spot = look(live(plant=plant), live(), at, key)
    assert spot.lines == (str(found),)
    place, _, mine, theirs = spot.elements[0]
    assert place == found.difference.worst
    assert (mine, theirs) == found.difference.values
    assert mine != theirs
    assert look(live(plant=plant), live(), at, "").title.startswith(key), "without a key it is the culprit"


@pytest.mark.parametrize("what", CARRIERS)
def test_the_printed_replay_shows_it_too(what: str, pygan: Pygan, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, at, key = CARRIERS[what]
    offered(monkeypatch, planted(plant))
    code, out, err = pygan("parity", "torch-faulty", "torch", "--samples", 14, "--steps", at + 1, "--levels", "7")
    assert (code, err) == (1, "")
    assert f"step {at}: first difference at {key}" in out
    assert f"probable cause: {CARRIED}" in out
    (told,) = [line for line in out.splitlines() if line.startswith(f"  {key} ")]
    replay = replay_of(out)
    assert replay[-4:] == ["--step", str(at), "--tensor", key]
    code, again, err = pygan(*replay)
    assert (code, err) == (0, "")
    assert told in again
    (first, *_) = [line for line in again.splitlines() if line.count("│") == 4 and "[" in line]
    assert float(first.rpartition("│")[2]) != 0


# --- by itself ---------------------------------------------------------------------------------------------------


def taken(side: Live, number: int) -> tuple[Together, Pair, Mapping[int, State]]:
    """The follower's steps up to ``number`` from the states of a run, as a pass takes them."""
    together, befores = Together(side, live()), {}
    for pair in together.steps(range(number + 1), FULL_CAPTURE):
        befores[pair.step] = pair.before
    return together, pair, befores


def test_a_step_that_a_fresh_stack_repeats_has_no_history() -> None:
    assert history_of(*taken(live(), 2)) == (NONE, "")


def test_without_the_earlier_states_it_is_said_that_they_were_not_kept() -> None:
    together, pair, befores = taken(live(plant=not_reset), 2)
    assert history_of(together, pair, befores)[0] == CARRIED
    word, told = history_of(together, pair, {0: befores[0], 2: befores[2]})
    assert word == CARRIED
    assert "earlier states were not kept" in told


def test_records_are_alike_to_the_last_bit_or_not() -> None:
    one = StepRecord(0, loss={"a": np.array(1.0)}, state={"parameter/x": np.array([0.0, 1.0])})
    same = StepRecord(0, loss={"a": np.array(1.0)}, state={"parameter/x": np.array([0.0, 1.0])})
    other = StepRecord(0, loss={"a": np.array(1.0)}, state={"parameter/x": np.array([-0.0, 1.0])})
    assert first_unlike(one, same) == ""
    assert first_unlike(one, other) == "state/parameter/x"
