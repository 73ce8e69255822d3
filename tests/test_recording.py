"""What a record of a step holds where a network is updated twice, and what a recording keeps beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from pygan import recipes
from pygan.config import RunConfig, sourced
from pygan.data import load, scale
from pygan.draws import Draws
from pygan.files import sha256
from pygan.parity.compare import compare_arrays
from pygan.parity.sides import words_of
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.recording import record
from pygan.records import StepRecord
from pygan.schedule import Schedule
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.state import widen
from pygan.traces import Trace

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")


# --- a recipe that updates one network twice in a step -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TwiceConfig(RunConfig):
    recipe: ClassVar[str] = "twice"
    networks: ClassVar[tuple[str, ...]] = ("net",)
    batch: int = sourced(4, "ours", at_least=1)
    epochs: int = sourced(1, "ours", at_least=1)


class Block(nn.Module):
    """Layers with a sum, and a function that is no module, between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(6, 6) for _ in range(3))
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.norm(self.second(y))
        return self.third(torch.relu(y + z))


def recipe() -> ModuleType:
    """The recipe's torch side."""
    made: Any = ModuleType("twice")

    def build(config: TwiceConfig) -> dict[str, nn.Module]:
        torch.manual_seed(5)
        layers = OrderedDict[str, nn.Module](
            flatten=nn.Flatten(), inner=nn.Linear(784, 6), block=Block(), leaky=nn.LeakyReLU(0.2), last=nn.Linear(6, 1)
        )
        return {"net": nn.Sequential(layers)}

    def optimisers(networks: Mapping[str, nn.Module], config: TwiceConfig) -> dict[str, OptimisersAdam]:
        return {name: OptimisersAdam(net.parameters(), 1e-2, (0.5, 0.9), 1e-8) for name, net in networks.items()}

    def train_step(run: Any, real: Tensor) -> None:
        for what in ("first", "second"):
            logits = run.call(what, "net", real, train=True)
            run.record("logits", what, logits)
            loss = logits.square().mean() if what == "first" else logits.exp().mean()
            run.record("loss", what, loss)
            run.update(f"net/{what}", loss)

    made.build, made.optimisers, made.train_step = build, optimisers, train_step
    made.initialise = lambda networks, config, draws: None
    return made


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> TwiceConfig:
    monkeypatch.setitem(recipes.CONFIGS, "twice", TwiceConfig)
    monkeypatch.setattr("pygan.stacks.torch_stack.torch_recipe", lambda name: recipe())
    return TwiceConfig(dtype="float64", threads=1)


@pytest.fixture
def batch() -> np.ndarray:
    return scale(load("digits", limit=4).images)


def taken(stack: TorchStack, batch: np.ndarray, **how: Any) -> StepRecord:
    stack.initialise()
    return stack.step(batch, Draws(0), EVERYTHING, **how)


def differing(mine: StepRecord, theirs: StepRecord) -> set[str]:
    found = compare_arrays(mine.to_arrays(), theirs.to_arrays())
    return {one.key for one in found if one.relative > 1e-12 or one.fault}


@pytest.mark.parametrize("kind", [TorchStack, FastTorchStack])
def test_two_updates_of_one_network_in_a_step_do_not_overwrite_each_other(
    kind: type[TorchStack], twice: TwiceConfig, batch: np.ndarray
) -> None:
    stack = kind(twice)
    before = stack.state()
    one = taken(stack, batch)
    paths = [path for path, _ in stack.networks["net"].named_parameters()]
    assert one.gradient.keys() == {f"net/{what}/net.{path}" for what in ("first", "second") for path in paths}
    slots = ("parameter", "exp_avg", "exp_avg_sq")
    assert one.updated.keys() == {f"net/first/{slot}/net.{path}" for slot in slots for path in paths}
    for path in paths:
        start, middle, end = (
            before[f"parameter/net.{path}"], one.updated[f"net/first/parameter/net.{path}"],
            one.state[f"parameter/net.{path}"],
        )  # fmt: skip
        first, second = (one.gradient[f"net/{what}/net.{path}"] for what in ("first", "second"))
        if first.any():
            assert not np.array_equal(first, second), path
            assert not np.array_equal(start, middle), path
            assert not np.array_equal(middle, end), path
        moment = one.updated[f"net/first/exp_avg/net.{path}"]
        np.testing.assert_allclose(moment, 0.5 * first, rtol=1e-12)
        np.testing.assert_allclose(one.state[f"exp_avg/net.{path}"], 0.5 * moment + 0.5 * second, rtol=1e-12)
    np.testing.assert_allclose(one.state["beta_power/net"], [0.5**3, 0.9**3], rtol=1e-12)


