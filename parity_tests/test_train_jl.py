"""Claim: `train.jl`, with no Python in it, and the worker compute the same losses to the last bit."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from compared_runs import config

from pygan.data import digits, load
from pygan.data.registry import owned_dir
from pygan.resources import julia_dir
from pygan.stacks.julia_setup import find_julia
from pygan.traces import Trace
from pygan.training import train

pytestmark = pytest.mark.live
STEPS = 6


def train_jl(out: Path, *flags: str) -> Trace:
    setup = find_julia()
    images, _ = digits.file_paths(owned_dir("digits"), "train")
    load("digits")  # makes the file if it is not there yet
    narrow = config("narrow")
    fields = {name: getattr(narrow, name) for name in ("width", "latent_dim", "batch", "grid")}
    command = [setup.executable, f"--project={setup.project}", str(julia_dir() / "train.jl")]
    command += ["--images", str(images), "--out", str(out), "--steps", str(STEPS), "--threads", "1"]
    command += [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    subprocess.run([*command, *flags], check=True, timeout=600, capture_output=True)
    return Trace(out / "flux.trace")


def losses(records) -> list[dict[str, bytes]]:  # type: ignore[no-untyped-def]
    return [{name: value.tobytes() for name, value in record.loss.items()} for record in records if record.loss]


def test_two_runs_and_the_worker_agree_to_the_last_bit(tmp_path: Path, live_flux) -> None:  # type: ignore[no-untyped-def]
    first = train_jl(tmp_path / "one", "--capture", "logits,state,gradients,patterns,sketches")
    second = train_jl(tmp_path / "two", "--capture", "logits,state,gradients,patterns,sketches")
    assert losses(first) == losses(second), "a run must repeat itself before it can be compared"
    capture = ("logits", "state", "gradients", "patterns", "sketches")
    data = load("digits")
    assert first.header.data["sha256"] == data.sha256
    stack = live_flux(config("narrow"))
    made = list(train(stack, data, STEPS, picture_every=1000, capture=lambda step: capture))
    assert losses(made) == losses(first)
    for mine, theirs in zip(made, first, strict=True):
        assert mine.step == theirs.step
        assert mine.batch_sha256 == theirs.batch_sha256
        arrays = mine.to_arrays()
        stored = theirs.to_arrays()
        assert arrays.keys() == stored.keys()
        for key, value in arrays.items():
            np.testing.assert_array_equal(stored[key], value, err_msg=f"step {mine.step}: {key}")
    pictures = sorted(path.name for path in (tmp_path / "one").glob("*.png"))
    assert pictures == ["dcgan_steps_000000.png", f"dcgan_steps_{STEPS:06d}.png"]


def test_the_png_of_julia_is_the_grid_of_python(tmp_path: Path) -> None:
    from pygan.pictures import read_png
    from pygan.pictures.of_record import grid_of

    trace = train_jl(tmp_path / "run")
    last = trace.record(STEPS)
    np.testing.assert_array_equal(read_png(tmp_path / "run" / f"dcgan_steps_{STEPS:06d}.png"), grid_of(last))


def test_bad_flags_are_one_message_and_exit_code_2(tmp_path: Path) -> None:
    setup = find_julia()
    command = [setup.executable, f"--project={setup.project}", str(julia_dir() / "train.jl")]
    here = ["--images", "nowhere", "--out", str(tmp_path / "o")]
    bad = ([], ["--images", "x"], here, ["--bogus", "1"], [*here, "--semantics", "fix"], [*here, "--seed", "-1"])
    for flags in (*bad, [*here, "--picture-every", "0"], [*here, "--width", "two"], [*here, "--capture", "all"]):
        done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300)
        assert done.returncode == 2, done.stderr
        assert "Stacktrace" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_ctrl_c_leaves_a_valid_trace_and_exit_code_130(tmp_path: Path) -> None:
    setup, out = find_julia(), tmp_path / "run"
    images, _ = digits.file_paths(owned_dir("digits"), "train")
    load("digits")
    command = [setup.executable, f"--project={setup.project}", str(julia_dir() / "train.jl")]
    command += ["--images", str(images), "--out", str(out), "--steps", "1000000", "--width", "2", "--batch", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 21/"):
                process.send_signal(signal.SIGINT)
                break
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Stacktrace" not in told
    assert len(Trace(out / "flux.trace")) >= 21
