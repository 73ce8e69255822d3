"""The judge of first steps: the referee of the parity core, and recorded Flux in Float64 where there is a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged_rows import by_distance, first_step, in_tf32, referee_step, stored, with_other_sign

from pygan.benchmarking import judge as judging
from pygan.benchmarking.judge import Judge, judge, main
from pygan.benchmarking.judge_inputs import recorded_like
from pygan.benchmarking.verdicts import judged, judged_rows
from pygan.data import load
from pygan.parity import shipped
from pygan.parity.float32 import RefereeStep
from pygan.parity.referee import Referee
from pygan.parity.tolerances import KINK_FACTOR
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

SMALLER = {"digits": 62}
"""Images of the data set of the shipped narrow recordings."""


@pytest.fixture(scope="module")
def first(narrow: FluxTutorialConfig) -> StepRecord:
    """The narrow recipe's first step in torch."""
    return first_step(narrow)


@pytest.fixture(scope="module")
def one_judge() -> Judge:
    """It takes the referee's steps once for all rows of one configuration."""
    return Judge(8, 1)


# --- right rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("stack", [TorchStack, FastTorchStack])
def test_a_right_step_is_within_rounding_of_the_referee(
    stack: type[TorchStack], seed: int, threads: int, narrow: FluxTutorialConfig, tmp_path: Path
) -> None:
    config = narrow.replace(seed=seed, threads=threads)
    verdict = judge(stored(first_step(config, stack), config, tmp_path / "row"), 8, 1)
    assert verdict.shows_time, verdict.reason
    assert "within rounding of the Float64 referee; no recording of Flux at this configuration" in verdict.reason


def test_a_step_on_part_of_a_batch_is_judged_on_that_part(narrow: FluxTutorialConfig, tmp_path: Path) -> None:
    record = first_step(narrow, images=6)
    assert judge(stored(record, narrow, tmp_path / "row"), 6, 1).shows_time
    assert "other images" in judge(stored(record, narrow, tmp_path / "other"), 8, 1).reason


def test_a_row_in_float64_is_held_to_float64(narrow: FluxTutorialConfig, tmp_path: Path) -> None:
    config = narrow.replace(dtype="float64")
    record = first_step(config)
    assert "Float64 equal to the referee" in judge(stored(record, config, tmp_path / "row"), 8, 1).reason
    off = replace(record, loss={**record.loss, "generator": record.loss["generator"] * (1 + 1e-9)})
    assert not judge(stored(off, config, tmp_path / "off"), 8, 1).shows_time


def test_the_noise_that_is_not_kept_is_the_parity_cores(narrow: FluxTutorialConfig) -> None:
    ours, theirs = referee_step(narrow), Referee(narrow, load("digits"))
    whole = RefereeStep(theirs, 0, theirs.stack.state())
    assert len(ours.levels.squares) > 50
    for key, square in ours.levels.squares.items():
        assert square == pytest.approx(whole.levels.squares[key], rel=1e-9), key
    assert ours._ensemble.keys() == whole._ensemble.keys()
    for key, moved in ours._ensemble.items():
        assert moved == pytest.approx(whole._ensemble[key], rel=1e-3), key
    for key, moved in ours._kink_noise.items():
        np.testing.assert_allclose(moved, whole._kink_noise[key], rtol=1e-3)
    assert not any(one.output.parts for one in ours.levels.calls.values())


def test_the_referee_starts_where_a_row_does(narrow: FluxTutorialConfig) -> None:
    row, wide = TorchStack(narrow).state(), Referee(narrow, load("digits")).stack.state()
    assert row.keys() == wide.keys()
    for key, value in row.items():
        np.testing.assert_array_equal(value.astype(wide[key].dtype), wide[key], key)


# --- wrong rows --------------------------------------------------------------------------------------------------

Change = Callable[[StepRecord], StepRecord]
KERNEL = "generator/generator.conv1.weight"


def flipped_kernel(record: StepRecord) -> StepRecord:
    return replace(record, gradient={**record.gradient, KERNEL: record.gradient[KERNEL][:, :, ::-1, ::-1].copy()})


def scaled_gradient(record: StepRecord) -> StepRecord:
    return replace(record, gradient={**record.gradient, KERNEL: record.gradient[KERNEL] * np.float32(1 + 1e-4)})


