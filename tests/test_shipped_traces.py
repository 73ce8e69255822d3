"""The recordings of real Flux that ship with the package: complete, small, and honest about their origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pygan.recipes import config_from_dict
from pygan.resources import traces_dir
from pygan.traces import Trace

FOLDERS = sorted(path.parent for path in traces_dir().glob("*/trace.json"))
NARROW = ("flux-narrow-float32", "flux-narrow-float64", "flux-narrow-as-printed")
FULL = ("flux-full-digits", "flux-full-mnist")
PICTURES = {"flux-full-digits-pictures": 1000, "flux-digits-float64": 3000}
OTHERS = tuple(f"flux-{name}-narrow-float{bits}" for name in ("mlp-gan", "model-zoo") for bits in (32, 64))


def test_together_they_stay_under_22_megabytes() -> None:
    assert sum(path.stat().st_size for path in traces_dir().rglob("*") if path.is_file()) < 22e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_trace_reads_whole_and_says_where_it_comes_from(folder: Path) -> None:
    trace = Trace(folder)
    assert trace.header.stack == "flux"
    facts = trace.header.environment["stack"]
    assert facts["julia"].startswith("1.10.")
    assert facts["packages"]["Flux"] == "0.16.9"
    assert facts["packages"].keys() >= {"NNlib", "Optimisers", "Zygote"}
    assert facts["julia_threads"] == 1
    assert facts["blas_threads"] >= 1
    assert trace.header.environment["cpu"]
    assert trace.header.command.startswith("pygan record --stack flux")
    assert len(trace.header.data["sha256"]) == 64
    assert config_from_dict(trace.header.config).to_dict() == trace.config
    losses = [record for record in trace if record.loss]
    assert [record.step for record in losses] == list(range(len(losses)))
    assert all(len(record.batch_sha256) == 64 for record in losses)


def test_the_promised_traces_are_there() -> None:
    assert {folder.name for folder in FOLDERS} == {*NARROW, *FULL, *OTHERS, *PICTURES}
    for name, steps in PICTURES.items():
        pictures = Trace(traces_dir() / name)
        assert pictures.training_steps == steps
        assert sum(1 for record in pictures if record.pictures) > 50


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_run_can_be_stepped_through_and_holds_partial_batches(name: str) -> None:
    trace = Trace(traces_dir() / name)
    config, count = trace.header.config, trace.training_steps
    assert count >= {"flux-narrow-float32": 12, "flux-narrow-float64": 20}.get(name, 2)
    assert trace.header.data["images"] % config["batch"] == 6
    assert len(trace.state_before(0)) == 57
    for step in range(count):
        record = trace.record(step)
        assert record.gradient
        assert len(record.state) == 57
        assert (trace.twin(step) is not None) == (config["dtype"] == "float32")
        assert all(np.issubdtype(places.dtype, np.integer) for places in record.flip.values())
        assert bool(record.flip) == (config["dtype"] == "float32")
        assert bool(record.pattern) == (config["dtype"] == "float64")


def test_the_narrow_float64_run_has_all_layers_at_first_at_a_partial_batch_and_after_it() -> None:
    trace = Trace(traces_dir() / "flux-narrow-float64")
    epoch = -(-trace.header.data["images"] // trace.header.config["batch"])
    detailed = [record for record in trace if record.activation]
    assert [record.step for record in detailed] == [0, 1, 2 * epoch - 1, 2 * epoch]
    assert [len(record.logits["real"]) for record in detailed] == [8, 8, 6, 8]
    assert all(record.activation_gradient and record.mode and record.buffer for record in detailed)


@pytest.mark.parametrize("name", FULL)
def test_the_first_step_at_the_published_size_is_kept_as_sketches_with_its_twin(name: str) -> None:
    trace = Trace(traces_dir() / name)
    initial, first, twin = trace.initial(), trace.record(0), trace.twin(0)
    assert initial is not None
    assert (len(initial.state), len(initial.digest)) == (0, 57)
    assert twin is not None
    assert first.sketch.keys() == twin.sketch.keys()
    assert {key.removeprefix("pattern/") for key in twin.digest} == first.flip.keys()


@pytest.mark.parametrize("name", [*NARROW, *FULL])
def test_pictures_come_with_the_grid_that_flux_laid_out(name: str) -> None:
    drawn = [record for record in Trace(traces_dir() / name) if record.pictures]
    assert drawn
    for record in drawn:
        assert record.pictures["grid"].dtype == np.uint8
    assert "values" in drawn[0].pictures
