"""Rows in lowered precision are held to the referee within their own rounding, and claim no Float32 step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged_rows import first_step, stored

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.judge import UNITS, judge
from pygan.benchmarking.verdicts import Verdict
from pygan.data import load
from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack

CONFIG = FluxTutorialConfig(width=8, latent_dim=20, batch=32, threads=1)


@pytest.fixture(scope="module")
def in_bf16() -> StepRecord:
    """A first step as the bf16 row takes it."""
    stack = FastTorchStack(CONFIG, precision="bf16")
    assert stack.describe()["precision"] == "bf16"
    return stack.step(Batches(load("digits"), CONFIG, 32)[0], Draws(0), CAPTURE)


def verdict_on(record: StepRecord, folder: Path, precision: str) -> Verdict:
    """The judge's, of a row of that precision; of a Flux row, which states none, where it is empty."""
    described = {"precision": precision} if precision else "flux"
    return judge(stored(record, CONFIG, folder / f"row {precision}", stack=described), 32, 1)


def test_a_bf16_step_agrees_as_one_of_bf16_and_not_as_one_of_float32(in_bf16: StepRecord, tmp_path: Path) -> None:
    verdict = verdict_on(in_bf16, tmp_path, "bf16")
    assert verdict.shows_time, verdict.reason
    assert "4 units of bf16" in verdict.reason and "no Float32 step" in verdict.reason
    assert verdict_on(in_bf16, tmp_path, "").verdict == "differs"


def test_it_really_computes_in_bf16(in_bf16: StepRecord) -> None:
    plain = first_step(CONFIG)
    key = "generator/generator.conv2.weight"
    error = np.linalg.norm(in_bf16.gradient[key] - plain.gradient[key]) / np.linalg.norm(plain.gradient[key])
    assert error > 0.1 * UNITS["bf16"]


@pytest.mark.parametrize("fault", ["gradient", "loss", "logits", "missing", "patterns"])
def test_a_wrong_step_is_refused_in_bf16_too(fault: str, in_bf16: StepRecord, tmp_path: Path) -> None:
    key = "generator/generator.conv1.weight"
    gradient, loss, logits = in_bf16.gradient, in_bf16.loss, in_bf16.logits
    wrong = {
        "gradient": lambda: replace(in_bf16, gradient={**gradient, key: gradient[key] * np.float32(1.05)}),
        "loss": lambda: replace(in_bf16, loss={**loss, "generator": loss["generator"] + np.float32(0.03)}),
        "logits": lambda: replace(in_bf16, logits={**logits, "real": logits["real"] + np.float32(0.03)}),
        "missing": lambda: replace(in_bf16, gradient={k: v for k, v in gradient.items() if k != key}),
        "patterns": lambda: replace(
            in_bf16, pattern={**in_bf16.pattern, (one := "generator/generator.relu2"): ~in_bf16.pattern[one]}
        ),
    }
    assert verdict_on(wrong[fault](), tmp_path, "bf16").verdict == "differs"


def test_only_float32_runs_can_be_lowered() -> None:
    from pygan.errors import ConfigError

    for config, precision in ((CONFIG.replace(dtype="float64"), "bf16"), (CONFIG, "tf16")):
        with pytest.raises(ConfigError, match="precision"):
            FastTorchStack(config, precision=precision)
    with pytest.raises(ConfigError, match="no change quantum of the fast step; known: memory"):
        FastTorchStack(CONFIG, ("quantum",))
