"""``pygan sample`` and ``recipes``, and what all commands share: the config that comes back, and answers in JSON."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from run_pygan import MAIN, Pygan, refused

from pygan import state as states
from pygan.cli import output
from pygan.cli.options import make_config, read_config, to_toml
from pygan.data import load
from pygan.draws import Draws
from pygan.pictures.gif import read_gif
from pygan.pictures.grid import grid
from pygan.pictures.png import picture_files, read_png
from pygan.recipes import CONFIGS
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.stacks import choose
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.training import train

FLAGS = [
    flag for name, value in {**NARROW, "threads": 1}.items() for flag in (f"--{name.replace('_', '-')}", str(value))
]
CONFIG = FluxTutorialConfig(**NARROW, threads=1, seed=7)


class TurnedKernel(TorchStack):
    """A port with a fault in its step: it correlates with a kernel that should be turned."""

    def initialise(self) -> None:
        super().initialise()
        conv = self.networks["discriminator"].conv2
        conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of three steps of the narrow recipe."""
    stack = TorchStack(CONFIG)
    for _ in train(stack, load("digits", limit=22), 3):
        pass
    path = tmp_path_factory.mktemp("trained") / "state.safetensors"
    states.save(path, stack.state(), CONFIG.to_dict())
    return path


def expected(trained: Path, seed: int, count: int) -> np.ndarray:
    stack = TorchStack(CONFIG)
    stack.load_state(states.load(trained)[0])
    return stack.generate(Draws(seed).normal("sample", (count, CONFIG.latent_dim)))


# --- sample ------------------------------------------------------------------------------------------------------


def test_sample_draws_the_runs_grid_from_the_runs_seed(pygan: Pygan, trained: Path) -> None:
    code, out, err = pygan("sample", trained)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "wrote sample.png: 4 pictures by torch after 3 steps, seed 7"
    assert np.array_equal(read_png("sample.png"), grid(expected(trained, 7, 4), 2))


def test_count_grid_and_seed_are_heeded_and_empty_cells_are_black(pygan: Pygan, trained: Path) -> None:
    code, out, _ = pygan("sample", trained, "--count", 7, "--seed", 3, "--out", "a/b.PNG", "--json")
    answer = json.loads(out)
    assert code == 0
    assert {key: answer[key] for key in ("pictures", "grid", "seed", "step", "stack", "file", "exit_code")} == {
        "pictures": 7, "grid": 3, "seed": 3, "step": 3, "stack": "torch", "file": "a/b.PNG", "exit_code": 0,
    }  # fmt: skip
    picture = read_png("a/b.PNG")
    first = expected(trained, 3, 9)
    first[7:] = -1
    assert np.array_equal(picture, grid(first, 3))
    assert not picture[28:, 56:].any()
    assert pygan("sample", trained, "--grid", 4)[0] == 0
    assert np.array_equal(read_png("sample.png"), grid(expected(trained, 7, 16), 4))


def test_the_same_command_draws_the_same_bytes_and_another_seed_others(pygan: Pygan, trained: Path) -> None:
    for seed, name in ((1, "a.png"), (1, "b.png"), (2, "c.png")):
        assert pygan("sample", trained, "--seed", seed, "-o", name)[0] == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_a_state_of_a_gpu_run_is_drawn_on_the_cpu_when_asked(
    pygan: Pygan, trained: Path, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    content, _ = states.load(trained)
    states.save(tmp_path / "gpu.safetensors", content, CONFIG.replace(device="cuda").to_dict())
    refused(pygan("sample", "gpu.safetensors"), "torch sees no CUDA GPU; use --device cpu")
    assert pygan("sample", "gpu.safetensors", "--device", "cpu", "--threads", 1)[0] == 0


def damaged(trained: Path, folder: Path) -> dict[str, Path]:
    """Files that are no state, or not one that fits."""
    content, config = states.load(trained)
    files = {name: folder / f"{name}.safetensors" for name in ("text", "empty", "cut", "foreign", "width", "lacking")}
    files["text"].write_text("hello" * 100)
    files["empty"].write_bytes(b"")
    files["cut"].write_bytes(trained.read_bytes()[:-100])
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, files["foreign"])
    states.save(files["width"], content, {**config, "width": 3})
    states.save(files["lacking"], {key: value for key, value in content.items() if key != "step"}, config)
    for name, changes in (("recipe", {"recipe": "dcgan"}), ("field", {"momentum": 1}), ("range", {"width": -1})):
        files[name] = folder / f"{name}.safetensors"
        states.save(files[name], content, {**config, **changes})
    return files


