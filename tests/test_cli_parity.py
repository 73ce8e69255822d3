"""``pygan parity``: what is compared, what is told, and what is refused."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from parity_runs import SHORT, pygan, rewritten, traced  # noqa: F401
from run_pygan import Pygan, refused

from pygan.parity.claims import LEVELS
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.torch_stack import TorchStack

# --- agreement ---------------------------------------------------------------------------------------------------


def test_a_stack_agrees_with_itself_and_every_level_is_told(pygan: Pygan) -> None:
    code, out, err = pygan("parity", "torch:cpu", "torch", *SHORT)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("torch (live, torch 2") and lines[0].count(" against torch (live, ") == 1
    assert lines[1].startswith("flux_tutorial, narrow twin (width 2, latent 5, batch 8), Float64, ")
    assert lines[1].endswith("digits with 14 images, seed 0, 2 steps")
    for level, title in LEVELS.items():
        assert any(line.split() == [str(level), *title.split()] for line in lines), title
    assert "largest relative difference between the two runs in one step: 0" in lines
    assert lines[-1] == "agree over the first 2 steps, 2 pictures, levels 1-10"
    assert "replay" not in out
    assert "differs" not in out


def test_torch_agrees_with_recorded_flux(pygan: Pygan) -> None:
    code, out, err = pygan("parity", "torch", "recorded", "--levels", "4-8")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    recording = "flux (recording flux-narrow-float64, Flux 0.16.9, Julia 1.10.8)"
    assert lines[0].startswith("torch (live, ") and lines[0].endswith(f" against {recording}")
    assert lines[-1] == "agree over all 20 steps of the recording, 0 of 5 pictures, levels 4-8"
    (told,) = [line for line in lines if line.startswith("largest relative difference")]
    assert 1e-16 < float(told.rpartition(": ")[2]) < 1e-10


def test_a_float32_recording_with_a_twin_agrees_and_one_without_ends_with_2(pygan: Pygan, tmp_path: Path) -> None:
    traced(tmp_path / "with", 1, dtype="float32", twin=("logits", "gradients", "state"))
    code, out, err = pygan("parity", "torch", "with", "--levels", "4-7")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith(
        "agree over the one step of the recording, 0 of 2 pictures, levels 4-7; not run: "
    )
    traced(tmp_path / "without", 1, dtype="float32")
    code, out, err = pygan("parity", "torch", "without", "--levels", "4-7")
    assert (code, err) == (2, "")
    assert out.splitlines()[-1].startswith("not run: correctness not run: the recording holds no Float64 step")
    assert "correctness not run: the recording holds no Float64 step" in out
    assert "pygan record --twin" in out
    assert "differs" not in out


def test_the_reference_is_a_recording_where_there_is_no_julia_and_the_reason_is_said(
    pygan: Pygan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT", "PYGAN_JULIA", "PYGAN_JULIA_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_JULIAPKG_PROJECT", str(tmp_path / "no juliapkg"))
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no python"))
    code, out, err = pygan("parity", "--steps", 2, "--levels", "4-6")
    assert (code, err) == (0, "")
    assert out.startswith("Flux is replayed from a recording, because no Julia found.")
    assert " against flux (recording flux-narrow-float64, " in out
    assert out.splitlines()[-1] == "agree over the first 2 of 20 steps of the recording, 0 of 5 pictures, levels 4-6"
    refused(pygan("parity", "torch", "flux"), "no Julia found")


def test_a_recorded_run_agrees_with_itself(pygan: Pygan, tmp_path: Path) -> None:
    traced(tmp_path / "one run")
    code, out, err = pygan("parity", "one run", "one run", "--levels", "4-6,8,9")
    assert (code, err) == (0, "")
    side = "torch (recording one run, torch "
    assert out.startswith(side) and f" against {side}" in out
    told = "agree over all 3 steps of the recording (1 from the same state), 4 of 4 pictures, "
    assert out.splitlines()[-1].startswith(told)


def test_two_recordings_need_neither_their_data_nor_a_stack(
    pygan: Pygan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(tmp_path / "digits")
    for name in "ab":
        rewritten(trace, tmp_path / name, lambda one: one, data={**trace.header.data, "name": "mnist"})
    monkeypatch.setattr(TorchStack, "__init__", None)
    code, _, err = pygan("parity", "a", "b")
    assert (code, err) == (0, "")


# --- what is asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "levels"), [("4", {4}), ("1,5-6", {1, 5, 6}), ("8-9", {8, 9})])
def test_only_the_levels_asked_for_are_told(pygan: Pygan, asked: str, levels: set[int]) -> None:
    code, out, _ = pygan("parity", "torch", "torch", *SHORT, "--levels", asked, "--json")
    assert code == 0
    (report,) = json.loads(out)["reports"]
    assert {row["level"] for row in report["rows"]} == levels


def test_every_level_asked_for_has_a_row_and_a_reason_where_it_was_not_run(pygan: Pygan, tmp_path: Path) -> None:
    traced(tmp_path / "bare", 1, words=("state",))
    code, out, _ = pygan("parity", "torch", "bare", "--levels", "1,3,7", "--json")
    assert code == 0
    (report,) = json.loads(out)["reports"]
    assert {row["level"] for row in report["rows"]} == {1, 3, 7}
    assert {row["verdict"] for row in report["rows"] if row["level"] == 3} == {"not run"}
    assert all(row["reason"] for row in report["rows"] if row["verdict"] == "not run")


def test_each_seed_is_a_report_of_its_own(pygan: Pygan) -> None:
    code, out, _ = pygan("parity", "torch", "torch", *SHORT, "--levels", "4", "--seeds", "0,2-3", "--json")
    assert code == 0
    reports = json.loads(out)["reports"]
    assert [report["config"]["seed"] for report in reports] == [0, 2, 3]
    assert {report["verdict"] for report in reports} == {"agree"}


def test_json_is_one_object_on_stdout_and_text_goes_to_stderr(pygan: Pygan) -> None:
    code, out, err = pygan("parity", "torch", "torch", *SHORT, "--levels", "1,4-6", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer.keys() == {"config", "reports", "exit_code"}
    assert answer["exit_code"] == 0
    assert err.splitlines()[-1] == "agree over the first 2 steps, levels 1, 4-6"
    (report,) = answer["reports"]
    assert report.keys() >= {
        "candidate", "reference", "verdict", "minimum_tolerance", "rows", "diagnosis", "replay", "curves", "kinks",
        "seconds", "config", "environment", "extent",
    }  # fmt: skip
    assert (report["verdict"], report["minimum_tolerance"], report["diagnosis"]) == ("agree", 0, None)
    assert report["environment"]["packages"]["torch"]
    row = report["rows"][-1]
    assert row.keys() == {
        "level", "claim", "verdict", "compared", "measured", "allowed", "minimum", "where", "reason", "unit",
    }  # fmt: skip


def test_out_stores_the_command_and_the_reports(pygan: Pygan) -> None:
    arguments = ("parity", "torch", "torch", *SHORT, "--levels", "4", "--out", "a folder/report.json")
    code, out, _ = pygan(*arguments, "--json")
    assert code == 0
    stored = json.loads(Path("a folder/report.json").read_text())
    assert stored["reports"] == json.loads(out)["reports"]
    assert shlex.split(stored["command"]) == ["pygan", *map(str, arguments), "--json"]
    refused(pygan(*arguments), "a folder/report.json is already there", "--overwrite")
    code, out, _ = pygan(*arguments, "--overwrite")
    assert "wrote a folder/report.json" in out


def test_full_means_the_published_sizes(pygan: Pygan) -> None:
    code, out, _ = pygan("parity", "--full", "--print-config")
    assert code == 0
    published = FluxTutorialConfig()
    for name in ("width", "latent_dim", "batch", "grid"):
        assert f"{name} = {getattr(published, name)}" in out.splitlines()


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["keras"], ["'keras' is no side of a comparison; expected torch, torch-fast (its fast step)"]),
        (["torch", "no such folder"], ["'no such folder' is no side"]),
        (["torch:tpu", "torch"], ["'torch:tpu' is no side"]),
        (["torch", "torch", "--levels", "0"], ["--levels '0'"]),
        (["torch", "torch", "--levels", "3-11"], ["--levels '3-11'"]),
        (["torch", "torch", "--levels", "all"], ["--levels 'all'", "such as 1,4-6"]),
        (["torch", "torch", "--levels", ""], ["--levels ''"]),
        (["torch", "torch", "--seeds", "one"], ["--seeds 'one'"]),
        (["torch", "torch", "--seeds", "3-1"], ["--seeds"]),
        (["torch", "torch", "--seeds", "-1"], ["-1"]),
        (["torch", "torch", "--data", "mnist"], ["were not found", "pygan data fetch mnist"]),
        (["torch", "recorded", "--step", "300", "--tensor", "loss/generator"], ["holds steps 0 to 20"]),
        (["torch", "recorded", "--step", "1", "--tensor", "loss/nobody"], ["--tensor 'loss/nobody'", "there are"]),
        (["torch", "recorded", "--step", "1"], ["nothing differs at step 1", "--tensor"]),
        (["torch", "recorded", "--seed", "4"], ["seed = 4 (0 was recorded)", "pygan record"]),
        (["torch", "recorded", "--seeds", "3-4"], ["seed = 3 (0 was recorded)"]),
        (["torch", "recorded", "--width", "3", "--steps", "1", "--levels", "8"], ["width"]),
        (["torch", "recorded", "--samples", "100"], ["was recorded on", "images, not 100; leave out --samples"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and not value[0].startswith("'") else "",
)
def test_bad_input_is_one_message_and_exit_code_2(pygan: Pygan, arguments: list[str], words: list[str]) -> None:
    refused(pygan("parity", *arguments), *words)


def test_a_config_file_that_contradicts_the_recording_is_refused_like_a_flag(pygan: Pygan, tmp_path: Path) -> None:
    own = pygan("parity", "--print-config")[1]
    (tmp_path / "own.toml").write_text(own)
    sides = ("parity", "torch", "recorded", "--steps", "1", "--levels", "8", "--config")
    assert pygan(*sides, "own.toml")[0] == 0
    (tmp_path / "other.toml").write_text(own.replace("seed = 0", "seed = 4"))
    refused(pygan(*sides, "other.toml"), "seed = 4 (0 was recorded)")


def test_a_gpu_that_is_not_there_is_one_message_and_exit_code_2(pygan: Pygan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for sides in (("torch:cuda", "torch"), ("torch", "torch:cuda"), ("torch:cuda", "recorded")):
        refused(pygan("parity", *sides), "torch sees no CUDA GPU; use --device cpu")


def test_runs_of_another_config_are_refused_by_field(pygan: Pygan, tmp_path: Path) -> None:
    traced(tmp_path / "a")
    traced(tmp_path / "b", seed=1)
    refused(pygan("parity", "a", "b"), "not of one config: seed = 0 against 1")
    traced(tmp_path / "c", dtype="float32")
    refused(pygan("parity", "a", "c"), "dtype = 'float64' against 'float32'")


def test_runs_on_other_images_are_refused(pygan: Pygan, tmp_path: Path) -> None:
    trace = traced(tmp_path / "a")
    rewritten(trace, tmp_path / "b", lambda one: one, data={**trace.header.data, "sha256": "0" * 64})
    refused(pygan("parity", "torch", "b"), "b was recorded on other images than digits")
    refused(pygan("parity", "a", "b"), "other images")
    traced(tmp_path / "c", images=22)
    refused(pygan("parity", "a", "c"), "other images")


def test_a_damaged_trace_is_refused(pygan: Pygan, tmp_path: Path) -> None:
    traced(tmp_path / "a")
    chunk = tmp_path / "a" / "chunk-000000.safetensors"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    refused(pygan("parity", "torch", "a"), "chunk-000000.safetensors")


def test_help_loads_neither_torch_nor_juliacall() -> None:
    code = """
