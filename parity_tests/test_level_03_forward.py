"""Level 3: from the same state every layer's output agrees, in train and in eval mode, layer by layer (Float64)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from compared_runs import batches, config, schedule_of
from tiny_classifier import TinyClassifierConfig

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.parity.compare import Difference, compare_tensors
from pygan.parity.tolerances import FLOAT64_STEP
from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.stacks import Stack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

TRACES = Path(__file__).with_name("traces")
RECORDED = {"GAN": "flux-tiny-layers", "no GAN": "flux-tiny-classifier"}
CAPTURE = ("layers", "state")


def taps(candidate: StepRecord, reference: StepRecord) -> list[Difference]:
    """Outputs that both stacks have, in the order in which the candidate computed them; what entered a call too."""
    keys = [key.removeprefix("activation/") for key in candidate.order if key.startswith("activation/")]
    both = [key for key in keys if key in reference.activation]
    return [compare_tensors(key, candidate.activation[key], reference.activation[key]) for key in both]


def outside(candidate: StepRecord, reference: StepRecord) -> list[Difference]:
    return [one for one in taps(candidate, reference) if one.fault or not one.relative <= FLOAT64_STEP]


def assert_layers_agree(candidate: StepRecord, reference: StepRecord, least: int) -> None:
    bad = outside(candidate, reference)
    assert not bad, "first in order of application:\n" + "\n".join(map(str, bad[:5]))
    assert len(taps(candidate, reference)) >= least
    lost = reference.activation.keys() - candidate.activation.keys()
    assert not lost, f"Flux has outputs that the port does not: {sorted(lost)}"


def layers_by_mode(record: StepRecord) -> dict[str, set[str]]:
    """Layers seen in train mode (inside a gradient) and in eval mode."""
    trained = {key.rpartition(".")[0] for key in record.activation_gradient}
    found: dict[str, set[str]] = {"train": set(), "eval": set()}
    for key in record.activation:
        found["train" if key.rpartition(".")[0] in trained else "eval"].add(key.partition("/")[2])
    return found


def recorded_steps(name: str) -> Iterator[tuple[TorchStack, StepRecord, np.ndarray]]:
    """A torch stack at the recorded state, the recorded step, and its batch."""
    trace = Trace(TRACES / RECORDED[name])
    torch, schedule = TorchStack(config_from_dict(trace.header.config)), schedule_of(trace)
    for step in trace.steps:
        theirs = trace.record(step)
        if theirs.activation:
            torch.load_state(trace.state_before(step))
            yield torch, theirs, schedule[step]


@pytest.mark.parametrize(("name", "least"), [("GAN", 40), ("no GAN", 6)])
def test_every_recorded_output_of_flux_is_the_ports(name: str, least: int) -> None:
    sizes, drawn = set(), set()
    for torch, theirs, batch in recorded_steps(name):
        mine = torch.step(batch, Draws(torch.config.seed).at(theirs.step), CAPTURE)
        assert_layers_agree(mine, theirs, least)
        sizes.add(len(batch))
        drawn.add(theirs.step)
    assert len(drawn) >= 2
    assert len(sizes) == 2, "a partial batch is among them"


def test_recorded_layers_are_seen_in_the_modes_in_which_the_recipe_uses_them() -> None:
    """Flux records what its Chain has: a BatchNorm with its relu and a convolution with its tanh are one layer."""
    generator = {"input", "dense", "relu1", "unflatten", "conv1", "relu2", "conv2", "relu3", "tanh"}
    discriminator = {"input", "conv1", "leaky1", "drop1", "conv2", "leaky2", "drop2", "flatten", "dense"}
    both = {f"generator.{name}" for name in generator}, {f"discriminator.{name}" for name in discriminator}
    for _, theirs, _ in recorded_steps("GAN"):
        assert layers_by_mode(theirs) == {"eval": both[0], "train": both[0] | both[1]}


PLACES = [
    f"{network}.{path}"
    for network, one in TorchStack(config("narrow", "float64")).networks.items()
    for path, _ in one.named_children()
]


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_that_is_off_by_1e_9_would_be_seen_there(place: str) -> None:
    """The first output outside is that layer's, or that of the layer which it is one with in Flux."""
    torch, theirs, batch = next(recorded_steps("GAN"))
    network, _, path = place.partition(".")
    layer = torch.networks[network].get_submodule(path)
    hook = layer.register_forward_hook(lambda layer, inputs, output: output * (1 + 1e-9))
    try:
        bad = outside(torch.step(batch, Draws(torch.config.seed), CAPTURE), theirs)
    finally:
        hook.remove()
    order = [one for one in PLACES if one.startswith(network)]
    expected = next(
        (one for one in order[order.index(place) :] if any(key.endswith(one) for key in theirs.activation)), None
    )
    assert bad, f"{place} went unseen"
    assert bad[0].key.partition("/")[2] == expected
    assert bad[0].relative == pytest.approx(1e-9, rel=0.5)


@pytest.mark.live
@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        (config("narrow", "float64"), 40),
        (config("narrow", "float64", semantics="as_printed"), 30),
        (config("full", "float64"), 40),
        (TinyClassifierConfig(dtype="float64", threads=1), 6),
    ],
    ids=["narrow", "as printed", "full width", "no GAN"],
)
def test_every_output_of_live_flux_is_the_ports(wanted: RunConfig, least: int, live_flux) -> None:  # type: ignore[no-untyped-def]
    flux: Stack = live_flux(wanted)
    torch = TorchStack(wanted)
    for step, batch in enumerate(batches("full" if wanted.width == 64 else "narrow", 2)):
        theirs = flux.step(batch, Draws(wanted.seed).at(step), CAPTURE)
        mine = torch.step(batch, Draws(wanted.seed).at(step), CAPTURE)
        assert_layers_agree(mine, theirs, least)
        torch.load_state(theirs.state)
