"""Claim: in Float32 every step from Flux's state is Flux's step, within bands built on measured noise.

On/off patterns at relu and leaky relu are taken from the recorded step (a unit whose input is within rounding of zero
may have either sign), and where they differ from torch's own the flip is counted and must be admissible.
"""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import recorded, schedule_of, torch_like

from pygan.draws import Draws
from pygan.parity.bands import (
    EARLY_LOSS,
    EARLY_WEIGHTS,
    FORWARD_NOISE,
    LATE_FACTOR,
    MAX_BAND_OVER_FLOOR,
    PICTURE_FACTOR,
    REFEREE_FACTOR,
    REFEREE_NOISE,
    TENSOR_FACTOR,
    float32_band,
    floors,
    referee_floor,
)
from pygan.parity.compare import compare_records, compare_tensors, flips
from pygan.sketches import sketch
from pygan.state import widen

CAPTURE = ("logits", "gradients", "patterns", "state")


def test_recorded_narrow_steps_agree_within_the_bands() -> None:
    trace = recorded("flux-narrow-float32")
    torch, schedule = torch_like(trace), schedule_of(trace)
    compared = 0
    for step in trace.steps[:-1]:
        theirs = trace.record(step)
        torch.load_state(trace.state_before(step))
        mine = torch.step(schedule[step], Draws(0).at(step), CAPTURE, impose=theirs.pattern)
        for difference in compare_records(mine, theirs, torch.rules()):
            band = float32_band(difference.key)
            assert band.admits(difference), f"step {step}: {difference}\nband {band.relative:.1e}: {band.reason}"
            compared += 1
    assert compared == 78 * len(trace.steps[:-1])


def test_both_float32_stacks_are_equally_far_from_the_referee() -> None:
    """The port may not be further from the Float64 referee than 3 times Flux, at each tensor's worst step."""
    trace = recorded("flux-narrow-float32")
    torch, referee, schedule = torch_like(trace), torch_like(trace, dtype="float64"), schedule_of(trace)
    ours: dict[str, float] = {}
    flux: dict[str, float] = {}
    for step in trace.steps[:-1]:
        theirs, before = trace.record(step), trace.state_before(step)
        torch.load_state(before)
        referee.load_state(widen(before, "float64"))
        draws = Draws(0).at(step)
        mine = torch.step(schedule[step], draws, CAPTURE, impose=theirs.pattern)
        truth = referee.step(schedule[step], draws, CAPTURE, impose=theirs.pattern)
        for key, value in truth.gradient.items():
            for errors, stack in ((ours, mine), (flux, theirs)):
                error = compare_tensors(key, stack.gradient[key].astype(np.float64), value).relative
                errors[key] = max(error, errors.get(key, 0.0))
    assert len(ours) == 16
    for key, error in ours.items():
        assert error <= max(REFEREE_FACTOR * flux[key], REFEREE_NOISE), f"{key}: {error:.1e} against {flux[key]:.1e}"


def test_narrow_steps_have_no_flips() -> None:
    """At 4,079 parameters no unit came within rounding of zero, so nothing above rests on an imposed pattern."""
    trace = recorded("flux-narrow-float32")
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in trace.steps[:-1]:
        torch.load_state(trace.state_before(step))
        mine = torch.step(schedule[step], Draws(0).at(step), ("patterns",))
        assert not flips(mine, trace.record(step))


def test_full_width_first_step_agrees_once_flux_patterns_are_imposed() -> None:
    """One unit of 802,816 with the other sign moves whole gradients by 1e-3; with Flux's patterns they agree.

    A flip is admissible only where the Float64 referee's input of that unit is within rounding of zero.
    """
    trace = recorded("flux-full-digits")
    torch, schedule = torch_like(trace), schedule_of(trace)
    theirs = trace.record(0)
    start = torch.state()
    capture = ("logits", "gradients", "sketches", "patterns:generator")
    free = torch.step(schedule[0], Draws(0), capture)
    assert free.batch_sha256 == theirs.batch_sha256
    torch.load_state(start)
    mine = torch.step(schedule[0], Draws(0), capture, impose=theirs.pattern)
    differences = compare_records(mine, theirs, kinds=("sketch", "logits", "loss"))
    assert len(differences) > 60
    bad = [one for one in differences if not float32_band(one.key, "first_step").admits(one)]
    assert not bad, "\n".join(map(str, bad))

    found = flips(free, theirs)
    assert theirs.pattern.keys() == free.pattern.keys()
    assert sum(len(places) for places in found.values()) <= 8, found
    referee = torch_like(trace, dtype="float64")
    inputs = referee.step(schedule[0], Draws(0), look=found).kink  # over the layer's root mean square
    assert inputs.keys() == found.keys()
    for key, places in found.items():
        for place, value in zip(places, inputs[key], strict=True):
            assert abs(value) < FORWARD_NOISE, f"{key}{list(place)} flipped far from zero"


