"""What can be kept of a torch step, and what happens when another run's values are forced into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pygan.data import load
from pygan.draws import Draws
from pygan.parity.compare import compare_arrays
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import StepRecord
from pygan.schedule import Schedule
from pygan.stacks.torch_stack import TorchStack

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")
CONFIG = FluxTutorialConfig(**NARROW, threads=1, dtype="float64")


@pytest.fixture
def batch() -> np.ndarray:
    return Schedule(load("digits", limit=8).images, 8, Draws(0))[0]


def taken(batch: np.ndarray, stack: TorchStack | None = None, **how) -> StepRecord:  # type: ignore[no-untyped-def]
    return (stack or TorchStack(CONFIG)).step(batch, Draws(0), EVERYTHING, **how)


def differing(mine: StepRecord, theirs: StepRecord) -> set[str]:
    return {
        one.key for one in compare_arrays(mine.to_arrays(), theirs.to_arrays()) if one.relative > 1e-12 or one.fault
    }


def test_watching_a_step_does_not_change_it(batch: np.ndarray) -> None:
    plain, watched = TorchStack(CONFIG), TorchStack(CONFIG)
    plain.step(batch, Draws(0))
    taken(batch, watched)
    for key, value in plain.state().items():
        np.testing.assert_array_equal(watched.state()[key], value, err_msg=key)


def test_the_order_names_everything_that_was_kept_once(batch: np.ndarray) -> None:
    record = taken(batch)
    passing = {key for key in record.order if key.startswith("updated/")}  # each network is updated once: see state
    assert set(record.order) - passing == set(record.to_arrays()) - {"state/step"}
    assert len(record.order) == len(set(record.order))
    place = {key: i for i, key in enumerate(record.order)}
    assert place["activation/sample/generator.tanh"] < place["activation/fake/discriminator.input"]
    assert place["loss/discriminator"] < place["activation_gradient/real/discriminator.dense"]
    assert (
        place["gradient/discriminator/discriminator.dense.weight"] < place["state/parameter/discriminator.dense.weight"]
    )
    assert place["state/parameter/discriminator.dense.weight"] < place["activation/generator/discriminator.conv1"]
    assert place["state/buffer/generator.norm1.running_mean"] < place["activation/generator/discriminator.input"]
    assert place["buffer/generator/generator.norm1.running_var"] < place["activation/generator/discriminator.input"]


def test_modes_are_those_of_the_published_step(batch: np.ndarray) -> None:
    mode = {key: bool(value) for key, value in taken(batch).mode.items()}
    assert not any(mode[f"sample/generator.norm{i}"] for i in (1, 2, 3))
    assert all(value for key, value in mode.items() if not key.startswith("sample/"))
    assert len(mode) == 6 + 2 * 3


def test_activation_gradients_are_autograds(batch: np.ndarray) -> None:
    """The gradient of a bias is the sum over samples of that of its layer's output, over both calls."""
    record = taken(batch)
    summed = sum(record.activation_gradient[f"{call}/discriminator.dense"].sum(axis=0) for call in ("real", "fake"))
    np.testing.assert_allclose(
        summed, record.gradient["discriminator/discriminator.dense.bias"], rtol=1e-10, atol=1e-16
    )


def test_forcing_its_own_values_changes_nothing(batch: np.ndarray) -> None:
    record = taken(batch)
    assert not differing(taken(batch, force=record), record)


def test_a_changed_layer_alone_differs_when_the_rest_is_forced(batch: np.ndarray) -> None:
    record, stack = taken(batch), TorchStack(CONFIG)
    stack.networks["discriminator"].leaky1.negative_slope = 0.3
    free = differing(taken(batch, stack), record)
    stack.initialise()
    stack.networks["discriminator"].leaky1.negative_slope = 0.3
    forced = differing(taken(batch, stack, force=record), record)
    calls = ("real", "fake", "generator")
    assert forced == {f"activation/{call}/discriminator.leaky1" for call in calls} | {
        f"activation_gradient/{call}/discriminator.conv1" for call in calls
    }
    assert len(free) > 5 * len(forced)


def test_a_changed_update_alone_differs_when_the_rest_is_forced(batch: np.ndarray) -> None:
    record, stack = taken(batch), TorchStack(CONFIG)
    stack.optimisers["discriminator"].param_groups[0]["lr"] *= 2
    forced = differing(taken(batch, stack, force=record), record)
    assert forced == {key for key in record.to_arrays() if key.startswith("state/parameter/discriminator")}


def test_a_value_of_another_shape_is_not_forced(batch: np.ndarray) -> None:
    record = taken(batch)
    short = {key: value[:6] if key.startswith("real/") else value for key, value in record.activation.items()}
    forced = taken(batch, force=replace(record, activation=short))
    assert forced.activation["real/discriminator.conv1"].shape[0] == 8


def test_patterns_are_what_the_layer_did_also_where_others_are_imposed(batch: np.ndarray) -> None:
    record = taken(batch)
    other = {key: ~value for key, value in record.pattern.items()}
    imposed = taken(batch, impose=other)
    np.testing.assert_array_equal(
        imposed.pattern["real/discriminator.leaky1"], record.pattern["real/discriminator.leaky1"]
    )
    assert (
        np.abs(imposed.activation["real/discriminator.leaky1"] - record.activation["real/discriminator.leaky1"]).max()
        > 0
    )


def test_looking_at_places_gives_what_entered_there(batch: np.ndarray) -> None:
    key, places = "real/discriminator.leaky1", np.array([[0, 1, 3, 4], [7, 0, 13, 0]])
    record = taken(batch, look={key: places})
    inputs = record.activation["real/discriminator.conv1"]
    np.testing.assert_array_equal(record.kink[key], inputs[tuple(places.T)])


def test_layer_specs_name_kinds_and_numbers() -> None:
    layers = TorchStack(CONFIG).layers()
    assert next(iter(layers)) == "discriminator.conv1"
    assert (layers["generator.norm2"].kind, layers["generator.norm2"].numbers["eps"]) == (
        "batch_norm",
        CONFIG.constant(1e-5),
    )
    assert layers["discriminator.leaky1"].numbers["negative_slope"] == CONFIG.constant(0.2)
    assert layers["generator.conv1"].numbers["padding"] == (2, 2)
    assert TorchStack(CONFIG).update_numbers()["generator"]["beta1"] == CONFIG.constant(0.9)


def test_two_stacks_of_other_thread_counts_run_side_by_side(batch: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = TorchStack(CONFIG.replace(threads=1)), TorchStack(CONFIG.replace(threads=2))
    seen: list[int] = []
    step = one._recipe.train_step
    monkeypatch.setattr(one._recipe, "train_step", lambda *given: (seen.append(torch.get_num_threads()), step(*given)))
    before = torch.get_num_threads()
    for stack in (one, two, one):
        stack.step(batch, Draws(0))
        assert torch.get_num_threads() == before
    assert seen == [1, 2, 1]