def test_the_second_update_starts_where_the_first_one_ended(twice: TwiceConfig, batch: np.ndarray) -> None:
    one = taken(TorchStack(twice), batch)
    w, b = (one.updated[f"net/first/parameter/net.inner.{name}"] for name in ("weight", "bias"))
    x = one.activation["second/net.flatten"]
    np.testing.assert_allclose(one.activation["second/net.inner"], x @ w.T + b, rtol=1e-10)


def test_the_order_has_each_update_and_both_states_in_turn(twice: TwiceConfig, batch: np.ndarray) -> None:
    order = taken(TorchStack(twice), batch).order
    place = {key: at for at, key in enumerate(order)}
    expected = [
        "loss/first",
        "gradient/net/first/net.last.weight",
        "updated/net/first/parameter/net.last.weight",
        "activation/second/net.inner",
        "loss/second",
        "gradient/net/second/net.last.weight",
        "state/parameter/net.last.weight",
    ]
    assert sorted(expected, key=lambda key: place[key]) == expected


def test_a_step_of_two_updates_is_forced_through_both(twice: TwiceConfig, batch: np.ndarray) -> None:
    stack = TorchStack(twice)
    right = taken(stack, batch)
    assert differing(taken(stack, batch, force=right), right) == set()
    wrong = TorchStack(twice)

    class Wrong(OptimisersAdam):
        count = 0

        def step(self, closure: Any = None) -> None:
            Wrong.count += 1
            self.param_groups[0]["lr"] = 1e-2 if Wrong.count % 2 else 3e-2
            super().step()

    wrong.initialise()
    wrong.optimisers["net"].__class__ = Wrong
    free = wrong.step(batch, Draws(0), EVERYTHING)
    assert {key for key in differing(free, right) if key.startswith("state/parameter")}
    wrong.initialise()
    wrong.optimisers["net"].__class__ = Wrong
    forced = wrong.step(batch, Draws(0), EVERYTHING, force=right)
    found = differing(forced, right)
    moved = {f"state/parameter/net.{path}" for path, _ in stack.networks["net"].named_parameters()}
    assert found
    assert found <= moved, "the first update is right, and nothing inherits"
    first = {**right.updated, "net/first/parameter/net.inner.weight": right.state["parameter/net.inner.weight"]}
    other = StepRecord(**{**right.__dict__, "updated": first})
    assert "updated/net/first/parameter/net.inner.weight" in differing(taken(stack, batch, force=other), other)


def test_a_running_statistic_is_kept_after_every_call(twice: TwiceConfig, batch: np.ndarray) -> None:
    stack = TorchStack(twice)
    one = taken(stack, batch)
    name = "net.block.norm.running_mean"
    assert one.buffer.keys() == {
        f"{call}/net.block.norm.running_{what}" for call in ("first", "second") for what in ("mean", "var")
    }
    means = [one.activation[f"{call}/net.block.second"].mean(0) for call in ("first", "second")]
    np.testing.assert_allclose(one.buffer[f"first/{name}"], 0.1 * means[0], rtol=1e-10)
    np.testing.assert_allclose(one.buffer[f"second/{name}"], 0.09 * means[0] + 0.1 * means[1], rtol=1e-10)
    np.testing.assert_array_equal(one.state[f"buffer/{name}"], one.buffer[f"second/{name}"])