@pytest.mark.parametrize("name", ["flux-full-digits", "flux-full-mnist"])
def test_full_width_losses_and_early_sketches_agree_free_running(name: str) -> None:
    trace = recorded(name)
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in range(4):
        theirs = trace.record(step)
        mine = torch.step(schedule[step], Draws(0).at(step), ("sketches",))
        assert mine.batch_sha256 == theirs.batch_sha256, "both stacks must see the same pixels in the same order"
        for difference in compare_records(mine, theirs, kinds=("loss",)):
            assert EARLY_LOSS.admits(difference), f"step {step}: {difference}"
        for difference in compare_records(mine, theirs, kinds=("sketch",)):
            if "parameter" in difference.key and difference.key.endswith("weight"):
                assert EARLY_WEIGHTS.admits(difference), f"step {step}: {difference}"


def test_a_planted_flip_or_permutation_shows_in_the_recorded_sketch() -> None:
    """The state after the first step: torch's own, wrongly laid out, against what Flux recorded of it."""
    trace = recorded("flux-full-digits")
    torch, schedule = torch_like(trace), schedule_of(trace)
    torch.step(schedule[0], Draws(0), impose=trace.record(0).pattern)
    weight = torch.state()["parameter/generator.conv1.weight"]
    good = trace.record(0).sketch["state/parameter/generator.conv1.weight"]
    assert compare_tensors("x", sketch(weight), good).relative < 1e-5
    for wrong in (weight[:, :, ::-1, ::-1], weight[::-1], weight.swapaxes(2, 3), np.roll(weight, 1, axis=1)):
        assert compare_tensors("x", sketch(wrong), good).relative > 1e-3
        assert abs(sketch(wrong)[0] - good[0]) < 1e-6 * good[0], "the norm alone sees nothing"


CANCELLING = "discriminator.dense.bias"
"""Its gradient is the difference of two sums near 1/2 that cancel to 1e-4 and less; relative errors look large."""


@pytest.mark.parametrize("job", ["narrow", "first_step"])
def test_no_band_is_over_ten_times_its_floor_and_floors_are_rounding(job: str) -> None:
    for key, value in floors()[job]["floor"].items():
        assert float32_band(key, job).relative <= MAX_BAND_OVER_FLOOR * value
        limit = 5e-3 if CANCELLING in key or key == "logits/generator" else 3e-5
        assert value < limit, f"{key}: a floor of {value:.1e} is no rounding"
    assert PICTURE_FACTOR <= MAX_BAND_OVER_FLOOR


def test_the_referees_floors_are_rounding_and_its_bands_stay_near_them() -> None:
    late = floors()["late"]["floor"]
    assert {
        f"{kind}/{name}" for kind in ("gradient", "state/exp_avg") for name in ("generator", "discriminator")
    } <= set(late)
    for group, value in late.items():
        assert value < 3e-5, f"{group}: a floor of {value:.1e} is no rounding"
        band = referee_floor(f"{group}.layer.weight")
        assert band <= MAX_BAND_OVER_FLOOR * value or group.startswith("logits/")
    assert max(LATE_FACTOR, TENSOR_FACTOR) <= MAX_BAND_OVER_FLOOR
    assert FORWARD_NOISE <= MAX_BAND_OVER_FLOOR * 1.8e-5, "measured over the inputs of 4 million units"


def test_the_floors_are_those_of_the_shipped_traces() -> None:
    assert floors()["narrow"]["trace"] == "flux-narrow-float32"
    assert floors()["first_step"]["trace"] == "flux-full-digits"
    assert {"cpu", "packages"} <= floors()["environment"].keys()
