"""The judge of first steps: recorded Flux at the published configuration, the Float64 referee elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.judge import judge, main
from pygan.benchmarking.judge_inputs import RECORDED, recorded_like
from pygan.benchmarking.verdicts import judged
from pygan.data import load
from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Header, Trace, TraceWriter

Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Store a first step as a row of ``stack`` would; returns the trace's folder."""

    def write(record: StepRecord, config: FluxTutorialConfig, stack: str = "torch", name: str = "row") -> Path:
        header = Header(stack, config.to_dict(), {"name": "digits", "images": 60000, "sha256": ""}, {}, "test")
        with TraceWriter(tmp_path / name, header) as trace:
            trace.write(record)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def first(request: pytest.FixtureRequest) -> StepRecord:
    """The narrow recipe's first step in torch."""
    config = FluxTutorialConfig(width=2, latent_dim=5, batch=8, grid=2, threads=1)
    return TorchStack(config).step(Batches(load("digits"), config, 8)[0], Draws(0), CAPTURE)


def test_only_the_published_configuration_has_a_recording(narrow: FluxTutorialConfig) -> None:
    published = FluxTutorialConfig()
    assert recorded_like(published.to_dict(), 128) == traces_dir() / RECORDED
    assert recorded_like(published.replace(threads=1, grid=2, randomness="native").to_dict(), 128)
    for other in (published.replace(seed=1), published.replace(width=32), narrow):
        assert recorded_like(other.to_dict(), other.batch) is None
    assert recorded_like(published.to_dict(), 96) is None


@pytest.mark.parametrize("stack", ["torch", "flux"])
def test_a_sound_narrow_step_agrees_with_the_referee(
    store: Store, first: StepRecord, narrow: FluxTutorialConfig, stack: str
) -> None:
    verdict = judge(store(first, narrow, stack), 8, 1)
    assert verdict.shows_time, verdict.reason
    assert "Float64 referee" in verdict.reason


def wrong_gradient(record: StepRecord) -> StepRecord:
    key = "generator.conv1.weight"
    return replace(record, gradient={**record.gradient, key: record.gradient[key][:, :, ::-1, ::-1].copy()})


def wrong_loss(record: StepRecord) -> StepRecord:
    return replace(record, loss={**record.loss, "generator": record.loss["generator"] + np.float32(1e-3)})


def without_a_gradient(record: StepRecord) -> StepRecord:
    return replace(record, gradient={key: value for key, value in record.gradient.items() if "norm2" not in key})


def other_patterns(record: StepRecord) -> StepRecord:
    key = "generator/generator.relu2"
    return replace(record, pattern={**record.pattern, key: ~record.pattern[key]})


def not_a_number(record: StepRecord) -> StepRecord:
    bad = record.logits["real"].copy()
    bad[0] = np.nan
    return replace(record, logits={**record.logits, "real": bad})


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (wrong_gradient, "generator.conv1.weight"),
        (wrong_loss, "generator"),
        (without_a_gradient, "missing"),
        (other_patterns, "another sign"),
        (not_a_number, "not finite"),
    ],
)
def test_a_planted_fault_differs(
    store: Store, first: StepRecord, narrow: FluxTutorialConfig, plant: Callable[[StepRecord], StepRecord], words: str
) -> None:
    verdict = judge(store(plant(first), narrow), 8, 1)
    assert verdict.verdict == "differs"
    assert words in verdict.reason


def test_recorded_flux_passes_as_a_flux_row_and_a_changed_one_does_not(store: Store) -> None:
    """What a live Flux row would store: the recording itself, judged by torch with its patterns."""
    record, config = Trace(traces_dir() / RECORDED).record(0), FluxTutorialConfig()
    verdict = judge(store(record, config, "flux"), 128, 2)
    assert verdict.shows_time, verdict.reason
    assert "torch with its on/off patterns" in verdict.reason
    key = "gradient/generator.conv1.weight"
    bent = replace(record, sketch={**record.sketch, key: record.sketch[key] * 1.01})
    verdict = judge(store(bent, config, "flux", "bent"), 128, 2)
    assert verdict.verdict == "differs"
    assert key in verdict.reason


@pytest.mark.parametrize(("flips", "verdict"), [(1, "agree"), (300, "differs")])
def test_a_flux_row_may_have_few_patterns_of_its_own_in_every_call(store: Store, flips: int, verdict: str) -> None:
    config = FluxTutorialConfig()
    batch = Batches(load("digits"), config, 128)[0]
    free = TorchStack(config).step(batch, Draws(0), CAPTURE)
    key = "fake/discriminator.leaky1"
    pattern = {name: value.copy() for name, value in free.pattern.items()}
    pattern[key].ravel()[:flips] ^= True
    own = TorchStack(config).step(batch, Draws(0), CAPTURE, impose=pattern)
    found = judge(store(replace(own, pattern=pattern), config, "flux"), 128, 2)
    assert found.verdict == verdict, found.reason
    assert verdict == "agree" or "another sign" in found.reason


def test_a_torch_row_is_held_to_the_recording(store: Store) -> None:
    config = FluxTutorialConfig()
    pattern = Trace(traces_dir() / RECORDED).record(0).pattern
    batch = Batches(load("digits"), config, 128)[0]
    record = TorchStack(config).step(batch, Draws(0), CAPTURE, impose=pattern)
    verdict = judge(store(record, config), 128, 2)
    assert verdict.shows_time, verdict.reason
    assert "recorded Flux" in verdict.reason


def test_the_judge_is_a_process_of_its_own_and_its_failure_is_no_verdict(
    store: Store, first: StepRecord, narrow: FluxTutorialConfig, tmp_path: Path
) -> None:
    good = judged(store(first, narrow), 8, 1)
    assert good.shows_time, good.reason
    bad = judged(tmp_path / "nothing", 8, 1)
    assert bad.verdict == "not run"
    assert "is not a trace" in bad.reason


def test_exit_codes_of_the_judge(store: Store, first: StepRecord, narrow: FluxTutorialConfig, tmp_path: Path) -> None:
    assert main([str(store(first, narrow)), "8", "1"]) == 0
    assert main([str(store(wrong_loss(first), narrow, "torch", "bad")), "8", "1"]) == 1
    assert main([str(tmp_path / "nothing"), "8", "1"]) == 2