def test_a_tap_knows_which_tap_made_its_input_unless_something_lies_between(
    twice: TwiceConfig, batch: np.ndarray
) -> None:
    sources = taken(TorchStack(twice), batch).sources
    for call in ("first", "second"):
        at = f"{call}/net"
        assert sources[f"{at}.input"] == ("" if call == "first" else "first/net.input"), "the same images"
        assert sources[f"{at}.flatten"] == f"{at}.input"
        assert sources[f"{at}.inner"] == f"{at}.flatten"
        assert sources[f"{at}.block.first"] == f"{at}.inner"
        assert sources[f"{at}.block.second"] == f"{at}.block.first"
        assert sources[f"{at}.block.norm"] == f"{at}.block.second"
        assert sources[f"{at}.block.third"] == "", "a sum and a relu lie between"
        assert sources[f"{at}.leaky"] == f"{at}.block.third"
        assert sources[f"{at}.last"] == f"{at}.leaky"


def test_an_image_made_by_one_network_is_the_source_of_what_enters_the_next(
    narrow: FluxTutorialConfig, a_batch: np.ndarray
) -> None:
    sources = TorchStack(narrow).step(a_batch, Draws(0), EVERYTHING).sources
    assert sources["fake/discriminator.input"] == "sample/generator.tanh"
    assert sources["generator/discriminator.input"] == "generator/generator.tanh"
    assert sources["real/discriminator.input"] == ""


# --- what a recording keeps --------------------------------------------------------------------------------------


def recorded(narrow: FluxTutorialConfig, digits: Any, folder: Path, words: tuple[str, ...], twin: Any = ()) -> Trace:
    beside = TorchStack(narrow.replace(dtype="float64")) if twin else None
    made = record(
        TorchStack(narrow), digits, 3, folder, capture=lambda step: words, twin=beside, twin_capture=lambda step: twin
    )
    assert len(list(made)) == 3
    return Trace(folder)


def test_a_twin_is_the_float64_step_from_the_float32_state(narrow, digits, tmp_path: Path, same_arrays) -> None:
    trace = recorded(narrow, digits, tmp_path / "t", ("state",), EVERYTHING)
    schedule_draws, wide = Draws(narrow.seed), TorchStack(narrow.replace(dtype="float64"))
    schedule = Schedule(digits.images, narrow.batch, schedule_draws)
    for step in range(3):
        twin = trace.twin(step)
        assert twin is not None
        wide.load_state(widen(trace.state_before(step), "float64"))
        again = wide.step(schedule[step], schedule_draws.at(step), EVERYTHING)
        for kind in ("loss", "logits", "gradient", "buffer", "state", "activation", "activation_gradient", "mode"):
            same_arrays(getattr(twin, kind), getattr(again, kind))
        assert twin.batch_sha256 == again.batch_sha256 == trace.record(step).batch_sha256
        assert twin.order == again.order
        assert not twin.pattern, "digests stand for them"
        assert {key: value.tobytes().hex() for key, value in twin.digest.items()} == {
            f"pattern/{key}": sha256(value.tobytes()) for key, value in again.pattern.items()
        }
        assert set(words_of(twin)) == set(EVERYTHING)


def test_beside_a_twin_patterns_are_kept_as_flips_and_come_back(narrow, digits, tmp_path: Path) -> None:
    trace = recorded(narrow, digits, tmp_path / "t", ("state", "patterns"), ("logits",))
    plain = recorded(narrow, digits, tmp_path / "p", ("state", "patterns"))
    wide, seen = TorchStack(narrow.replace(dtype="float64")), 0
    schedule = Schedule(digits.images, narrow.batch, Draws(narrow.seed))
    for step in range(3):
        kept, whole = trace.record(step), plain.record(step)
        assert not kept.pattern
        assert kept.flip.keys() == whole.pattern.keys()
        wide.load_state(widen(trace.state_before(step), "float64"))
        right = wide.step(schedule[step], Draws(narrow.seed, step), ("patterns",))
        for key, places in kept.flip.items():
            assert places.dtype == np.int64
            again = right.pattern[key].copy()
            again[tuple(places.T)] ^= True
            np.testing.assert_array_equal(again, whole.pattern[key])
            seen += len(places)
    assert trace.twin(0).digest.keys() == {f"pattern/{key}" for key in plain.record(0).pattern}  # type: ignore[union-attr]


