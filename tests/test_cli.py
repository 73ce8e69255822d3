"""The command line: results where they were asked for, and for every fault one message and its exit code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from run_pygan import Pygan

from pygan import cli, environment, state
from pygan.cli.options import StepForm, stack_name
from pygan.pictures.gif import read_gif
from pygan.pictures.grid import grid
from pygan.pictures.png import picture_files, read_png
from pygan.recipes.flux_tutorial_config import NARROW
from pygan.stacks import choose
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import picture_latent, train

NARROW_FLAGS = [
    flag for name, value in {**NARROW, "threads": 1}.items() for flag in (f"--{name.replace('_', '-')}", str(value))
]


def check_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one message that says these words, no traceback."""
    code, out, err = result
    text = " ".join(err.replace("│", " ").split())
    assert code == 2, out + err
    assert "Traceback" not in out + err
    assert text.lower().count("error:") == 1 or "╭─ Error" in err
    for word in words:
        assert word in text


# --- train -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "kind"),
    [([], FastTorchStack), (["--step", "fast"], FastTorchStack), (["--step", "idiomatic"], TorchStack)],
)
def test_train_writes_the_articles_pictures_a_trace_and_the_state(
    pygan: Pygan, tmp_path, narrow, digits, same_arrays, form, kind
):
    flags = [*NARROW_FLAGS, *form, "--samples", 22, "--steps", 5, "--picture-every", 2]
    code, out, err = pygan("train", *flags, "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "torch: step 5/5  discriminator loss" in out
    pictures = [f"dcgan_steps_00000{step}.png" for step in (0, 2, 4, 5)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *("checkpoints", *pictures, "losses.csv", "losses.png", "run.json", "state.safetensors", "torch.trace")
    ]

    stack = kind(narrow)
    expected = list(train(stack, digits, 5))
    written, config = state.load(tmp_path / "run" / "state.safetensors")
    same_arrays(written, stack.state())
    assert config == {**narrow.to_dict(), "picture_every": 2}
    last = grid(stack.generate(picture_latent(narrow, 0)), 2)
    assert np.array_equal(read_png(tmp_path / "run" / pictures[-1]), last)
    trace = Trace(tmp_path / "run" / "torch.trace")
    assert [record.loss for record in trace][:5] == [record.loss for record in expected]
    assert (trace.header.stack, trace.header.config, trace.header.data["sha256"]) == ("torch", config, digits.sha256)
    assert trace.header.environment["stack"]["step"] == kind.step_form


def test_the_form_of_the_step_is_torchs_own_and_fast_only_where_it_was_proved(pygan: Pygan, tmp_path: Path) -> None:
    assert stack_name("torch", None, "cpu") == "torch-fast"
    assert stack_name("torch", None, "cuda") == "torch"
    assert stack_name("torch", StepForm.graph, "cuda") == "torch-graph"
    assert stack_name("flux", None, "cpu") == "flux"
    check_refused(pygan("train", "--stack", "flux", "--step", "fast"), "--step fast", "--stack flux has none")
    graph = pygan("train", *NARROW_FLAGS, "--step", "graph", "--samples", 8, "--out", tmp_path / "run")
    check_refused(graph, "the graph step needs device = cuda, got cpu; the fast step runs on any")


def test_a_second_run_into_the_same_folder_is_refused_and_harms_nothing(pygan: Pygan, tmp_path: Path) -> None:
    arguments = ("train", *NARROW_FLAGS, "--samples", 22, "--steps", 1, "--out", tmp_path / "run")
    assert pygan(*arguments)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    check_refused(pygan(*arguments), "run already holds dcgan_steps_000000.png", "choose another --out", "--overwrite")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_train_warns_of_the_printed_defect_before_it_starts(pygan: Pygan, tmp_path: Path) -> None:
    code, out, _ = pygan(
        "train", *NARROW_FLAGS, "--semantics", "as_printed", "--samples", 8, "--steps", 1, "--out", tmp_path / "run"
    )
    assert code == 0
    assert out.startswith("warning: semantics 'as_printed'")


def test_train_reads_a_config_file_under_the_flags(pygan: Pygan, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('width = 1\nlatent_dim = 3\nbatch = 4\nrecipe = "flux_tutorial"\nthreads = 1\n')
    code, _, err = pygan("train", "--config", "run.toml", "--batch", 8, "--samples", 8, "--steps", 1, "--out", "run")
    assert (code, err) == (0, "")
    config = state.load(tmp_path / "run" / "state.safetensors")[1]
    assert (config["width"], config["latent_dim"], config["batch"]) == (1, 3, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "mnits"], ["no data set and no folder is called 'mnits'", "Did you mean 'mnist'?"]),
        (["--data", "mnist"], ["were not found", "pygan data fetch mnist"]),
        (["--batch", "1"], ["batch = 1 is out of range: expected at least 2 (BatchNorm)"]),
        (["--dropout", "1.5"], ["dropout = 1.5 is out of range: expected 0 <= value < 1"]),
        (["--discriminator-lr", "nan"], ["discriminator_lr = nan is out of range"]),
        (["--recipe", "dcgan"], ["--recipe dcgan: no such recipe. Known by name: flux_model_zoo, flux_tutorial"]),
        (["--stack", "keras"], ["no stack 'keras'; known: torch, torch-fast, torch-graph, flux"]),
        (["--config", "none.toml"], ["cannot read none.toml"]),
        (["--config", "bad.toml"], ["bad.toml is not valid TOML"]),
        (["--samples", "1"], ["Invalid value for '--samples'"]),
        (["--steps", "0"], ["Invalid value for '--steps'"]),
        (["--width", "two"], ["Invalid value for '--width'"]),
        (["--witdh", "2"], ["No such option: --witdh"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_message_and_exit_code_2(pygan: Pygan, tmp_path: Path, arguments: list, words: list) -> None:
    (tmp_path / "bad.toml").write_text("width = = 2")
    check_refused(pygan("train", *NARROW_FLAGS, "--samples", 8, "--steps", 1, "--out", "run", *arguments), *words)
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_one_message_and_exit_code_2(pygan: Pygan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = pygan("train", *NARROW_FLAGS, "--samples", 8, "--steps", 1, "--out", tmp_path / "file" / "run")
    check_refused(result, "cannot write", "Choose a folder you may write to")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_gpu_that_is_not_there_is_one_message_and_exit_code_2(pygan: Pygan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_refused(pygan("train", *NARROW_FLAGS, "--device", "cuda", "--samples", 8), "torch sees no CUDA GPU")


@pytest.mark.usefixtures("bare")
def test_flux_without_julia_is_one_message_that_says_how_to_get_it(pygan: Pygan) -> None:
    result = pygan("train", *NARROW_FLAGS, "--stack", "flux", "--samples", 8, "--steps", 1)
    check_refused(result, "no Julia found. Install Julia", "julia --project=")


def test_a_failing_stack_is_reported_in_its_own_words(pygan: Pygan, monkeypatch, tmp_path: Path) -> None:
    from pygan.errors import WorkerError

    def fail(self: object, *_: object) -> None:
        raise WorkerError("the flux worker died at 'step' (exit code -9).\nIts last words:\nout of memory [/bold]")

    monkeypatch.setattr(TorchStack, "step", fail)
    monkeypatch.setattr(TorchStack, "state", fail)
    code, _, err = pygan("train", *NARROW_FLAGS, "--samples", 8, "--steps", 1, "--out", "run")
    assert code == 2
    assert err == "error: the flux worker died at 'step' (exit code -9).\nIts last words:\nout of memory [/bold]\n"
    assert not list((tmp_path / "run").glob("**/trace.json")), "it never came to a step"


# --- record and gif ----------------------------------------------------------------------------------------------


def test_record_stores_what_was_asked_for_and_the_command(pygan: Pygan, tmp_path: Path) -> None:
    arguments = [
        "record", "--stack", "torch", *NARROW_FLAGS, "--samples", "22", "--steps", "4", "--every", "2",
        "--exact-pictures-until", "0", "--capture", "state,gradients@0:2", "--capture", "patterns:fake@3",
        "-o", "my trace",
    ]  # fmt: skip
    code, out, err = pygan(*arguments)
    assert (code, err) == (0, "")
    assert "wrote my trace: 4 steps," in out
    trace = Trace(tmp_path / "my trace")
    assert [sorted({key.partition("/")[0] for key in record.to_arrays()}) for record in trace] == [
        ["buffer", "gradient", "loss", "pictures", "state"], ["buffer", "gradient", "loss", "state"],
        ["loss", "pictures"], ["loss", "pattern"], ["pictures"],
    ]  # fmt: skip
    assert {key.partition("/")[0] for key in trace.record(3).pattern} == {"fake"}
    assert [sorted(record.pictures) for record in trace] == [["grid", "values"], [], ["grid"], [], ["grid"]]
    assert trace.header.command.startswith("pygan record --stack torch --width 2")
    assert trace.header.command.endswith("-o 'my trace'")
    assert int(trace.initial_state()["step"]) == 0
    check_refused(pygan(*arguments), "already holds a trace")


@pytest.mark.parametrize(
    ("capture", "words"),
    [("moods@0:3", "cannot capture moods; known: logits, gradients"), ("state@x", "'x' is no range of steps")],
)
def test_record_refuses_what_it_cannot_capture(pygan: Pygan, capture: str, words: str) -> None:
    check_refused(pygan("record", "--stack", "torch", *NARROW_FLAGS, "--capture", capture, "-o", "t"), words)


RECORDED = ["gif", "--flux", "recorded", *NARROW_FLAGS, "--samples", "62", "--every", "5"]


def test_a_recording_that_does_not_exist_is_one_message_that_lists_the_recorded_ones(pygan: Pygan) -> None:
    result = pygan(*RECORDED, "--seed", 12345, "--out", "run")
    check_refused(result, "no recorded Flux run fits this config on digits; recorded: ", "flux-narrow-float32")
    check_refused(pygan("gif", "--flux", "maybe"), "--flux maybe: expected auto, live, recorded or the folder")


class TurnedKernel(TorchStack):
    """A port with a fault in its step: it correlates with a kernel that should be turned."""

    def initialise(self) -> None:
        super().initialise()
        conv = self.networks["discriminator"].conv2
        conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)


@pytest.mark.parametrize(("kind", "code", "word"), [(TorchStack, 0, "agree"), (TurnedKernel, 1, "differs")])
def test_gif_beside_recorded_flux_ends_with_the_exit_code_of_the_first_step(
    pygan: Pygan, monkeypatch, tmp_path: Path, kind: type[TorchStack], code: int, word: str
) -> None:
    monkeypatch.setattr(choose, "make_stack", lambda name, config: kind(config))
    got, out, err = pygan(*RECORDED, "--dtype", "float64", "--out", "run")
    assert (got, err) == (code, "")
    *_, step, pictures = out.splitlines()
    assert step.startswith(f"First step: {word}: ") and out.splitlines().count(step) == 2, "before training, and after"
    told = "all 5 of both free runs are equal in every byte of the GIFs, up to step 20."
    assert pictures.startswith(
        f"Pictures: {told if word == 'agree' else 'free runs part by rounding; their pictures are shown, not judged'}"
    )
    assert "Judging the first step, " in out and "Float32" not in step + pictures
    assert {"flux.gif", "torch.gif", "side_by_side.gif", "divergence.png", "summary.json", "summary.md"} <= set(
        os.listdir(tmp_path / "run")
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["verdict"] == word
    assert [one["step"] for one in summary["pictures"]["steps"]] == [0, 5, 10, 15, 20]
    assert {one["verdict"] for one in summary["pictures"]["steps"]} == {"not run"}
    assert (
        f"First step: **{word}** (held to Flux 0.16.9 (recorded): flux-narrow-float64)"
        in (tmp_path / "run" / "summary.md").read_text()
    )


def test_a_run_that_the_recording_is_too_short_for_is_refused_before_anything_is_judged(pygan: Pygan) -> None:
    result = pygan(*RECORDED, "--dtype", "float64", "--steps", 21, "--out", "run")
    check_refused(result, "holds 20 steps of Flux, not 21")
    assert "Judging" not in result[1]


def test_a_cadence_that_the_recording_does_not_have_is_told_before_the_run(pygan: Pygan) -> None:
    code, out, _ = pygan(*RECORDED, "--dtype", "float64", "--steps", 11, "--every", 3, "--out", "run")
    told = (
        "Flux's recording has pictures at 1 of the 4 steps that --every 3 asks for; only these are shown; "
        "its own are drawn with --every 5."
    )
    assert code == 0 and told in out
    assert out.index(told) < out.index("Judging")
    code, out, _ = pygan(*RECORDED, "--dtype", "float64", "--steps", 11, "--every", 5, "--out", "other")
    assert code == 0 and "recording has pictures at" not in out


def test_training_after_the_verdict_is_the_run_that_train_makes(pygan: Pygan, tmp_path: Path) -> None:
    flags = [*NARROW_FLAGS, "--samples", 62, "--dtype", "float64", "--steps", 11, "--every", 5, "--out"]
    code, out, _ = pygan("gif", "--flux", "recorded", *flags, "gif")
    assert code == 0 and "Flux has no pictures at 1 of the steps at which PyTorch drew some; these are left out." in out
    assert pygan("train", *flags, "train")[0] == 0
    frames = read_gif(tmp_path / "gif" / "torch.gif").frames
    pictures = [read_png(path) for path in picture_files(tmp_path / "train")]
    assert len(frames) == len(pictures) - 1 == 3, "of the closing pictures a longer recording has no counterpart"
    assert all(np.array_equal(*pair) for pair in zip(frames, pictures, strict=False))


@pytest.mark.usefixtures("bare")
def test_gif_replays_flux_and_says_why_where_there_is_no_julia(pygan: Pygan) -> None:
    arguments = ["auto" if argument == "recorded" else argument for argument in RECORDED]
    code, out, err = pygan(*arguments, "--steps", 5, "--out", "run")
    assert (code, err) == (0, "")
    assert "First step: agree: the same step in Float64 (" in out and "in Float32 they differ by rounding alone" in out
    why = "Flux is replayed from a recording, because no Julia found. `pygan doctor` says how to get it live."
    assert out.splitlines()[0] == why


@pytest.mark.live
def test_gif_judges_the_first_step_of_live_flux_and_trains_from_the_start(pygan: Pygan, tmp_path: Path) -> None:
    """Both stacks are used for the verdict first; the same pictures as the recording's show that they began anew."""
    flags = [*NARROW_FLAGS, "--samples", 62, "--steps", 10, "--every", 5]
    code, out, err = pygan("gif", "--flux", "live", *flags, "--out", "live")
    assert code == 0, out + err
    summary = json.loads((tmp_path / "live" / "summary.json").read_text())
    assert (summary["verdict"], summary["against"]) == ("agree", "Flux 0.16.9 (live)")
    assert pygan("gif", "--flux", "recorded", *flags, "--out", "replayed")[0] == 0
    live, replayed = (read_gif(tmp_path / name / "flux.gif").frames for name in ("live", "replayed"))
    assert len(live) == len(replayed) + 1 == 3
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(live, replayed, strict=False))


# --- doctor ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bare")
def test_doctor_prints_json_and_counts_a_missing_julia_as_a_gap_only(pygan: Pygan) -> None:
    code, out, err = pygan("doctor", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert (code, err) == (0, "")
    assert all(row.keys() == {"what", "state", "detail"} for row in rows.values())
    assert rows["julia"]["state"] == "gap"
    assert "no Julia found. Install Julia" in rows["julia"]["detail"]
    assert rows["data: mnist"]["state"] == "gap"
    assert rows["data: digits"]["state"] == rows["torch"]["state"] == "ok"


def test_doctor_names_a_missing_package_and_fails(pygan: Pygan, monkeypatch) -> None:
    real = environment.metadata.version

    def version(name: str) -> str:
        if name in ("safetensors", "juliacall"):
            raise environment.metadata.PackageNotFoundError(name)
        return real(name)

    real_spec = cli.doctor.util.find_spec
    monkeypatch.setattr(environment.metadata, "version", version)
    monkeypatch.setattr(cli.doctor.util, "find_spec", lambda name: None if name == "safetensors" else real_spec(name))
    code, out, _ = pygan("doctor", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert code == 2
    assert (rows["safetensors"]["state"], rows["safetensors"]["detail"]) == ("broken", "pip install safetensors")
    assert rows["juliacall pin"]["state"] == "broken"


def test_doctor_prints_a_table_for_people(pygan: Pygan) -> None:
    code, out, _ = pygan("doctor")
    assert code == 0
    assert out.splitlines()[0].split() == ["what", "state", "detail"]
    assert "numpy" in out


def test_no_arguments_print_the_help(pygan: Pygan) -> None:
    code, out, err = pygan()
    assert code in (0, 2)
    assert "Usage: " in out + err
    assert all(command in out + err for command in ("gif", "train", "record", "doctor"))


@pytest.mark.parametrize(
    ("words", "expected"), [("pygan tr", "train"), ("pygan train --on-n", "--on-nan"), ("pygan data fe", "fetch")]
)
def test_a_shell_completes_commands_and_options(
    pygan: Pygan, monkeypatch: pytest.MonkeyPatch, words: str, expected: str
) -> None:
    monkeypatch.setenv("_PYGAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    monkeypatch.setattr(os.path, "basename", lambda path: "pygan")
    code, out, err = pygan()
    assert (code, out.split(), err) == (0, [expected], "")
