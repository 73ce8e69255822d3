"""Level 10, the learning gate: both networks moved, gradients are not zero, losses and pictures change.

The published loop is reported as what it is: its generator never updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from compared_runs import config, recorded
from tiny_classifier import TinyClassifierConfig

from pygan.config import RunConfig
from pygan.data import load
from pygan.parity.learning import (
    NEVER_UPDATED,
    TRAINED,
    LearningCheck,
    LossLearning,
    NetworkLearning,
    PictureLearning,
    learning_gate,
)
from pygan.stacks import Stack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import train

CLASSIFIER = Path(__file__).with_name("traces") / "flux-tiny-classifier"
BOTH = ("discriminator", "generator")
STEPS = 4


def networks(checks: Sequence[LearningCheck]) -> dict[str, NetworkLearning]:
    return {check.network: check for check in checks if isinstance(check, NetworkLearning)}


def pictures(checks: Sequence[LearningCheck]) -> PictureLearning:
    (only,) = (check for check in checks if isinstance(check, PictureLearning))
    return only


def losses(checks: Sequence[LearningCheck]) -> dict[str, LossLearning]:
    return {check.loss: check for check in checks if isinstance(check, LossLearning)}


def gate(stack: Stack, picture_every: int = 0) -> list[LearningCheck]:
    wanted = stack.config
    initial = stack.state()
    records = train(
        stack, load("digits", limit=30), STEPS, picture_every=picture_every, capture=lambda step: ("gradients", "state")
    )
    return learning_gate(records, initial, wanted.networks, getattr(wanted, "grid", 0))


def assert_trained(checks: Sequence[LearningCheck], names: tuple[str, ...], tensors: tuple[int, ...]) -> None:
    assert not (bad := [str(check) for check in checks if not check.ok]), "\n".join(bad)
    found = networks(checks)
    assert tuple(found) == names
    assert tuple(len(one.moved) for one in found.values()) == tensors
    assert all(
        one.verdict == TRAINED and one.steps == one.with_gradient > 0 and one.change > 0 for one in found.values()
    )


def assert_generator_never_updated(checks: Sequence[LearningCheck], steps: int) -> None:
    bad = [str(check) for check in checks if not check.ok]
    assert len(bad) == 2
    gradients = f"a gradient in 0 of {steps} steps recorded"
    assert bad[0] == f"generator never updated: all of its 10 tensors are as they were; {gradients}"
    assert bad[1].endswith("(what they were at first)")
    found = networks(checks)
    assert found["generator"].verdict == NEVER_UPDATED
    assert found["discriminator"].verdict == TRAINED


# --- real Flux, recorded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flux-narrow-float32", "flux-narrow-float64"])
def test_recorded_narrow_runs_learned(name: str) -> None:
    trace = recorded(name)
    checks = learning_gate(trace, trace.initial_state(), BOTH, trace.header.config["grid"])
    assert_trained(checks, BOTH, (6, 10))
    assert losses(checks).keys() == set(BOTH)
    assert pictures(checks).step == trace.training_steps


def test_recorded_full_width_run_learned_as_its_losses_and_pictures_say() -> None:
    trace = recorded("flux-full-digits-pictures")
    checks = learning_gate(trace, None, BOTH, trace.header.config["grid"])
    assert {str(check) for check in checks if not check.ok} == {
        f"{name}: the records hold no two states of it to compare" for name in BOTH
    }
    assert losses(checks)["discriminator"].low < 0.5 * losses(checks)["discriminator"].first
    assert pictures(checks).contrast > 1.9, "strokes from black to white"


def test_recorded_published_loop_is_reported_as_generator_never_updated() -> None:
    trace = recorded("flux-narrow-as-printed")
    assert_generator_never_updated(learning_gate(trace, trace.initial_state(), BOTH, trace.header.config["grid"]), 2)


def test_recorded_run_of_a_recipe_that_is_no_gan_learned() -> None:
    trace = Trace(CLASSIFIER)
    checks = learning_gate(trace, trace.initial_state(), TinyClassifierConfig.networks)
    assert_trained(checks, ("classifier",), (7,))
    assert [type(check) for check in checks] == [NetworkLearning, LossLearning], "it draws no pictures"


# --- the port, and real Flux live ----------------------------------------------------------------------------------


def test_the_port_learns() -> None:
    assert_trained(gate(TorchStack(config("narrow")), 2), BOTH, (6, 10))


def test_the_published_loop_in_the_port_is_reported_as_generator_never_updated() -> None:
    assert_generator_never_updated(gate(TorchStack(config("narrow", semantics="as_printed")), 2), STEPS)


def test_the_port_of_a_recipe_that_is_no_gan_learns_its_task() -> None:
    stack = TorchStack(TinyClassifierConfig(threads=1))
    assert_trained(gate(stack), ("classifier",), (7,))
    longer = train(TorchStack(TinyClassifierConfig(threads=1)), load("digits", limit=2_400), 300)
    late = [float(one.loss["classifier"]) for one in longer][-50:]
    assert np.mean(late) < 0.6, "chance is log 2 = 0.69; zeros, ones and eights look the same when turned"


@pytest.mark.live
@pytest.mark.parametrize(
    ("wanted", "names", "tensors"),
    [
        (config("narrow"), BOTH, (6, 10)),
        (config("narrow", "float64"), BOTH, (6, 10)),
        (TinyClassifierConfig(threads=1), ("classifier",), (7,)),
    ],
    ids=["narrow", "narrow-float64", "no GAN"],
)
def test_live_flux_learns(wanted: RunConfig, names: tuple[str, ...], tensors: tuple[int, ...], live_flux) -> None:  # type: ignore[no-untyped-def]
    assert_trained(gate(live_flux(wanted), 2 if "generator" in names else 0), names, tensors)


@pytest.mark.live
def test_the_published_loop_in_live_flux_is_reported_as_generator_never_updated(live_flux) -> None:  # type: ignore[no-untyped-def]
    assert_generator_never_updated(gate(live_flux(config("narrow", semantics="as_printed")), 2), STEPS)
