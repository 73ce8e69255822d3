"""In Float64 a training of the port draws the pictures of recorded Flux to the last byte, long after digits appear."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pygan import cli
from pygan.data import load
from pygan.pictures.gif import read_gif
from pygan.recipes import config_from_dict
from pygan.resources import traces_dir
from pygan.stacks.choose import make_stack
from pygan.traces import Trace
from pygan.training import train

NAME = "flux-digits-float64"
FLAGS = ("--dtype", "float64", "--width", "16", "--batch", "32", "--every", "50", "--flux", "recorded")
LIMIT = 1e-12
"""Of losses, relative: they were equal to 13 digits or more at every one of 3,000 steps when this was recorded."""


@pytest.mark.parametrize("steps", [101, pytest.param(None, marks=pytest.mark.slow)], ids=["first", "whole"])
def test_both_gifs_are_equal_in_every_byte(
    steps: int | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("--steps", str(steps)) if steps else ()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pygan", "gif", *FLAGS, *asked, "--out", "run"])
    cli.main()  # raises SystemExit unless the exit code is 0
    out = capfd.readouterr().out
    frames = 61 if steps is None else 3
    assert f"Pictures: all {frames} of both free runs are equal in every byte of the GIFs" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["verdict"], summary["pictures"]["equal"]) == ("agree", frames)
    assert (tmp_path / "run" / "flux.gif").read_bytes() == (tmp_path / "run" / "torch.gif").read_bytes()
    assert len(read_gif(tmp_path / "run" / "flux.gif").frames) == frames


@pytest.mark.parametrize("form", ["torch", "torch-fast"])
def test_a_fault_of_one_part_in_a_million_parts_the_pictures(form: str) -> None:
    trace = Trace(traces_dir() / NAME)
    config = config_from_dict(trace.header.config).replace(threads=0)
    apart = {}
    for name, changed in (("right", config), ("wrong", config.replace(generator_lr=2e-4 * (1 + 1e-6)))):
        losses = [record.loss["generator"] for record in train(make_stack(form, changed), load("digits"), 60)]
        told = [trace.record(step).loss["generator"] for step in range(60)]
        apart[name] = np.max(np.abs(np.subtract(losses, told)) / np.abs(told))
    assert apart["right"] < LIMIT < 1e-9 < apart["wrong"], apart