def other_loss(record: StepRecord) -> StepRecord:
    return replace(record, loss={**record.loss, "generator": record.loss["generator"] + np.float32(1e-5)})


def without_a_gradient(record: StepRecord) -> StepRecord:
    return replace(record, gradient={key: value for key, value in record.gradient.items() if "norm2" not in key})


def without_gradients(record: StepRecord) -> StepRecord:
    return replace(record, gradient={})


def without_a_state(record: StepRecord) -> StepRecord:
    return replace(record, state={})


def not_a_number(record: StepRecord) -> StepRecord:
    bad = record.logits["real"].copy()
    bad[0] = np.nan
    return replace(record, logits={**record.logits, "real": bad})


def in_half(record: StepRecord) -> StepRecord:
    return replace(record, logits={key: value.astype(np.float16) for key, value in record.logits.items()})


def another_pattern(record: StepRecord) -> StepRecord:
    key = "generator/generator.relu2"
    return replace(record, pattern={**record.pattern, key: ~record.pattern[key]})


def another_batch(record: StepRecord) -> StepRecord:
    return replace(record, batch_sha256="0" * 64)


def a_step_too_many(record: StepRecord) -> StepRecord:
    return replace(record, state={**record.state, "step": np.array(2)})


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (flipped_kernel, KERNEL),
        (scaled_gradient, KERNEL),
        (other_loss, "loss/generator"),
        (without_a_gradient, "missing"),
        (without_gradients, "shows no gradient"),
        (without_a_state, "shows no state"),
        (not_a_number, "not finite"),
        (in_half, "dtype float16"),
        (another_pattern, "another sign"),
        (another_batch, "other images"),
        (a_step_too_many, "state/step"),
    ],
)
def test_a_changed_record_differs(
    plant: Change, words: str, first: StepRecord, narrow: FluxTutorialConfig, one_judge: Judge, tmp_path: Path
) -> None:
    verdict = one_judge(Trace(stored(plant(first), narrow, tmp_path / "row")))
    assert verdict.verdict == "differs"
    assert words in verdict.reason


@pytest.mark.parametrize(
    "change",
    [{"leaky_slope": 0.21}, {"bn_eps": 2e-5}, {"bn_momentum": 0.11}, {"dropout": 0.25}, {"generator_lr": 3e-4}],
)
@pytest.mark.parametrize("stack", [TorchStack, FastTorchStack])
def test_a_step_of_other_numbers_differs(
    stack: type[TorchStack], change: dict[str, float], narrow: FluxTutorialConfig, one_judge: Judge, tmp_path: Path
) -> None:
    record = first_step(narrow.replace(**change), stack)
    assert one_judge(Trace(stored(record, narrow, tmp_path / "row"))).verdict == "differs"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("network", "layer"), [("discriminator", "conv2"), ("discriminator", "dense"), ("generator", "conv1")]
)
def test_one_layer_in_tf32_differs(
    network: str, layer: str, seed: int, narrow: FluxTutorialConfig, tmp_path: Path
) -> None:
    config = narrow.replace(seed=seed)
    record = first_step(config, plant=in_tf32(network, layer))
    assert judge(stored(record, config, tmp_path / "row"), 8, 1).verdict == "differs"


def test_a_unit_may_have_another_sign_within_its_noise_alone(narrow: FluxTutorialConfig, tmp_path: Path) -> None:
    config = narrow.replace(seed=7)  # which has a unit so near zero
    found = by_distance(referee_step(config))
    for name, (away, key, place), verdict in (("near", found[0], "agree"), ("far", found[-1], "differs")):
        assert (away < KINK_FACTOR) == (name == "near")
        record = with_other_sign(config, key, place)
        assert (record.pattern[key] != first_step(config).pattern[key]).sum() == 1
        got = judge(stored(record, config, tmp_path / name), 8, 1)
        assert got.verdict == verdict, got.reason
        assert name == "near" or f"pattern/{key}" in got.reason


# --- recorded Flux -----------------------------------------------------------------------------------------------


