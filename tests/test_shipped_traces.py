"""The recordings of real Flux that ship with the package: complete, small, and honest about their origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from pygan.recipes import config_from_dict
from pygan.resources import traces_dir
from pygan.traces import Trace

FOLDERS = sorted(path.parent for path in traces_dir().glob("*/trace.json"))


def test_together_they_stay_under_10_megabytes() -> None:
    assert sum(path.stat().st_size for path in traces_dir().rglob("*") if path.is_file()) < 10e6


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
    assert config_from_dict(trace.header.config).to_dict() == trace.header.config
    losses = [record for record in trace if record.loss]
    assert [record.step for record in losses] == list(range(len(losses)))
    assert all(len(record.batch_sha256) == 64 for record in losses)


def test_the_promised_traces_are_there() -> None:
    expected = {"narrow-float32", "narrow-float64", "narrow-as-printed", "full-digits", "full-mnist"}
    assert {folder.name for folder in FOLDERS} == {f"flux-{name}" for name in expected}
    assert sum(1 for record in Trace(traces_dir() / "flux-full-digits") if record.loss) == 1000
    for width in ("float32", "float64"):
        narrow = Trace(traces_dir() / f"flux-narrow-{width}")
        assert sum(1 for record in narrow if record.loss) >= 20
        assert narrow.header.data["images"] % narrow.header.config["batch"] == 6
