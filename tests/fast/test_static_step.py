"""Static steps, which a CUDA graph holds, taken operation by operation on the CPU: they are the fast stack's steps, mix
with other ways of stepping, and no operation reads a value on the host."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from static_runs import EVERYTHING, TOLERANCE, assert_same_state, batches, config
from torch import Tensor

from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.fast.layers import ChannelsLastConvTranspose2d
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.fast.static import StaticTorchStack, tf32
from pygan.training import picture_latent


@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_static_steps_are_the_fast_steps(dtype: str, semantics: str) -> None:
    wanted = config(dtype, semantics=semantics, seed=3)
    static, fast = StaticTorchStack(wanted), FastTorchStack(wanted)
    assert_same_state(static, fast)
    for step, batch in enumerate(batches()):
        mine, theirs = (stack.step(batch, Draws(3).at(step)) for stack in (static, fast))
        assert (mine.step, mine.batch_sha256, mine.order) == (theirs.step, theirs.batch_sha256, theirs.order)
        assert mine.loss.keys() == theirs.loss.keys() == {"discriminator", "generator"}
        for name, value in theirs.loss.items():
            assert (mine.loss[name].shape, mine.loss[name].dtype) == ((), value.dtype)
            np.testing.assert_allclose(mine.loss[name], value, rtol=TOLERANCE[dtype])
        assert_same_state(static, fast, TOLERANCE[dtype])
    assert sorted(static._static_steps) == [(6, 1, 28, 28), (8, 1, 28, 28)]


def test_making_ready_trains_nothing() -> None:
    stack = StaticTorchStack(config())
    stack.step(batches()[0], Draws(0))
    before, memory = stack.state(), [tensor.data_ptr() for tensor in stack._tensors().values()]
    counts = [int(norm.num_batches_tracked) for norm in stack.networks["generator"].modules() if hasattr(norm, "eps")]
    static = stack.static_step((6, 1, 28, 28))
    assert static is stack.static_step((6, 1, 28, 28)) and len(static.losses) == 2
    for key, value in stack.state().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)
    assert memory == [tensor.data_ptr() for tensor in stack._tensors().values()]
    assert counts == [
        int(norm.num_batches_tracked) for norm in stack.networks["generator"].modules() if hasattr(norm, "eps")
    ]
    static.compute()
    assert any((value != before[key]).any() for key, value in stack.state().items()), "the step itself does nothing"


def test_the_state_is_put_back_where_making_ready_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = StaticTorchStack(config())
    before = stack.state()

    def fails(self: StaticTorchStack, static: Any) -> None:
        static.compute()
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(StaticTorchStack, "_make_ready", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            stack.step(batches()[0], Draws(0))
    for key, value in stack.state().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)
    assert not stack._static_steps


def test_ways_of_stepping_mix() -> None:
    """Static, kept, static, imposed, timed, after another state, and after a fresh start: one training."""
    static, fast = StaticTorchStack(config()), FastTorchStack(config())
    flipped = ~fast.step(batches()[0], Draws(0), ("patterns",)).pattern["real/discriminator.leaky1"]
    fast.initialise()
    for one in (static, fast):
        one.step(batches()[0], Draws(0))
        kept = one.step(batches()[1], Draws(0).at(1), EVERYTHING)
        assert kept.gradient and kept.activation
        one.step(batches()[2], Draws(0).at(2))
        one.step(batches()[3], Draws(0).at(3), impose={"real/discriminator.leaky1": flipped})
        one.time_steps(batches()[4:], Draws(0))
    assert_same_state(static, fast, TOLERANCE["float64"])

    other = FastTorchStack(config(seed=8))
    other.step(batches()[0], Draws(8))
    for one in (static, fast):
        one.load_state(other.state())
        assert one.step(batches()[2], Draws(1).at(9)).step == 1
        one.step(batches()[0], Draws(5).at(2))
    assert_same_state(static, fast, TOLERANCE["float64"])

    for one in (static, fast):
        one.initialise()
    assert not static._static_steps
    for one in (static, fast):
        one.step(batches()[0], Draws(0))
    assert_same_state(static, fast, TOLERANCE["float64"])


def test_given_draws_take_the_plain_way() -> None:
    noise = Draws(9).normal("noise", (8, 5))
    static, fast = StaticTorchStack(config()), FastTorchStack(config())
    for one in (static, fast):
        one.step(batches()[0], Draws(0, 0, {"noise": noise}))
    assert not static._static_steps
    assert_same_state(static, fast, TOLERANCE["float64"])


def test_timed_steps_are_the_steps() -> None:
    static, fast = StaticTorchStack(config()), FastTorchStack(config())
    assert static.time_steps([], Draws(0)).losses == []
    for part in (batches()[:4], batches()[4:]):
        mine, theirs = (one.time_steps(part, Draws(0)) for one in (static, fast))
        assert len(mine.seconds) == len(part) and min(mine.seconds) > 0
        np.testing.assert_allclose(mine.losses, theirs.losses, rtol=1e-13)
    assert_same_state(static, fast, TOLERANCE["float64"])


def test_pictures_are_the_fast_stacks() -> None:
    static, fast = StaticTorchStack(config()), FastTorchStack(config())
    for one in (static, fast):
        one.step(batches()[0], Draws(0))
    latent = picture_latent(static.config, 0)
    np.testing.assert_allclose(static.generate(latent), fast.generate(latent), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("changes", "precision", "message"),
    [
        ({}, "float16", "no precision 'float16'; known: float32, tf32, bf16"),
        ({"dtype": "float64"}, "tf32", "precision = tf32 needs dtype = float32, got float64"),
        ({"dtype": "float64"}, "bf16", "precision = bf16 needs dtype = float32, got float64"),
        ({"randomness": "native"}, "float32", "the static step needs randomness = keyed, got native"),
    ],
)
def test_what_a_static_step_cannot_do_is_refused(changes: dict[str, Any], precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StaticTorchStack(config("float32").replace(**changes), precision)


# --- nothing is read on the host -----------------------------------------------------------------------------

READS = ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__")
UPLOADS = ("from_numpy", "tensor", "as_tensor")


@contextmanager
def host_is_deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every way from a tensor to Python's numbers, and from those to a new tensor's memory, fails."""

    def fails(name: str) -> Any:
        def read(*arguments: Any, **named: Any) -> Any:
            raise AssertionError(f"{name} within the step")

        return read

    with monkeypatch.context() as patched:
        for name in READS:
            patched.setattr(torch.Tensor, name, fails(name))
        for name in UPLOADS:
            patched.setattr(torch, name, fails(name))
        yield