FAULTS = {
    "text": "cannot read the state in ",
    "empty": "cannot read the state in ",
    "cut": "cannot read the state in ",
    "foreign": "is a safetensors file but not a pygan state",
    "width": "does not fit its own config, so it is no whole state: state does not fit: ",
    "lacking": "step is missing",
    "recipe": "is not one of this pygan: no recipe 'dcgan'",
    "field": "is not one of this pygan: unknown config keys: momentum",
    "range": "is not one of this pygan: width = -1 is out of range",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_is_no_fitting_state_is_one_message_that_names_it(
    pygan: Pygan, trained, tmp_path, name: str
) -> None:
    path = damaged(trained, tmp_path)[name]
    refused(pygan("sample", path), FAULTS[name], str(path))
    assert not Path("sample.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["."], "there is no file .; expected the state.safetensors of a run"),
        (["STATE", "--count", "5", "--grid", "2"], "5 pictures do not fit in a grid of 2 x 2; --grid goes up to 32"),
        (["STATE", "--count", "1025"], "1025 pictures do not fit in a grid of 32 x 32"),
        (["STATE", "--out", "picture.jpg"], "--out picture.jpg: expected a name that ends in .png"),
        (["STATE", "--stack", "keras"], "no stack 'keras'; known: torch, torch-fast, torch-graph, flux"),
        (["STATE", "--device", "tpu"], "device = 'tpu' is not one of cpu, cuda"),
    ],
)
def test_a_bad_request_is_one_message(pygan: Pygan, trained: Path, arguments: list[str], words: str) -> None:
    refused(pygan("sample", *(str(trained) if argument == "STATE" else argument for argument in arguments)), words)


def test_a_state_says_which_config_made_it(pygan: Pygan, trained: Path) -> None:
    code, out, _ = pygan("sample", trained, "--print-config")
    assert code == 0
    assert FluxTutorialConfig.from_dict(tomllib.loads(out)) == CONFIG


@pytest.mark.live
@pytest.mark.slow
def test_both_stacks_draw_the_same_pictures_from_one_state(pygan: Pygan, trained: Path) -> None:
    for stack in ("torch", "flux"):
        code, out, err = pygan("sample", trained, "--stack", stack, "--count", 9, "-o", f"{stack}.png")
        assert code == 0, out + err
    levels = [read_png(f"{stack}.png").astype(int) for stack in ("torch", "flux")]
    assert np.abs(levels[0] - levels[1]).max() <= 1  # Float32 rounding may fall on either side of half a grey level


# --- recipes -----------------------------------------------------------------------------------------------------


def test_recipes_list_every_field_with_default_and_source(pygan: Pygan) -> None:
    code, out, err = pygan("recipes", "--json")
    assert (code, err) == (0, "")
    listed = json.loads(out)
    assert listed.keys() == CONFIGS.keys()
    for name, kind in CONFIGS.items():
        fields = {item.name: item for item in dataclasses.fields(kind)}
        assert listed[name]["fields"].keys() == fields.keys()
        for field, facts in listed[name]["fields"].items():
            assert facts["default"] == fields[field].default
            assert (facts["source"], facts["allowed"]) == (kind.sources()[field], str(fields[field].metadata["range"]))
    code, out, _ = pygan("recipes", "flux_tutorial")
    words, fields = out.split(), FluxTutorialConfig.sources()
    assert code == 0 and all(field in words for field in fields)
    [note] = [line for line in out.splitlines() if line.startswith("[1] ")]
    assert "2021-10-08-dcgan-mnist.md @3f2f828b5" in note and out.count("@3f2f828b5") == 1
    cited = sum("@3f2f828b5: " in source for source in FluxTutorialConfig.sources().values())
    assert sum("[1]: " in line for line in out.splitlines()) == cited > 5


