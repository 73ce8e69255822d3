"""State: on disk and back, and in and out of a stack, without losing a bit or hiding a fault."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pygan import state as states
from pygan.draws import Draws
from pygan.errors import OutputError, StateError
from pygan.stacks.torch_stack import TorchStack


def example(dtype: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    special = np.array([0.0, -0.0, 1e-45, np.pi, -1e30, np.finfo(dtype).max], dtype)
    return {
        "parameter/generator.conv1.weight": random.standard_normal((2, 3, 4, 5)).astype(dtype).transpose(3, 2, 0, 1),
        "buffer/generator.norm1.running_var": special,
        "beta_power/generator": np.array([0.9, 0.999], dtype),
        "step": np.array(17, np.int64),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_state_comes_back_bit_for_bit_with_its_config(tmp_path: Path, dtype: str, same_arrays) -> None:
    config = {"recipe": "flux_tutorial", "seed": 2**60 + 1, "leaky_slope": 0.2}
    states.save(tmp_path / "deep" / "state.safetensors", example(dtype), config)
    state, read = states.load(tmp_path / "deep" / "state.safetensors")
    same_arrays(state, {key: np.asarray(value, order="C") for key, value in example(dtype).items()})
    assert read == config
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, same_arrays) -> None:
    path = tmp_path / "state.safetensors"
    states.save(path, example("float32"), {})

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pygan.files.os.fsync", broken)
    with pytest.raises(OutputError, match="No space left on device"):
        states.save(path, {"step": np.array(1)}, {})
    same_arrays(states.load(path)[0], {key: np.asarray(value, order="C") for key, value in example("float32").items()})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 7, 60, -1], ids=["empty", "half a length", "half a header", "one byte short"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "state.safetensors"
    states.save(path, example("float32"), {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StateError, match=r"cannot read the state in .*state\.safetensors"):
        states.load(path)


def test_a_missing_file_and_a_file_of_garbage_are_errors_that_name_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot read the state in .*nowhere"):
        states.load(tmp_path / "nowhere")
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(StateError, match=r"cannot read the state in .*garbage"):
        states.load(tmp_path / "garbage")
    with pytest.raises(StateError, match="cannot read the state in"):
        states.load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"pygan_state": "99", "config": "{}"}, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_no_state(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(StateError, match=r"foreign\.safetensors is a safetensors file but not a pygan state"):
        states.load(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("config", [{}, {"config": "{"}, {"config": "7"}], ids=["none", "broken", "a number"])
def test_a_state_without_a_readable_config_is_an_error(tmp_path: Path, config: dict[str, str]) -> None:
    save_file({"step": np.zeros(1)}, tmp_path / "odd.safetensors", {"pygan_state": "1", **config})
    with pytest.raises(StateError, match=r"config of the state in .*odd\.safetensors"):
        states.load(tmp_path / "odd.safetensors")


def test_the_config_lies_in_the_metadata_as_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    states.save(tmp_path / "s", example("float32"), {"width": 2})
    with safe_open(tmp_path / "s", framework="numpy") as stored:
        assert json.loads(stored.metadata()["config"]) == {"width": 2}


def test_every_fault_of_a_state_is_named_at_once() -> None:
    expected = {name: np.zeros((2, 3), np.float32) for name in ("gone", "shape", "dtype", "fine")}
    given = {
        "shape": np.zeros((3, 2), np.float32),
        "dtype": np.zeros((2, 3)),
        "fine": np.ones((2, 3), np.float32),
        "extra": np.zeros(4),
    }
    with pytest.raises(StateError) as caught:
        states.check_same_layout(given, expected, "the checkpoint")
    assert str(caught.value) == (
        "the checkpoint does not fit: "
        "dtype has dtype float64, expected float32; widen() converts a whole state; "
        "extra is not part of this recipe (shape (4,)); "
        "gone is missing (expected shape (2, 3)); "
        "shape has shape (3, 2), expected (2, 3)"
    )
    states.check_same_layout(expected, expected)


def test_widening_is_exact_and_leaves_integers_alone() -> None:
    narrow = example("float32")
    wide = states.widen(narrow, "float64")
    assert {key: value.dtype.name for key, value in wide.items() if key != "step"} == dict.fromkeys(
        narrow.keys() - {"step"}, "float64"
    )
    assert wide["step"].dtype == np.int64
    assert all(np.array_equal(value.astype(np.float32), narrow[key]) for key, value in wide.items())
    assert all(np.array_equal(value, narrow[key].astype(np.longdouble)) for key, value in wide.items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_reloaded_stack_is_where_it_was_and_steps_on_bit_for_bit(
    tmp_path: Path, narrow, a_batch: np.ndarray, dtype: str, same_arrays
) -> None:
    config = narrow.replace(dtype=dtype)
    stack, other = TorchStack(config), TorchStack(config.replace(seed=99))
    for step in range(3):
        stack.step(a_batch, Draws(0, step))
    before = stack.state()
    states.save(tmp_path / "state", before, config.to_dict())

    other.load_state(states.load(tmp_path / "state")[0])
    same_arrays(other.state(), before)
    everything = ("logits", "gradients", "patterns", "state", "sketches")
    mine, theirs = (one.step(a_batch[:6], Draws(0, 3), everything) for one in (stack, other))
    assert (mine.step, theirs.step) == (3, 3)
    same_arrays(theirs.to_arrays(), mine.to_arrays())
    latent = Draws(0).normal("latent", (4, config.latent_dim))
    assert np.array_equal(other.generate(latent), stack.generate(latent))


def test_a_state_is_a_copy_that_later_steps_do_not_touch(narrow, a_batch: np.ndarray, same_arrays) -> None:
    stack = TorchStack(narrow)
    before = stack.state()
    kept = {key: value.copy() for key, value in before.items()}
    stack.step(a_batch, Draws(0, 0))
    same_arrays(before, kept)
    assert not np.array_equal(
        stack.state()["parameter/generator.dense.weight"], kept["parameter/generator.dense.weight"]
    )


def test_a_stack_refuses_a_state_that_does_not_fit_and_stays_as_it_was(narrow, same_arrays) -> None:
    stack = TorchStack(narrow)
    before = stack.state()
    wrong = {**before, "parameter/generator.dense.weight": np.zeros((1, 1), np.float32)}
    wrong["parameter/discriminator.conv1.bias"] = wrong["parameter/discriminator.conv1.bias"] + 1
    del wrong["exp_avg/discriminator.dense.bias"]
    with pytest.raises(StateError) as caught:
        stack.load_state(wrong)
    assert "parameter/generator.dense.weight has shape (1, 1), expected (392, 5)" in str(caught.value)
    assert "exp_avg/discriminator.dense.bias is missing" in str(caught.value)
    same_arrays(stack.state(), before)


def test_a_float32_state_is_refused_by_a_float64_stack_until_it_is_widened(narrow) -> None:
    state, wide = TorchStack(narrow).state(), TorchStack(narrow.replace(dtype="float64"))
    with pytest.raises(StateError, match=r"has dtype float32, expected float64; widen\(\)"):
        wide.load_state(state)
    wide.load_state(states.widen(state, "float64"))
