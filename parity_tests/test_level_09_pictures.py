"""Level 9: from the same state both generators draw the same pictures, and the grids agree pixel by pixel.

Pictures of free runs are in ``test_free_run.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import batches, config, load_or_skip, recorded, torch_like
from torch import from_numpy, no_grad

from pygan.draws import Draws
from pygan.parity.compare import compare_tensors
from pygan.parity.float32 import pictures_judged
from pygan.parity.referee import Referee
from pygan.pictures.grid import grid
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State
from pygan.traces import Trace
from pygan.training import picture_latent

IN_FLOAT64 = 1e-13
"""Relative norm of the difference; a few roundings of one forward pass. Measured 4e-16."""


def drawn_at(trace: Trace, step: int, torch: TorchStack) -> np.ndarray:
    """The port's pictures from the state that was recorded after ``step``."""
    torch.load_state(trace.record(step).state)
    return torch.generate(picture_latent(torch.config, 0))


def relative(candidate: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(candidate - reference) / np.linalg.norm(reference))


def assert_same_pictures(mine: np.ndarray, theirs: np.ndarray, state: State, torch: TorchStack) -> None:
    """Of one state: to the last digits in Float64; in Float32 as near to the Float64 referee as rounding leaves it."""
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    if theirs.dtype == np.float64:
        assert relative(mine, theirs) <= IN_FLOAT64
        return
    referee = Referee(torch.config, load_or_skip("digits", 14))
    both = {"values": mine}, {"values": theirs}
    found = pictures_judged(
        referee, state, picture_latent(torch.config, 0), both, compare_tensors("pictures", mine, theirs)
    )
    assert found.ok, str(found)
    assert found.allowed < 1e-5, "that is rounding"


def exact_pictures(trace: Trace) -> list[int]:
    return [record.step for record in trace if "values" in record.pictures and record.state]


def assert_same_grids(mine: np.ndarray, theirs: np.ndarray, columns: int) -> None:
    """8-bit grids pixel by pixel, both stretched alike to the whole range; Float32 may round a pixel the other way."""
    top = np.abs(theirs).max()
    one, other = (grid(np.clip(values / top, -1, 1), columns).astype(int) for values in (mine, theirs))
    assert len(np.unique(other)) > 100, "there is something in the pictures"
    assert np.abs(one - other).max() <= (0 if theirs.dtype == np.float64 else 1)
    assert (one != other).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_recorded_pictures_of_flux_are_the_ports_from_the_same_state(dtype: str) -> None:
    trace = recorded(f"flux-narrow-{dtype}")
    torch = torch_like(trace)
    steps = exact_pictures(trace)
    assert steps == list(range(0, trace.training_steps, 5)) and len(steps) >= 3
    for step in steps:
        record = trace.record(step)
        theirs, mine = record.pictures["values"], drawn_at(trace, step, torch)
        assert theirs.shape == (4, 1, 28, 28)
        assert_same_pictures(mine, theirs, record.state, torch)
        assert_same_grids(mine, theirs, 2)


@pytest.mark.parametrize("name", ["flux-narrow-float64", "flux-narrow-float32", "flux-full-digits"])
def test_the_grid_that_flux_drew_is_the_ports_of_the_same_values_byte_for_byte(name: str) -> None:
    """Flux's own code laid out and rounded what was recorded; another order of the pictures is another grid."""
    trace = recorded(name)
    seen = 0
    for record in trace:
        if {"values", "grid"} <= record.pictures.keys():
            values, drawn = record.pictures["values"], record.pictures["grid"]
            columns = trace.header.config["grid"]
            np.testing.assert_array_equal(grid(values, columns), drawn, err_msg=f"step {record.step}")
            by_rows = values.reshape(columns, columns, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)
            assert (grid(by_rows, columns) != drawn).any()
            seen += 1
    assert seen >= 1


WRONG = {
    "pictures in another order": lambda values: values[::-1],
    "x and y exchanged": lambda values: values.swapaxes(2, 3),
    "upside down": lambda values: values[:, :, ::-1],
    "mirrored": lambda values: values[..., ::-1],
    "shifted by a pixel": lambda values: np.roll(values, 1, axis=3),
    "0 to 1": lambda values: (values + 1) / 2,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrongly_laid_out_pictures_would_be_seen(wrong: str) -> None:
    trace = recorded("flux-narrow-float64")
    theirs = trace.record(exact_pictures(trace)[-1]).pictures["values"]
    other = np.ascontiguousarray(WRONG[wrong](theirs))
    assert relative(other, theirs) > 1e-2
    with pytest.raises(AssertionError):
        assert_same_grids(other, theirs, 2)


def test_pictures_in_train_mode_would_be_seen() -> None:
    """Both stacks draw in eval mode: with batch statistics of four pictures they are others."""
    trace = recorded("flux-narrow-float64")
    torch = torch_like(trace)
    step = exact_pictures(trace)[-1]
    mine = drawn_at(trace, step, torch)
    latent = from_numpy(picture_latent(torch.config, 0)).double()
    with no_grad():
        other = torch.networks["generator"].train()(latent).numpy()
    theirs = trace.record(step).pictures["values"]
    assert relative(mine, theirs) <= IN_FLOAT64
    assert relative(other, theirs) > 1e-2


@pytest.mark.live
@pytest.mark.parametrize(("width", "dtype"), [("narrow", "float64"), ("narrow", "float32"), ("full", "float64")])
def test_live_pictures_agree_from_the_same_state(width: str, dtype: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config(width, dtype)
    flux, torch = live_flux(wanted), TorchStack(wanted)
    latent = picture_latent(wanted, 0)
    key = "parameter/generator.conv3.weight"
    for step, batch in enumerate(batches(width, 2)):
        trained = flux.step(batch, Draws(0).at(step), ("state",)).state
        torch.load_state(trained)
        larger = 3 / np.abs(torch.generate(latent)).max()  # so that they go from black to white
        for state in (trained, {**trained, key: trained[key] * np.asarray(larger, trained[key].dtype)}):
            flux.load_state(state)
            torch.load_state(state)
            theirs, mine = flux.generate(latent), torch.generate(latent)
            assert_same_pictures(mine, theirs, state, torch)
            assert_same_grids(mine, theirs, wanted.grid)
        assert np.abs(theirs).max() > 0.9
        flux.load_state(trained)
