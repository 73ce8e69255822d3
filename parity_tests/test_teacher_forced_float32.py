"""Claim: in Float32 every step from Flux's state is Flux's step, within bands built on measured noise.

On/off patterns at relu and leaky relu are taken from the recorded step (a unit whose input is within rounding of zero
may have either sign), and where they differ from torch's own the flip is counted and must be admissible.
"""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import recorded, schedule_of, torch_like

from pygan.draws import Draws
from pygan.parity.bands import MAX_BAND_OVER_FLOOR, PICTURE_FACTOR, float32_band, floors
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
    """The port may not be further from the Float64 referee than 3 times Flux, or the committed floor."""
    trace = recorded("flux-narrow-float32")
    torch, referee, schedule = torch_like(trace), torch_like(trace, dtype="float64"), schedule_of(trace)
    for step in trace.steps[:-1]:
        theirs, before = trace.record(step), trace.state_before(step)
        torch.load_state(before)
        referee.load_state(widen(before, "float64"))
        draws = Draws(0).at(step)
        mine = torch.step(schedule[step], draws, CAPTURE, impose=theirs.pattern)
        truth = referee.step(schedule[step], draws, CAPTURE, impose=theirs.pattern)
        for key, value in truth.gradient.items():
            ours = compare_tensors(key, mine.gradient[key].astype(np.float64), value).relative
            flux = compare_tensors(key, theirs.gradient[key].astype(np.float64), value).relative
            floor = floors()["narrow"]["floor"][f"gradient/{key}"]
            assert ours <= max(3 * flux, floor), f"step {step} {key}: torch {ours:.1e}, flux {flux:.1e}"


def test_flips_are_few_and_lie_within_rounding_of_zero() -> None:
    trace = recorded("flux-narrow-float32")
    torch, schedule = torch_like(trace), schedule_of(trace)
    count = 0
    for step in trace.steps[:-1]:
        torch.load_state(trace.state_before(step))
        mine = torch.step(schedule[step], Draws(0).at(step), ("patterns",))
        count += sum(len(places) for places in flips(mine, trace.record(step)).values())
    assert count <= 2, "more flips than two in 20 narrow steps is no rounding"


def test_full_width_first_step_agrees_once_flux_patterns_are_imposed() -> None:
    """One unit of 802,816 with the other sign moves whole gradients by 1e-3; with Flux's patterns they agree."""
    trace = recorded("flux-full-digits")
    torch, schedule = torch_like(trace), schedule_of(trace)
    theirs = trace.record(0)
    start = torch.state()
    capture = ("logits", "gradients", "sketches", "patterns:generator")
    free = torch.step(schedule[0], Draws(0), capture)
    assert free.batch_sha256 == theirs.batch_sha256
    torch.load_state(start)
    mine = torch.step(schedule[0], Draws(0), capture, impose=theirs.pattern)
    bad = []
    for difference in compare_records(mine, theirs, kinds=("sketch", "logits", "loss")):
        band = float32_band(difference.key, "first_step")
        if not band.admits(difference):
            bad.append(difference)
    assert not bad, "\n".join(map(str, bad))
    found = flips(free, theirs)
    assert sum(len(places) for places in found.values()) <= 8, found


@pytest.mark.parametrize("name", ["flux-full-digits", "flux-full-mnist"])
def test_full_width_losses_and_early_sketches_agree_free_running(name: str) -> None:
    trace = recorded(name)
    torch, schedule = torch_like(trace), schedule_of(trace)
    for step in range(4):
        theirs = trace.record(step)
        mine = torch.step(schedule[step], Draws(0).at(step), ("sketches",))
        assert mine.batch_sha256 == theirs.batch_sha256, "both stacks must see the same pixels in the same order"
        for loss, value in theirs.loss.items():
            assert abs(float(mine.loss[loss]) - float(value)) < 2e-5, f"step {step}: {loss} loss"
        for difference in compare_records(mine, theirs, kinds=("sketch",)):
            if "parameter" in difference.key and difference.key.endswith("weight"):
                assert difference.relative < 1e-3, difference


def test_a_planted_flip_or_permutation_shows_in_the_recorded_sketch() -> None:
    trace = recorded("flux-full-digits")
    torch = torch_like(trace)
    weight = torch.state()["parameter/generator.conv1.weight"]
    good = sketch(weight)
    for wrong in (weight[:, :, ::-1, ::-1], weight[::-1], weight.swapaxes(2, 3), np.roll(weight, 1, axis=1)):
        assert compare_tensors("x", sketch(wrong), good).relative > 1e-3
        assert abs(sketch(wrong)[0] - good[0]) < 1e-9 * good[0]


CANCELLING = "discriminator.dense.bias"
"""Its gradient is the difference of two sums near 1/2 that cancel to 1e-4 and less; relative errors look large."""


@pytest.mark.parametrize("job", ["narrow", "first_step"])
def test_no_band_is_over_ten_times_its_floor_and_floors_are_rounding(job: str) -> None:
    for key, value in floors()[job]["floor"].items():
        assert float32_band(key, job).relative <= MAX_BAND_OVER_FLOOR * value
        limit = 5e-3 if CANCELLING in key or key == "logits/generator" else 3e-5
        assert value < limit, f"{key}: a floor of {value:.1e} is no rounding"
    assert PICTURE_FACTOR <= MAX_BAND_OVER_FLOOR


def test_the_floors_are_those_of_the_shipped_traces() -> None:
    assert floors()["narrow"]["trace"] == "flux-narrow-float32"
    assert floors()["first_step"]["trace"] == "flux-full-digits"
    assert {"cpu", "packages"} <= floors()["environment"].keys()