def test_without_a_twin_there_is_none(narrow, digits, tmp_path: Path) -> None:
    trace = recorded(narrow, digits, tmp_path / "t", ("state",))
    assert [trace.twin(step) for step in range(3)] == [None] * 3
    assert len(trace) == 3


def test_twins_are_kept_at_the_steps_asked_for(narrow, digits, tmp_path: Path) -> None:
    beside = TorchStack(narrow.replace(dtype="float64"))
    list(
        record(
            TorchStack(narrow), digits, 3, tmp_path / "t",
            capture=lambda step: ("state", "patterns"),
            twin=beside, twin_capture=lambda step: ("gradients",) if step == 1 else (),
        )
    )  # fmt: skip
    trace = Trace(tmp_path / "t")
    assert [trace.twin(step) is not None for step in range(3)] == [False, True, False]
    assert [bool(record.pattern) for record in trace] == [True, False, True]
    assert trace.steps == [0, 1, 2]


def test_recording_a_twin_does_not_change_the_run(narrow, digits, tmp_path: Path, same_arrays) -> None:
    with_one = recorded(narrow, digits, tmp_path / "t", ("state",), ("state",))
    without = recorded(narrow, digits, tmp_path / "p", ("state",))
    for one, other in zip(with_one, without, strict=True):
        same_arrays(one.state, other.state)


@pytest.mark.parametrize(("words", "kind"), [(("state",), "state"), (("sketches",), "digest"), (("logits",), "")])
def test_the_initial_state_is_kept_in_full_or_as_digests(
    words: tuple[str, ...], kind: str, narrow, digits, tmp_path: Path, same_arrays
) -> None:
    initial, state = recorded(narrow, digits, tmp_path / "t", words).initial(), TorchStack(narrow).state()
    if not kind:
        assert initial is None
        return
    assert initial is not None
    assert (bool(initial.state), bool(initial.digest)) == (kind == "state", kind == "digest")
    if kind == "state":
        same_arrays(initial.state, state)
    else:
        assert {key: value.tobytes().hex() for key, value in initial.digest.items()} == {
            f"state/{key}": sha256(value.tobytes()) for key, value in state.items()
        }


def test_a_tensor_that_a_step_holds_twice_is_stored_once(narrow, digits, tmp_path: Path, same_arrays) -> None:
    trace = recorded(narrow, digits, tmp_path / "t", EVERYTHING)
    stored = load_file(tmp_path / "t" / "chunk-000000.safetensors")
    one = trace.record(1)
    pairs = [
        ("buffer/generator/generator.norm1.running_mean", "state/buffer/generator.norm1.running_mean"),
        ("activation/sample/generator.tanh", "activation/fake/discriminator.input"),
        ("activation/generator/generator.tanh", "activation/generator/discriminator.input"),
    ]
    arrays = one.to_arrays()
    for first, second in pairs:
        assert (f"1/{first}" in stored) + (f"1/{second}" in stored) == 1, (first, second)
        np.testing.assert_array_equal(arrays[first], arrays[second])
    kept: dict[bytes, list[str]] = {}
    for name, value in stored.items():
        if name.startswith("1/") and value.nbytes >= 256:
            kept.setdefault(value.tobytes() + str(value.dtype).encode(), []).append(name)
    assert [names for names in kept.values() if len(names) > 1] == []
    again = TorchStack(narrow)
    again.load_state(trace.state_before(1))
    live = again.step(Schedule(digits.images, 8, Draws(0))[1], Draws(0, 1), EVERYTHING)
    same_arrays(one.to_arrays(), live.to_arrays())