# --- the config that comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        NARROW,
        {"seed": 2**63 - 1, "adam_eps": 1e-30, "generator_lr": 1e16, "dropout": 0.0, "semantics": "as_printed"},
    ],
)
def test_a_printed_config_is_read_back_equal(tmp_path: Path, changes: dict) -> None:
    config = FluxTutorialConfig(**changes)
    (tmp_path / "run.toml").write_text(to_toml(config))
    assert make_config(FluxTutorialConfig, read_config(tmp_path / "run.toml"), {}) == config


def test_print_config_prints_what_would_run_and_runs_nothing(pygan: Pygan, tmp_path: Path) -> None:
    code, out, err = pygan("train", "--width", 3, "--every", 50, "--print-config")
    assert (code, err) == (0, "")
    assert FluxTutorialConfig.from_dict(tomllib.loads(out)) == FluxTutorialConfig(width=3, picture_every=50)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run.toml").write_text(out)
    code, out, _ = pygan("gif", "--config", "run.toml", "--batch", 8, "--print-config", "--json")
    assert FluxTutorialConfig.from_dict(json.loads(out)["config"]) == FluxTutorialConfig(
        width=3, picture_every=50, batch=8
    )
    assert tomllib.loads(pygan("gif", "--print-config")[1])["picture_every"] == 10
    assert tomllib.loads(pygan("train", "--print-config")[1])["picture_every"] == 1000
    refused(pygan("train", "--width", 0, "--print-config"), "width = 0 is out of range")


def test_a_run_says_in_one_line_what_is_not_as_published(pygan: Pygan, capfd) -> None:
    arguments = ("--samples", 8, "--steps", 1, "--out")
    _, out, _ = pygan("train", *FLAGS, *arguments, "a")
    assert out.splitlines()[0] == "flux_tutorial: threads = 1, width = 2, latent_dim = 5, batch = 8, grid = 2"
    output.say_config(FluxTutorialConfig())
    assert capfd.readouterr().out == "flux_tutorial: as published\n"


def test_every_is_the_cadence_of_pictures_and_fps_writes_them_as_a_gif(pygan: Pygan) -> None:
    code, out, _ = pygan("train", *FLAGS, "--samples", 8, "--steps", 5, "--every", 2, "--fps", 4, "--out", "run")
    assert code == 0
    assert (
        out.splitlines()[-1]
        == "wrote 4 pictures, losses.csv, losses.png, torch.trace, torch.gif and state.safetensors to run"
    )
    pictures = [read_png(path) for path in picture_files("run")]
    animation = read_gif("run/torch.gif")
    assert [path.name[12:18] for path in picture_files("run")] == ["000000", "000002", "000004", "000005"]
    assert all(np.array_equal(*pair) for pair in zip(animation.frames, pictures, strict=True))
    assert set(animation.durations) == {250}


LIGHT = """
import sys
from pygan.cli import main
for words in COMMANDS:
    sys.argv = ["pygan", *words]
    try:
        main()
    except SystemExit as stop:
        assert stop.code in (0, None, 2), (words, stop.code)
print("LOADED", *sorted(sys.modules.keys() & {"torch", "juliacall", "juliapkg", "matplotlib"}))
"""


def test_no_help_and_nothing_that_only_shows_loads_torch_or_julia(tmp_path: Path) -> None:
    names = ["gif", "train", "sample", "record", "recipes", "doctor", "data", "julia"]
    verbs = [["data", verb] for verb in ("list", "fetch", "verify", "remove")]
    verbs += [["julia", verb] for verb in ("setup", "status", "remove")]
    commands = [["--help"], *([*words, "--help"] for words in [*([name] for name in names), *verbs])]
    commands += [
        ["--version"],
        ["recipes"],
        ["data", "list"],
        ["julia", "status"],
        ["doctor"],
        ["train", "--print-config"],
    ]
    commands += [["sample", "nothing"], ["train", "--width", "0"], ["data", "verify", "nothing"]]
    code = LIGHT.replace("COMMANDS", repr(commands))
    variables = {**os.environ, "PYGAN_JULIA_ENV": str(tmp_path / "none"), "PYGAN_DATA_DIR": str(tmp_path / "none")}
    words = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "LOADED"
    assert list(tmp_path.iterdir()) == []


# --- answers in JSON ---------------------------------------------------------------------------------------------


