"""Level 6: what Flux's BatchNorm leaves behind is the published update of what entered it, and of nothing else.

The optimiser's half is in ``test_adam_matches_optimisers.py``; that the port's whole state after a step is Flux's is in
``test_one_step_float64.py``. Here the running statistics are computed anew, in numpy, from Flux's recorded layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from compared_runs import recorded
from tiny_classifier import TinyClassifierConfig

from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.state import State
from pygan.traces import Trace

TRACES = Path(__file__).with_name("traces")
GAN = ("flux-tiny-layers", {"norm1": "dense", "norm2": "conv1", "norm3": "conv2"}, "generator/generator")
CLASSIFIER = (f"flux-{TinyClassifierConfig.recipe.replace('_', '-')}", {"norm1": "conv1"}, "images/classifier")


def updated(x: np.ndarray, before: State, path: str, momentum: float, *, biased: bool = False) -> dict[str, np.ndarray]:
    """Running statistics after ``x`` ``(N, C)`` or ``(N, C, H, W)`` in train mode."""
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    variance = x.var(axis=axes) * (1.0 if biased else count / (count - 1))
    mean, var = (before[f"buffer/{path}.running_{what}"] for what in ("mean", "var"))
    return {
        f"buffer/{path}.running_mean": (1 - momentum) * mean + momentum * x.mean(axis=axes),
        f"buffer/{path}.running_var": (1 - momentum) * var + momentum * variance,
    }


def gap(record: StepRecord, expected: dict[str, np.ndarray]) -> float:
    """Largest relative norm over the running variances and means."""
    return away(record.state, expected)


def away(found: Mapping[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Largest relative norm of a difference from ``expected``."""
    return float(max(np.linalg.norm(found[k] - value) / np.linalg.norm(value) for k, value in expected.items()))


@pytest.mark.parametrize("made", [GAN, CLASSIFIER], ids=["GAN", "no GAN"])
def test_recorded_running_statistics_are_the_published_update_of_the_recorded_layers(made) -> None:  # type: ignore[no-untyped-def]
    name, inputs, call = made
    trace = Trace(TRACES / name)
    config = config_from_dict(trace.header.config)
    momentum = config.constant(config.bn_momentum)
    network = call.partition("/")[2]
    compared = 0
    for record in (one for one in trace if one.activation):
        before = trace.state_before(record.step)
        for norm, entered in inputs.items():
            x, path = record.activation[f"{call}.{entered}"], f"{network}.{norm}"
            assert gap(record, updated(x, before, path, momentum)) < 1e-13, f"step {record.step}: {path}"
            assert gap(record, updated(x, before, path, momentum, biased=True)) > 1e-7, "N in place of N - 1 shows"
            assert gap(record, updated(x, before, path, 1 - momentum)) > 1e-3
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("made", [GAN, CLASSIFIER], ids=["GAN", "no GAN"])
def test_what_each_call_left_of_them_is_recorded_by_call(made) -> None:  # type: ignore[no-untyped-def]
    """Only the call inside the gradient moves them, so what it leaves is what the step leaves."""
    name, inputs, call = made
    moving, _, network = call.partition("/")
    for record in Trace(TRACES / name):
        if record.state and record.loss:
            paths = {f"{network}.{norm}.running_{what}" for norm in inputs for what in ("mean", "var")}
            assert record.buffer.keys() == {f"{moving}/{path}" for path in paths}
            for path in paths:
                np.testing.assert_array_equal(record.buffer[f"{moving}/{path}"], record.state[f"buffer/{path}"])


def test_only_the_call_inside_the_gradient_updates_them() -> None:
    """The sampling call sees the same noise in eval mode; had it updated too, the statistics would have moved twice."""
    name, inputs, call = GAN
    trace = Trace(TRACES / name)
    config = config_from_dict(trace.header.config)
    momentum = config.constant(config.bn_momentum)
    record, before = trace.record(0), trace.state_before(0)
    sampled = record.activation["sample/generator.dense"]
    once = updated(sampled, before, "generator.norm1", momentum)
    twice = updated(record.activation[f"{call}.dense"], {**before, **once}, "generator.norm1", momentum)
    assert gap(record, twice) > 1e-3
    assert gap(record, {key: before[key] for key in once if key.endswith("var")}) > 1e-3, "never updated would show"
    assert {key.partition("/")[2].rpartition(".")[0] for key in record.state if key.startswith("buffer/")} == {
        f"generator.{norm}" for norm in inputs
    }


def test_what_a_step_does_not_train_it_leaves_bit_for_bit() -> None:
    """In the published loop the generator's parameters stay; its running statistics do as well: no call trains it."""
    trace = recorded("flux-narrow-as-printed")
    for record in (one for one in trace if one.state and one.loss):
        before = trace.state_before(record.step)
        for key, value in record.state.items():
            if "generator" in key:
                np.testing.assert_array_equal(value, before[key], err_msg=f"step {record.step}: {key}")
            elif key.startswith("parameter/"):
                assert not np.array_equal(value, before[key]), key