import sys
from pygan.cli import main
sys.argv = ["pygan", "parity", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("loaded:", sorted({"torch", "juliacall", "pygan.parity.run"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert "--levels" in done.stdout


# --- real Flux ---------------------------------------------------------------------------------------------------


@pytest.mark.live
def test_torch_agrees_with_live_flux_at_every_level(pygan: Pygan) -> None:
    code, out, err = pygan("parity", "torch", "flux", *SHORT, "--json")
    assert code == 0, out + err
    (report,) = json.loads(out)["reports"]
    assert {row["verdict"] for row in report["rows"]} == {"agree"}
    assert {row["level"] for row in report["rows"]} == set(LEVELS)
    assert report["environment"]["reference"]["packages"]["Flux"] == "0.16.9"


@pytest.mark.parametrize(("dtype", "code", "last"), [("float64", 0, "agree"), ("float32", 2, "not run")])
def test_what_train_leaves_is_compared_as_far_as_it_goes(
    dtype: str, code: int, last: str, pygan: Pygan, tmp_path: Path
) -> None:
    """A trace of losses and pictures: missing states are not a difference, and no picture is left out."""
    run = ("--width", 2, "--latent-dim", 5, "--batch", 8, "--steps", 5, "--samples", 14, "--every", 3, "--dtype", dtype)
    assert pygan("train", *run, "--out", tmp_path / "run")[0] == 0
    out = tmp_path / "report.json"
    found, text, _ = pygan("parity", "torch", tmp_path / "run/torch.trace", "--levels", "4-9", "--out", out)
    assert found == code, text
    (report,) = json.loads(out.read_text())["reports"]
    assert report["verdict"] == last
    rows = {row["claim"]: row for row in report["rows"]}
    assert not [row for row in report["rows"] if row["verdict"] == "differs"]
    assert all(row["reason"] for row in report["rows"] if row["verdict"] == "not run")
    if dtype == "float64":
        assert rows["tensors over steps"]["compared"] == 10, "two losses of five steps"
        assert rows["pictures of both free runs"]["compared"] == 3, "at steps 0 and 3, and the closing ones"
    else:
        assert "pygan record" in text