def test_train_answers_with_one_object_and_text_goes_to_standard_error(pygan: Pygan) -> None:
    code, out, err = pygan("train", *FLAGS, "--samples", 8, "--steps", 2, "--out", "run", "--json")
    answer = json.loads(out)
    assert (code, answer["exit_code"], answer["steps"], answer["stack"], answer["data"]["name"]) == (
        0,
        0,
        2,
        "torch",
        "digits",
    )
    assert answer["config"] == FluxTutorialConfig(**NARROW, threads=1).to_dict()
    assert answer["losses"] == {name: float(value) for name, value in Trace(answer["trace"]).record(1).loss.items()}
    assert [Path(path) for path in answer["pictures"]] == picture_files("run")
    assert states.load(answer["state"])[0]["step"] == 2
    assert "torch: step 2/2" in err and "wrote 2 pictures" in err
    assert pygan("recipes")[1], "text must be on standard output again"


def test_record_answers_with_the_trace(pygan: Pygan) -> None:
    arguments = ("record", "--stack", "torch", *FLAGS, "--samples", 8, "--steps", 2, "--every", 1, "-o", "t", "--json")
    code, out, _ = pygan(*arguments)
    answer = json.loads(out)
    assert (code, answer["steps"], answer["trace"]) == (0, 2, "t")
    assert answer["bytes"] == sum(path.stat().st_size for path in Path("t").iterdir())
    code, out, err = pygan(*arguments)
    assert (code, json.loads(out)["exit_code"]) == (2, 2)
    assert json.loads(out)["error"].startswith("t already holds a trace")
    assert err.splitlines()[-1].startswith("error: t already holds a trace")


@pytest.mark.parametrize(("kind", "code", "word"), [(TorchStack, 0, "agree"), (TurnedKernel, 1, "differs")])
def test_gif_answers_with_both_statements_and_the_exit_code(pygan, monkeypatch, kind, code: int, word: str) -> None:
    monkeypatch.setattr(choose, "make_stack", lambda name, config: kind(config))
    arguments = ("--flux", "recorded", *FLAGS, "--samples", 62, "--every", 5, "--dtype", "float64", "--out", "run")
    got, out, err = pygan("gif", *arguments, "--json")
    answer = json.loads(out)
    assert (got, answer["exit_code"], answer["verdict"]) == (code, code, word)
    assert answer["pictures"].keys() == {"reason", "close_until", "equal"}
    assert answer["pictures"]["close_until"] == (20 if word == "agree" else None)
    assert answer["flux"].startswith("Flux 0.16.9 (recorded)")
    assert all(Path(path).is_file() for path in answer["files"]) and {
        "run/side_by_side.gif",
        "run/divergence.png",
        "run/summary.json",
    } <= set(answer["files"])
    assert f"First step: {word}: {answer['reason']}." in err and f"Pictures: {answer['pictures']['reason']}." in err


def test_a_refusal_is_an_answer_too(pygan: Pygan) -> None:
    code, out, err = pygan("train", "--batch", 1, "--json")
    assert (code, json.loads(out)) == (2, {"exit_code": 2, "error": err.removeprefix("error: ").strip()})
    code, out, err = pygan("sample", "nothing", "--json")
    assert json.loads(out) == {"exit_code": 2, "error": err.removeprefix("error: ").strip()}


def test_numbers_that_json_lacks_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("nan"), "b": [float("-inf"), 1.5], "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "x"}


def test_ctrl_c_answers_with_what_was_done_until_then(tmp_path: Path) -> None:
    arguments = ["train", *FLAGS, "--samples", "22", "--steps", "1000000", "--fps", "5", "--out", "run", "--json"]
    command = [sys.executable, "-c", MAIN, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        assert process.stderr is not None
        while "step 1/" not in (line := process.stderr.readline()):
            assert line, "pygan ended early"
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    answer = json.loads(out)
    assert (process.returncode, answer["exit_code"], answer["stopped"]) == (130, 130, True)
    assert err.splitlines()[-1] == "stopped; every file written so far is valid"
    stored, _ = states.load(tmp_path / answer["state"])
    assert stored["step"] == answer["steps"] == len(Trace(tmp_path / answer["trace"])) >= 1
    assert len(read_gif(tmp_path / answer["gif"]).frames) == len(answer["pictures"]) == 1
