"""The fast stack is the idiomatic one to rounding: every loss, gradient, pattern, layer, buffer, moment and picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import CAPTURES, StepRecord
from pygan.stacks.choose import NAMES, make_stack
from pygan.stacks.fast.patches import PatchConv2d
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.state import widen
from pygan.training import picture_latent

PARTS = ("logits", "gradients", "patterns", "state")


def config(**changes: Any) -> FluxTutorialConfig:
    return FluxTutorialConfig(**{**NARROW, "threads": 1, "dtype": "float64", **changes})


def batch(images: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (images, 1, 28, 28)).astype(np.float32)


def assert_same(mine: StepRecord, theirs: StepRecord, tolerance: float = 1e-11) -> int:
    ours, other = mine.to_arrays(), theirs.to_arrays()
    assert ours.keys() == other.keys()
    for key, value in ours.items():
        assert (value.shape, value.dtype) == (other[key].shape, other[key].dtype), key
        size = np.linalg.norm(other[key].astype(float).ravel())
        assert np.linalg.norm((value - other[key] if value.dtype != bool else value ^ other[key]).ravel()) <= max(
            tolerance * size, 1e-17
        ), key
    return len(ours)


@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
@pytest.mark.parametrize("capture", [PARTS, CAPTURES], ids=["joined layers", "layer by layer"])
def test_every_part_of_many_steps_is_the_same(semantics: str, capture: tuple[str, ...]) -> None:
    plain, fast = TorchStack(config(semantics=semantics)), FastTorchStack(config(semantics=semantics))
    compared = 0
    for step in range(6):
        images = batch(6 if step % 3 == 2 else 8, step)
        records = [stack.step(images, Draws(0, step), capture) for stack in (fast, plain)]
        compared += assert_same(*records)
        assert records[0].order == records[1].order
    assert compared > 6 * 60


def test_pictures_and_plain_steps_are_the_same() -> None:
    plain, fast = TorchStack(config()), FastTorchStack(config())
    for stack in (plain, fast):
        stack.time_steps([batch(seed=seed) for seed in range(4)], Draws(0))
    latent = picture_latent(config(), 0)
    np.testing.assert_allclose(fast.generate(latent), plain.generate(latent), rtol=0, atol=1e-13)


def test_a_state_moves_between_the_forms() -> None:
    plain, fast = TorchStack(config()), FastTorchStack(config())
    for step in range(2):
        plain.step(batch(), Draws(0, step))
    fast.load_state(plain.state())
    assert_same(fast.step(batch(), Draws(0, 2), PARTS), plain.step(batch(), Draws(0, 2), PARTS))
    plain.load_state(fast.state())
    assert_same(plain.step(batch(), Draws(0, 3), PARTS), fast.step(batch(), Draws(0, 3), PARTS))


def test_parameters_changed_from_outside_between_steps_are_seen() -> None:
    """Kernels' spectra and features outlive a call but not a step."""
    plain, fast = TorchStack(config()), FastTorchStack(config())
    for stack in (plain, fast):
        stack.step(batch(), Draws(0, 0))
        stack.generate(picture_latent(config(), 0))
        stack.networks["generator"].conv1.weight.data.mul_(1.5)
    assert_same(fast.step(batch(), Draws(0, 1), PARTS), plain.step(batch(), Draws(0, 1), PARTS))


def test_the_float32_step_at_the_published_size_is_as_near_to_the_referee() -> None:
    wide = config(width=16, latent_dim=100, batch=32, dtype="float64")
    single = wide.replace(dtype="float32")
    images = batch(32)
    referee = TorchStack(wide)
    referee.load_state(widen(TorchStack(single).state(), "float64"))
    plain, fast = (kind(single).step(images, Draws(0), PARTS) for kind in (TorchStack, FastTorchStack))
    truth = referee.step(images, Draws(0), PARTS, impose=fast.pattern)
    for key, value in truth.gradient.items():
        mine, theirs = (np.linalg.norm(one.gradient[key] - value) / np.linalg.norm(value) for one in (fast, plain))
        assert mine < max(5 * theirs, 3e-6), f"{key}: {mine:.1e}, idiomatic {theirs:.1e}"


