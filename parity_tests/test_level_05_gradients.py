"""Level 5: the gradient with respect to every layer's output agrees, and is handed on by every layer (Float64).

Gradients of the parameters are compared with the whole step, in ``test_one_step_float64.py`` and
``test_teacher_forced_float32.py``.
"""

from __future__ import annotations

import pytest
from compared_runs import batches, config
from test_level_03_forward import PLACES, recorded_steps
from tiny_classifier import TinyClassifierConfig
from torch import Tensor, nn

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.parity.compare import Difference, compare_tensors
from pygan.parity.judge import Cancelling
from pygan.parity.tolerances import FLOAT64_STEP
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

CAPTURE = ("layers", "gradients", "state")


def compared(candidate: StepRecord, reference: StepRecord) -> list[Difference]:
    """Gradients with respect to outputs and parameters that both stacks have, in the order of the candidate's step."""
    mine, theirs = candidate.to_arrays(), reference.to_arrays()
    kinds = ("activation_gradient/", "gradient/")
    keys = [key for key in dict.fromkeys(candidate.order) if key.startswith(kinds) and key in theirs]
    return [compare_tensors(key, mine[key], theirs[key]) for key in keys]


def outside(candidate: StepRecord, reference: StepRecord) -> list[Difference]:
    found = compared(candidate, reference)
    may_cancel = Cancelling(found, reference.to_arrays())
    return [one for one in found if one.fault or (one.relative > FLOAT64_STEP and not may_cancel(one))]


def assert_gradients_agree(candidate: StepRecord, reference: StepRecord, least: int) -> None:
    bad = outside(candidate, reference)
    assert not bad, "first in order of the step:\n" + "\n".join(map(str, bad[:5]))
    assert len([one for one in compared(candidate, reference) if one.key.startswith("activation")]) >= least
    assert candidate.gradient.keys() == reference.gradient.keys()
    missing = reference.activation_gradient.keys() - candidate.activation_gradient.keys()
    lost = {key for key in missing if not key.endswith(".input")}  # what enters from outside trains nothing
    assert not lost, f"Flux has gradients that the port does not: {sorted(lost)}"


@pytest.mark.parametrize(("name", "least"), [("GAN", 30), ("no GAN", 5)])
def test_every_recorded_gradient_of_an_output_is_the_ports(name: str, least: int) -> None:
    steps = 0
    for torch, theirs, batch in recorded_steps(name):
        mine = torch.step(batch, Draws(torch.config.seed).at(theirs.step), CAPTURE)
        assert_gradients_agree(mine, theirs, least)
        assert all(value.any() for value in theirs.activation_gradient.values()), "no gradient is all zero"
        steps += 1
    assert steps >= 2


def test_no_gradient_reaches_the_generator_in_the_discriminators_update_or_passes_into_the_data() -> None:
    for _, theirs, _ in recorded_steps("GAN"):
        assert {key.rpartition(".")[0] for key in theirs.activation_gradient} == {
            "real/discriminator", "fake/discriminator", "generator/generator", "generator/discriminator",
        }  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_backward_pass_that_is_off_by_1e_9_would_be_seen(place: str) -> None:
    """What a layer is handed back is scaled; its own and all earlier gradients of its network must show it."""
    torch, theirs, batch = next(recorded_steps("GAN"))
    network, _, path = place.partition(".")

    def scaled(layer: nn.Module, inputs: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * (1 + 1e-9))

    hook = torch.networks[network].get_submodule(path).register_forward_hook(scaled)
    try:
        found = {one.key: one for one in outside(torch.step(batch, Draws(torch.config.seed), CAPTURE), theirs)}
    finally:
        hook.remove()
    first = next(one for one in PLACES if one.startswith(network))
    assert found[f"gradient/{network}/{first}.weight"].relative == pytest.approx(1e-9, rel=0.5)


@pytest.mark.live
@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        (config("narrow", "float64"), 30),
        (config("narrow", "float64", semantics="as_printed"), 15),
        (TinyClassifierConfig(dtype="float64", threads=1), 5),
    ],
    ids=["narrow", "as printed", "no GAN"],
)
def test_every_gradient_of_an_output_of_live_flux_is_the_ports(wanted: RunConfig, least: int, live_flux) -> None:  # type: ignore[no-untyped-def]
    flux, torch = live_flux(wanted), TorchStack(wanted)
    for step, batch in enumerate(batches("narrow", 2)):
        theirs = flux.step(batch, Draws(wanted.seed).at(step), CAPTURE)
        mine = torch.step(batch, Draws(wanted.seed).at(step), CAPTURE)
        assert_gradients_agree(mine, theirs, least)
        torch.load_state(theirs.state)
