"""What a run's folder holds is read, what is missing is empty, and what is damaged is one message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_runs import CONFIG, grid, state, write_gifs, write_trace, write_training

from pygan import state as states
from pygan.comparison.reading import read_runs
from pygan.errors import DataError
from pygan.records import StepRecord
from pygan.traces import Header, TraceWriter


def test_a_training_is_its_trace_and_the_state_of_its_end(tmp_path: Path) -> None:
    (run,) = read_runs(write_training(tmp_path / "run"))
    assert (run.stack, run.machine, run.steps) == ("PyTorch 2.13.0, fast step", "AMD EPYC, 2 cores", 5)
    assert run.losses["generator"][1] == 0.5
    assert [done for done, _ in run.pictures] == [1, 3, 5, 5]
    assert run.drawn(5).max() == 105, "the closing pictures are the last"
    assert run.states[5]()["step"] == 5
    assert run.notes == ()
    assert run.seconds_a_step is None


def test_a_trace_brings_the_states_that_it_holds(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, Header("flux", CONFIG, {}, {})) as trace:
        trace.write(StepRecord(0, loss={"generator": np.float32(1)}, state=state(2.0, 1)))
        trace.write(StepRecord(1, loss={"generator": np.float32(1)}))
    (run,) = read_runs(tmp_path)
    assert list(run.states) == [1]
    assert run.states[1]()["parameter/generator.dense.weight"].max() == 2
    assert run.stack == "Flux (version not recorded)"


def test_without_a_trace_state_and_pngs_are_left(tmp_path: Path) -> None:
    shutil.rmtree(write_training(tmp_path / "run") / "torch.trace")
    (run,) = read_runs(tmp_path / "run")
    assert (run.config["batch"], run.steps, run.losses, run.stack) == (8, 5, {}, "")
    assert [done for done, _ in run.pictures] == [1, 3, 5, 5]
    (tmp_path / "run" / "state.safetensors").unlink()
    (run,) = read_runs(tmp_path / "run")
    assert run.steps is None
    assert run.last_drawn == 5


def test_a_state_of_another_run_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    states.save(folder / "state.safetensors", state(1.0, 4), CONFIG)
    (run,) = read_runs(folder)
    assert not run.states
    assert "is of step 4, the trace ends at 5, and is left out" in run.notes[0]
    states.save(folder / "state.safetensors", state(1.0, 5), {**CONFIG, "seed": 9})
    assert "another config" in read_runs(folder)[0].notes[0]


def test_a_folder_in_which_both_stacks_trained_is_two_runs(tmp_path: Path) -> None:
    write_training(tmp_path)
    write_trace(tmp_path / "flux.trace", stack="flux")
    flux, torch = read_runs(tmp_path)
    assert (flux.stack, torch.stack) == ("Flux 0.16.9", "PyTorch 2.13.0, fast step")
    assert not torch.states
    assert "several traces" in torch.notes[0]


def test_a_gif_folder_is_two_runs_and_a_gif_one(tmp_path: Path) -> None:
    flux, torch = read_runs(write_gifs(tmp_path))
    assert (flux.stack, torch.stack) == ("Flux 0.16.9 (recorded)", "PyTorch 2.13.0 (live)")
    assert (flux.machine, torch.machine) == ("Apple M4", "AMD EPYC, 2 cores")
    assert (flux.seconds_a_step, torch.seconds_a_step) == (None, 0.5)
    assert torch.losses["generator"] == {0: 0.0, 2: 2.0, 4: 4.0}
    assert flux.losses["generator"][0] == 0.5
    assert np.isnan(flux.losses["generator"][2])
    assert [done for done, _ in torch.pictures] == [1, 3, 5, 5]
    (one,) = read_runs(tmp_path / "flux.gif")
    assert one.drawn(5)[0, 0] == 55


def test_a_stopped_gif_run_keeps_its_trace_or_its_last_picture(tmp_path: Path) -> None:
    told = {"stopped": True, "steps_done": {"flux": 3, "torch": 2}, "pictures": {"steps": []}}
    write_gifs(tmp_path, files=["flux.trace"], **told)
    write_trace(tmp_path / "flux.trace", 3, stack="flux")
    flux, torch = read_runs(tmp_path)
    assert (flux.steps, len(flux.losses["generator"]), flux.last_drawn) == (3, 3, 3)
    assert (torch.steps, torch.losses) == (2, {})
    assert [done for done, _ in torch.pictures] == [2]
    assert "only the last is used" in torch.notes[0]


def cut(name: str, keep: int = 60) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:keep])

    return change


def told(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "torch.trace" / "trace.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


def replaced(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut("torch.trace/trace.json"), "trace.json is not valid JSON"),
        (cut("torch.trace/chunk-000000.safetensors"), "is damaged: its SHA-256"),
        (cut("state.safetensors"), "cannot read the state in"),
        (replaced("torch.trace/trace.json", "[" * 100_000), "nested too deep"),
        (told("config", [1]), "trace.json: config is [1], expected a JSON object"),
        (told("environment", {"stack": "torch"}), "stack is 'torch', expected a JSON object"),
        (told("chunks", [{"file": "../../x", "steps": ["0"]}]), "outside its folder"),
        (told("schema", 99), "has schema 99"),
        (replaced("summary.json", "{"), "summary.json is not valid JSON"),
        (replaced("summary.json", "[]"), "summary.json holds no JSON object"),
        (replaced("summary.json", "{}"), "neither flux nor torch"),
        (replaced("summary.json", '{"torch": {}, "steps": "many"}'), "steps is 'many', expected a whole number"),
        (replaced("summary.json", '{"torch": {}, "steps": 1, "pictures": {"steps": [{}]}}'), "no whole run"),
    ],
)
def test_what_is_torn_or_hostile_is_one_message(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(write_training(tmp_path / "run"))
    with pytest.raises(DataError, match=r"another one$") as raised:
        read_runs(tmp_path / "run")
    assert words in str(raised.value)
    assert str(tmp_path / "run") in str(raised.value)


def test_a_loss_or_picture_of_another_form_is_one_message(tmp_path: Path) -> None:
    for number, parts in enumerate(({"loss": {"g": np.zeros(3)}}, {"pictures": {"grid": grid(1).astype(np.float32)}})):
        with TraceWriter(tmp_path / str(number), Header("torch", CONFIG, {}, {})) as trace:
            trace.write(StepRecord(0, **parts))
        with pytest.raises(DataError, match=f"{number}.*another one$"):
            read_runs(tmp_path / str(number))


def test_what_is_no_run_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no run; expected trace.json"):
        read_runs(tmp_path)
    with pytest.raises(DataError, match="is no folder of a run"):
        read_runs(tmp_path / "absent")
    (write_gifs(tmp_path / "gifs") / "both.gif").write_bytes(b"")
    with pytest.raises(DataError, match=r"no run called 'both'; name flux.gif, torch.gif"):
        read_runs(tmp_path / "gifs" / "both.gif")
