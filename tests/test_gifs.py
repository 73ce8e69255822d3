"""`pygan gif --flux FOLDER`: a user's own trace of Flux is used only where it is of the same run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pygan.config import RunConfig
from pygan.data import load
from pygan.errors import TraceError
from pygan.gifs import first_steps, given_trace, misfits, recorded_flux
from pygan.recipes import config_from_dict
from pygan.resources import traces_dir
from pygan.traces import Trace

NARROW = traces_dir() / "flux-narrow-float32"


def run_of(trace: Trace) -> tuple[RunConfig, object]:
    return config_from_dict(trace.header.config), load("digits", limit=trace.header.data["images"])


def test_the_shipped_trace_is_found_for_its_own_run_only() -> None:
    config, data = run_of(Trace(NARROW))
    assert recorded_flux(config, data).folder == NARROW  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="no recorded Flux run fits this config on digits"):
        recorded_flux(config.replace(seed=1), data)  # type: ignore[arg-type]


def test_a_trace_of_another_run_is_refused_with_every_difference_named() -> None:
    trace = Trace(NARROW)
    config, data = run_of(trace)
    assert given_trace(NARROW, config, data).steps == trace.steps  # type: ignore[arg-type]
    with pytest.raises(TraceError, match=r"seed = 0, wanted 3.*width = 2, wanted 4"):
        given_trace(NARROW, config.replace(seed=3, width=4), data)  # type: ignore[arg-type]
    other = dataclasses.replace(data, sha256="0" * 64)  # type: ignore[type-var]
    assert misfits(trace, config, other) == ["data = digits of other content than digits"]  # type: ignore[arg-type]


def test_a_trace_of_torch_is_not_taken_for_flux(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(NARROW, folder)
    index = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps({**index, "stack": "torch"}))
    config, data = run_of(Trace(folder))
    with pytest.raises(TraceError, match="stack = 'torch'"):
        given_trace(folder, config, data)  # type: ignore[arg-type]


def test_the_first_steps_leave_out_the_closing_picture_of_a_longer_run() -> None:
    trace = Trace(NARROW)
    total = trace.training_steps
    assert total == 20
    whole = first_steps(trace, total, 5)
    assert [record.step for record in whole if record.pictures] == [0, 5, 10, 15, 20]
    part = first_steps(trace, 10, 5)
    assert [record.step for record in part] == list(range(10))
    assert [record.step for record in part if record.pictures] == [0, 5]
    with pytest.raises(TraceError, match="holds 20 steps of Flux, not 21"):
        first_steps(trace, 21, 5)