@pytest.mark.parametrize("semantics", ["fixed", "as_printed"])
def test_a_static_step_reads_and_uploads_nothing(semantics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = StaticTorchStack(config(semantics=semantics))
    static = stack.static_step(batches()[0].shape)
    with host_is_deaf(monkeypatch):
        static.compute()
    fast = FastTorchStack(config())
    with host_is_deaf(monkeypatch), pytest.raises(AssertionError, match="within the step"):
        fast.run_class(fast, Draws(0)).update("generator", fast.networks["generator"].dense.weight.sum())


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_a_full_width_static_step_runs_where_no_tensor_has_values(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's meta device refuses every read, from C++ too, and, as CUDA does, tensors of two devices in one operation.
    It takes a scalar from the CPU, which a graph would freeze, so nothing of the state may lie there."""
    stack = StaticTorchStack(FluxTutorialConfig(threads=1, dtype=dtype))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which meta does not know
    stack.device = torch.device("meta")
    stack.initialise()
    for count in (128, 96):
        static = stack.static_step((count, 1, 28, 28))
        assert (static.losses.device.type, tuple(static.losses.shape)) == ("meta", (2,))
    powers = [kept["beta_power"] for one in stack.optimisers.values() for kept in one.state.values()]
    held = [*stack._tensors().values(), *powers]
    assert len(held) > 40 and {tensor.device.type for tensor in held} == {"meta"}
    stack.networks["generator"].norm1.forward = lambda x: x * float(x.mean())  # reads a value
    with pytest.raises(RuntimeError, match="meta"):
        stack.static_step((64, 1, 28, 28))


def test_no_graph_of_autograd_outlives_a_step() -> None:
    """A node kept alive would bring the stream of its step into a later capture."""
    stack = StaticTorchStack(config())
    stack.step(batches()[0], Draws(0), EVERYTHING)
    stack.static_step(batches()[0].shape).compute()
    gc.collect()
    alive = [one for one in gc.get_objects() if issubclass(type(one), Tensor) and one.grad_fn is not None]
    assert not [tuple(one.shape) for one in alive]


# --- precision -----------------------------------------------------------------------------------------------


@contextmanager
def switches(matmul: bool, cudnn: bool) -> Iterator[None]:
    now = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [one.allow_tf32 for one in now]
    now[0].allow_tf32, now[1].allow_tf32 = matmul, cudnn
    try:
        yield
    finally:
        now[0].allow_tf32, now[1].allow_tf32 = before


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_a_step_sets_the_switches_of_tf32_and_puts_them_back(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    stack = StaticTorchStack(config("float32"), precision)
    real = stack._recipe.train_step

    def watched(run: Any, batch: Tensor) -> None:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        real(run, batch)

    monkeypatch.setattr(stack._recipe, "train_step", watched)
    with switches(matmul=False, cudnn=True):
        stack.step(batches()[0], Draws(0))
        stack.step(batches()[0], Draws(0), ("logits",))
        stack.time_steps(batches()[:1], Draws(0))
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, True)
        with pytest.raises(KeyError), tf32(True):
            raise KeyError
        assert not torch.backends.cuda.matmul.allow_tf32
    wanted = precision == "tf32"
    assert len(seen) >= 6 and set(seen) == {(wanted, wanted)}
    described = stack.describe()
    assert (described["tf32"], described["step"], described["fused_draws"]) == (wanted, "static", False)
    assert described.get("precision", "float32") == precision


def test_tf32_is_the_same_step_in_torchs_own_convolutions() -> None:
    """On the CPU TF32 does not exist, so what is left is the choice of layers."""
    static, fast = StaticTorchStack(config("float32"), "tf32"), FastTorchStack(config("float32"))
    assert type(static.networks["generator"].conv1) is ChannelsLastConvTranspose2d
    for one in (static, fast):
        one.time_steps(batches(), Draws(0))
    assert_same_state(static, fast, TOLERANCE["float32"])


def test_bf16_is_a_step_of_bfloat16_products_and_float32_state() -> None:
    """The rate is so high that weights cast once and used again after their update show in the losses."""
    wanted = config("float32", discriminator_lr=0.05, generator_lr=0.05)
    low, full, stale = StaticTorchStack(wanted, "bf16"), StaticTorchStack(wanted), StaticTorchStack(wanted, "bf16")
    dtypes = set()
    hook = low.networks["discriminator"].conv2.register_forward_hook(lambda *given: dtypes.add(given[2].dtype))
    low.static_step(batches()[0].shape)
    hook.remove()
    assert dtypes == {torch.bfloat16}
    for step in range(2):
        mine, theirs = (one.step(batches()[step], Draws(0).at(step)) for one in (low, full))
        with torch.autocast("cpu", torch.bfloat16):  # keeps what is cast until it ends
            kept = stale.step(batches()[step], Draws(0).at(step))
        for name, value in theirs.loss.items():
            assert mine.loss[name] != value
            np.testing.assert_allclose(mine.loss[name], value, rtol=0.2)
    assert abs(kept.loss["generator"] / theirs.loss["generator"] - 1) > 0.4
    assert {value.dtype for key, value in low.state().items() if key != "step"} == {np.dtype(np.float32)}
    kept = low.step(batches()[0], Draws(0).at(2), EVERYTHING)
    assert kept.activation["real/discriminator.conv2"].dtype == np.float32
    assert low.generate(picture_latent(wanted, 0)).dtype == np.float32
