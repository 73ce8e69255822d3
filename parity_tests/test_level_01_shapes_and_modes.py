"""Level 1: the same tensors and counts, and at every call the same layers in the same order and modes.

``python parity_tests/test_level_01_shapes_and_modes.py`` records the classifier's trace, which stands for Flux
where there is none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import config, recorded, torch_like
from tiny_classifier import TinyClassifierConfig

from pygan.config import RunConfig
from pygan.data import load
from pygan.parity.structure import (
    ModeCheck,
    compare_calls,
    compare_counts,
    compare_modes,
    compare_rules,
    compare_taps,
    compare_tensor_names,
    mode_table,
)
from pygan.recipes import config_from_dict
from pygan.recording import record as record_run
from pygan.records import StepRecord
from pygan.stacks import Stack
from pygan.stacks.torch_run import Run
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import train

TRACES = Path(__file__).with_name("traces")
GAN, CLASSIFIER = TRACES / "flux-tiny-layers", TRACES / "flux-tiny-classifier"
PUBLISHED = {"discriminator": 138_561, "generator": 2_231_168}
ACTIVATIONS = ("relu", "leakyrelu", "tanh")


def activations_of(stack: TorchStack) -> set[str]:
    return {path for path, spec in stack.layers().items() if spec.kind in ACTIVATIONS}


def assert_ok(checks: Any, at_least: int = 1) -> None:
    assert len(checks) >= at_least
    assert not (bad := [str(check) for check in checks if not check.ok]), "\n".join(bad)


def torch_steps(wanted: RunConfig, images: int, steps: int) -> tuple[TorchStack, list[StepRecord]]:
    stack = TorchStack(wanted)
    return stack, list(train(stack, load("digits", limit=images), steps, capture=lambda step: ("layers",)))


def assert_same_steps(torch: TorchStack, mine: list[StepRecord], theirs: list[StepRecord], calls: int) -> None:
    for one, other in zip(mine, theirs, strict=True):
        through = compare_calls(one, other, activations_of(torch))
        assert_ok(through, calls)
        modes = compare_modes(one, other, torch.rules())
        assert_ok(modes, 2)
        assert len(mode_table(modes)) == len(modes) + 1
        if other.activation:
            assert_ok(compare_taps(one, other), sum(len(call.common) for call in through))


def modes_by_call(checks: list[ModeCheck]) -> dict[tuple[str, str], set[bool | None]]:
    found: dict[tuple[str, str], set[bool | None]] = {}
    for check in checks:
        found.setdefault((check.call, check.layer.partition(".")[0]), set()).add(check.reference)
    return found


PUBLISHED_MODES = {
    ("sample", "generator"): {False},
    ("real", "discriminator"): {True},
    ("fake", "discriminator"): {True},
    ("generator", "generator"): {True},
    ("generator", "discriminator"): {True},
}
"""What Flux does by itself: train mode inside a gradient and only there."""


@pytest.mark.parametrize("name", ["flux-narrow-float32", "flux-narrow-float64", "flux-narrow-as-printed"])
def test_recorded_states_hold_the_tensors_of_the_port(name: str) -> None:
    trace = recorded(name)
    mine, theirs = torch_like(trace).state(), trace.initial_state()
    assert_ok(compare_tensor_names(mine, theirs), 57)
    assert_ok(compare_counts(mine, theirs), 2)
    first, gradients = trace.record(0), {"fixed": 16, "as_printed": 6}[trace.header.config["semantics"]]
    assert len(first.gradient) == gradients
    parameters = {key: mine[f"parameter/{key.rpartition('/')[2]}"] for key in first.gradient}
    assert_ok(compare_tensor_names(first.gradient, parameters))


def test_the_port_has_the_published_counts() -> None:
    state = TorchStack(config("full")).state()
    assert_ok(compare_counts(state, state, PUBLISHED), 2)


def test_recorded_calls_layers_and_modes_are_those_of_the_port() -> None:
    trace = Trace(GAN)
    torch, mine = torch_steps(config_from_dict(trace.header.config), 8, 3)
    theirs = [trace.record(step) for step in range(3)]
    assert {len(one.activation["real/discriminator.input"]) for one in mine} == {2, 3}, "a partial batch is among them"
    assert_same_steps(torch, mine, theirs, 5)
    for one in theirs:
        assert modes_by_call(compare_modes(one, one)) == PUBLISHED_MODES


def test_recorded_layers_of_a_recipe_that_is_no_gan_agree_too() -> None:
    trace = Trace(CLASSIFIER)
    torch, mine = torch_steps(config_from_dict(trace.header.config), 5, 2)
    assert_ok(compare_tensor_names(torch.state(), trace.record(1).state), 25)
    assert_same_steps(torch, mine, list(trace), 1)


@pytest.mark.parametrize(
    ("call", "train"), [("sample", True), ("real", False), ("generator", False)], ids=["sample", "real", "generator"]
)
def test_a_call_in_the_wrong_mode_would_be_seen(call: str, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    published = Run.call
    monkeypatch.setattr(
        Run,
        "call",
        lambda run, name, network, x, *, train: published(run, name, network, x, train=train != (name == call)),
    )
    trace = Trace(GAN)
    torch, mine = torch_steps(config_from_dict(trace.header.config), 8, 1)
    bad = [check for check in compare_modes(mine[0], trace.record(0), torch.rules()) if not check.ok]
    assert bad
    assert all(check.call == call and check.candidate is train for check in bad)


def test_a_call_or_layer_that_is_left_out_would_be_seen() -> None:
    trace = Trace(GAN)
    theirs = trace.record(0)
    torch, mine = torch_steps(config_from_dict(trace.header.config), 8, 1)
    for lost in (
        "fake/discriminator",
        "real/discriminator.leaky1",
        "real/discriminator.drop2",
        "generator/generator.relu1",
    ):
        fewer = replace(mine[0], order=tuple(key for key in mine[0].order if not key.startswith(f"activation/{lost}")))
        bad = [check for check in compare_calls(fewer, theirs, activations_of(torch)) if not check.ok]
        assert len(bad) == 1, lost
        assert lost.startswith(bad[0].call)


@pytest.mark.live
@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
def test_live_steps_go_through_the_same_layers_in_the_same_modes(semantics: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config("narrow", semantics=semantics)
    assert_live_agrees(live_flux(wanted), wanted, 5 if semantics == "fixed" else 4)


@pytest.mark.live
def test_live_steps_of_a_recipe_that_is_no_gan_agree_too(live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = TinyClassifierConfig(threads=1)
    assert_live_agrees(live_flux(wanted), wanted, 1)


def assert_live_agrees(flux: Stack, wanted: RunConfig, calls: int) -> None:
    torch, mine = torch_steps(wanted, 14, 2)
    assert_ok(compare_tensor_names(torch.state(), flux.state()), 20)
    assert_ok(compare_counts(torch.state(), flux.state()))
    assert_ok(compare_rules(torch.rules(), flux.rules()), 8)
    theirs = list(train(flux, load("digits", limit=14), 2, capture=lambda step: ("layers",)))
    assert_same_steps(torch, mine, theirs, calls)


def record_trace() -> None:
    """Real Flux: everything of two steps of the classifier, the second with a partial batch."""
    from pygan.stacks.flux_stack import FluxStack

    command = f"python parity_tests/{Path(__file__).name}"
    flux, data = FluxStack(TinyClassifierConfig(width=2, batch=3, dtype="float64", threads=1)), load("digits", limit=5)
    everything = ("logits", "gradients", "patterns", "state", "layers")
    for _ in record_run(flux, data, 2, CLASSIFIER, command=command, capture=lambda step: everything):
        pass
    flux.close()


if __name__ == "__main__":
    record_trace()
