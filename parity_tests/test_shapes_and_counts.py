"""Claim: both stacks hold the same tensors, with the published counts, names, shapes and layouts."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import config, recorded, torch_like

from pygan.stacks.torch_stack import TorchStack
from pygan.state import check_same_layout

PUBLISHED = {"discriminator": 138_561, "generator": 2_231_168}


def counts(state: dict[str, np.ndarray]) -> dict[str, int]:
    sizes = dict.fromkeys(PUBLISHED, 0)
    for key, value in state.items():
        group, _, path = key.partition("/")
        if group == "parameter":
            sizes[path.partition(".")[0]] += value.size
    return sizes


def test_torch_has_the_published_parameter_counts() -> None:
    assert counts(TorchStack(config("full")).state()) == PUBLISHED


@pytest.mark.parametrize("name", ["flux-narrow-float32", "flux-narrow-float64", "flux-narrow-as-printed"])
def test_recorded_flux_state_has_torch_names_shapes_and_dtypes(name: str) -> None:
    trace = recorded(name)
    check_same_layout(trace.initial_state(), torch_like(trace).state(), f"the initial state of {name}")


@pytest.mark.live
@pytest.mark.parametrize("width", ["narrow", "full"])
def test_live_flux_has_the_same_tensors_rules_and_initial_values(width: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    flux, torch = live_flux(config(width)), TorchStack(config(width))
    assert flux.rules() == torch.rules()
    mine, theirs = torch.state(), flux.state()
    check_same_layout(theirs, mine, "live Flux")
    for key, value in mine.items():
        np.testing.assert_array_equal(theirs[key], value, err_msg=key)
    if width == "full":
        assert counts(theirs) == PUBLISHED


@pytest.mark.parametrize("name", ["flux-narrow-float32", "flux-narrow-float64"])
def test_recorded_initial_weights_are_bit_equal(name: str) -> None:
    trace = recorded(name)
    mine = torch_like(trace).state()
    for key, value in trace.initial_state().items():
        np.testing.assert_array_equal(value, mine[key], err_msg=key)