def test_other_values_and_patterns_can_be_put_in() -> None:
    """Imposed patterns, looked-at inputs and forced layers go through the fast layers as through the idiomatic ones."""
    plain, fast = TorchStack(config()), FastTorchStack(config())
    other = TorchStack(config(seed=9)).step(batch(seed=3), Draws(9), CAPTURES)
    places = {key: np.argwhere(value)[:3] for key, value in other.pattern.items()}
    for how in ({"impose": other.pattern}, {"look": places}, {"force": other}):
        stacks = [FastTorchStack(config()), TorchStack(config())]
        records = [stack.step(batch(), Draws(0), CAPTURES, **how) for stack in stacks]  # type: ignore[arg-type]
        assert_same(*records)
    untouched = [stack.step(batch(), Draws(0), PARTS) for stack in (plain, fast)]
    imposed = FastTorchStack(config()).step(batch(), Draws(0), PARTS, impose=other.pattern)
    assert imposed.loss["generator"] != untouched[1].loss["generator"]


def test_only_the_gradients_of_the_network_that_is_updated_are_computed() -> None:
    fast = FastTorchStack(config())
    seen: dict[str, list[bool]] = {}
    run_class = fast.run_class

    class Watched(run_class):  # type: ignore[misc, valid-type]
        def _gradients(self, network: str, loss: torch.Tensor) -> None:
            for parameter in fast.networks["discriminator"].parameters():
                parameter.grad = None
            super()._gradients(network, loss)
            seen[network] = [parameter.grad is not None for parameter in fast.networks["discriminator"].parameters()]

    fast.run_class = Watched  # type: ignore[misc]
    fast.step(batch(), Draws(0))
    assert all(seen["discriminator"]) and not any(seen["generator"])


@pytest.mark.parametrize("captures", [(), ("layers",)], ids=["trained", "watched"])
def test_the_first_layer_computes_no_gradient_for_the_other_networks_update(captures: tuple[str, ...]) -> None:
    fast, frozen = FastTorchStack(config()), []
    first = fast.networks["discriminator"].conv1
    assert isinstance(first, PatchConv2d)
    first.weight.register_hook(lambda gradient: frozen.append(first.frozen))
    fast.step(batch(), Draws(0), captures)
    assert frozen == [False] * (1 if not captures else 2), "asked for both updates only where layers are watched"
    assert not first.frozen


def test_no_gradient_outlives_its_update() -> None:
    fast = FastTorchStack(config())
    fast.step(batch(), Draws(0))
    assert all(one.grad is None for network in fast.networks.values() for one in network.parameters())


class Alive(TorchDispatchMode):
    """Adds up the bytes of all tensors that operations have made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return made


@pytest.mark.slow
def test_it_needs_no_more_memory_than_the_idiomatic_step() -> None:
    peaks = []
    for kind in (TorchStack, FastTorchStack):
        stack = kind(FluxTutorialConfig())
        real = np.zeros((128, 1, 28, 28), np.float32)
        stack.time_steps([real], Draws(0))
        parameters = [one for network in stack.networks.values() for one in network.parameters()]
        held = sum(one.grad.nbytes for one in parameters if one.grad is not None)
        with Alive() as alive:
            stack.time_steps([real], Draws(0))
        peaks.append(alive.peak + held)
    assert peaks[1] <= peaks[0], peaks


def test_rules_layers_and_numbers_are_told_alike() -> None:
    plain, fast = TorchStack(config()), FastTorchStack(config())
    assert fast.rules() == plain.rules()
    assert fast.layers() == plain.layers()
    assert fast.update_numbers() == plain.update_numbers()
    assert (plain.describe()["step"], fast.describe()["step"]) == ("idiomatic", "fast")


def test_native_randomness_trains_too() -> None:
    fast = FastTorchStack(config(randomness="native"))
    losses = fast.time_steps([batch()] * 3, Draws(0)).losses
    assert np.isfinite(losses).all() and len(set(losses)) == 3


def test_it_is_a_stack_by_name() -> None:
    assert "torch-fast" in NAMES
    assert type(make_stack("torch-fast", config())) is FastTorchStack