@pytest.fixture
def recorded_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge reads the images on which Flux was recorded."""
    monkeypatch.setattr(judging, "load", lambda name: load(name, limit=SMALLER[name]))


@pytest.mark.usefixtures("recorded_data")
def test_flux_as_recorded_passes_and_a_changed_one_does_not(tmp_path: Path) -> None:
    trace = Trace(traces_dir() / "flux-narrow-float32")
    config, record = FluxTutorialConfig.from_dict(trace.header.config), trace.record(0)
    verdict = judge(stored(record, config, tmp_path / "row", "flux"), config.batch, 1)
    assert verdict.shows_time, verdict.reason
    assert "Float64 equal to recorded Flux, Float32 within rounding of the referee" in verdict.reason
    verdict = judge(stored(scaled_gradient(record), config, tmp_path / "bent", "flux"), config.batch, 1)
    assert verdict.verdict == "differs"
    assert KERNEL in verdict.reason


def recording(folder: Path, config: FluxTutorialConfig, run: FluxTutorialConfig) -> Path:
    """What would be a recording of Flux at ``config``, of a run of ``run``."""
    return stored(first_step(run), config, folder, "flux")


def test_a_referee_that_is_not_recorded_flux_in_float64_shows_no_time(
    first: StepRecord, narrow: FluxTutorialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "traces_dir", lambda: tmp_path / "shipped")
    wide = narrow.replace(dtype="float64")
    folder = recording(tmp_path / "shipped" / "one", wide, wide.replace(bn_eps=1.00001e-5))
    row = stored(first, narrow, tmp_path / "row")
    verdict = judge(row, 8, 1)
    assert verdict.verdict == "differs"
    assert "the referee's first step in Float64, against recorded Flux's" in verdict.reason
    for file in folder.iterdir():
        file.unlink()
    recording(folder, wide, wide)
    assert "Float64 equal to recorded Flux" in judge(row, 8, 1).reason


def test_a_recording_counts_for_its_own_first_step_alone(narrow: FluxTutorialConfig) -> None:
    trace = Trace(traces_dir() / "flux-narrow-float32")
    config = FluxTutorialConfig.from_dict(trace.header.config)
    batch = trace.record(0).batch_sha256
    for other in (config, config.replace(threads=2, grid=3, randomness="native")):
        assert recorded_like(other.to_dict(), config.batch, batch) == trace.folder
    for other in (config.replace(seed=1), config.replace(width=3), config.replace(constants="native")):
        assert recorded_like(other.to_dict(), config.batch, batch) is None
    assert recorded_like(config.to_dict(), 6, batch) is None
    assert recorded_like(config.to_dict(), config.batch, "0" * 64) is None


@pytest.mark.slow
@pytest.mark.parametrize("stack", [TorchStack, FastTorchStack])
def test_a_torch_row_at_the_published_size_agrees_with_flux(stack: type[TorchStack], tmp_path: Path) -> None:
    config = FluxTutorialConfig(threads=2)
    verdict = judge(stored(first_step(config, stack), config, tmp_path / "row"), 128, 2)
    assert verdict.shows_time, verdict.reason
    assert "Float64 equal to recorded Flux" in verdict.reason


# --- the process -------------------------------------------------------------------------------------------------


def test_the_judge_is_a_process_of_its_own_and_its_failure_is_no_verdict(
    first: StepRecord, narrow: FluxTutorialConfig, tmp_path: Path
) -> None:
    good, bad = stored(first, narrow, tmp_path / "good"), stored(other_loss(first), narrow, tmp_path / "bad")
    found = judged_rows([good, tmp_path / "nothing", bad], 8, 1)
    assert [one.verdict for one in found] == ["agree", "not run", "differs"]
    assert "is not a trace" in found[1].reason
    failed = judged(good, 0, 1)
    assert failed.verdict == "not run"
    assert "the judge failed" in failed.reason


def test_exit_codes_of_the_judge(first: StepRecord, narrow: FluxTutorialConfig, tmp_path: Path) -> None:
    good, bad = stored(first, narrow, tmp_path / "good"), stored(other_loss(first), narrow, tmp_path / "bad")
    assert main(["8", "1", str(good)]) == 0
    assert main(["8", "1", str(good), str(bad)]) == 1
    assert main(["8", "1", str(tmp_path / "nothing"), str(good)]) == 2
