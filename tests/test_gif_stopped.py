"""``pygan gif`` stopped by Ctrl-C: what is done stays as valid files, and what Flux did can be gone on from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_pygan import Pygan, press

from pygan import stopped
from pygan.pictures.gif import read_gif
from pygan.pictures.grid import grid
from pygan.recipes.flux_tutorial_config import NARROW
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.stacks import choose
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

pytestmark = pytest.mark.usefixtures("default_handler")

FLAGS = [
    flag for name, value in {**NARROW, "threads": 1}.items() for flag in (f"--{name.replace('_', '-')}", str(value))
]
LIVE = ["gif", *FLAGS, "--samples", "22", "--steps", "10", "--every", "5", "--out", "run"]


class Flux(TorchStack):
    """A stack that passes for Flux."""

    name = "flux"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "packages": {"Flux": "0.16.9"}}


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch):
    """Call it with a stack's name and a step (-1: as the stack starts) to have Ctrl-C pressed there."""
    where: list[Any] = [None, None]

    def make(name: str, config: Any) -> TorchStack:
        name = name.removesuffix("-fast")
        if where == [name, -1]:
            raise KeyboardInterrupt
        stack = {"flux": Flux, "torch": TorchStack}[name](config)
        step = stack.step

        def pressed(batch: np.ndarray, draws: Any, capture: Any = (), **how: Any) -> Any:
            if where == [name, draws.step]:
                press()
            return step(batch, draws, capture, **how)

        stack.step = pressed  # type: ignore[method-assign]
        return stack

    monkeypatch.setattr(choose, "make_stack", make)

    def set_(name: str, step: int) -> None:
        where[:] = [name, step]

    return set_


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_stopped_in_torchs_half_the_whole_of_flux_and_the_half_of_torch_stay(pygan: Pygan, stop_at, tmp_path) -> None:
    run = tmp_path / "run"
    stop_at("torch", 6)
    code, out, err = pygan(*LIVE, "--flux", "live", "--json")
    answer = json.loads(out)
    assert code == answer["exit_code"] == 130
    assert err.endswith("stopped; every file written so far is valid\n") and "Traceback" not in err
    assert files(run) == ["flux.gif", "flux.trace", "summary.json", "summary.md", "torch.gif"]
    assert [Path(path).name for path in answer["files"]] == [
        "flux.gif", "torch.gif", "flux.trace", "summary.json", "summary.md",
    ]  # fmt: skip
    reason = "stopped after 10 of 10 steps of flux and 7 of 10 steps of torch, so the pictures were not compared"
    summary = json.loads((run / "summary.json").read_text())
    assert (answer["verdict"], answer["pictures"], answer["stopped"]) == (
        "agree", {"reason": reason, "close_until": None, "equal": 0}, True,
    )  # fmt: skip
    assert (summary["verdict"], summary["reason"], summary["stopped"]) == ("agree", answer["reason"], True)
    assert summary["pictures"] == {**answer["pictures"], "steps": []}
    assert summary["steps_done"] == {"flux": 10, "torch": 7}
    told = (run / "summary.md").read_text()
    assert f"First step: **agree**: {answer['reason']}." in told and f"Pictures: {reason}." in told
    assert [list(record.pictures) for record in Trace(run / "flux.trace") if record.pictures] == [["values"]] * 3
    flux, torch = (read_gif(run / f"{name}.gif").frames for name in ("flux", "torch"))
    assert (len(flux), len(torch)) == (3, 2)
    assert all(np.array_equal(a, b) for a, b in zip(flux, torch, strict=False))

    stop_at("nothing", 0)
    code, out, err = pygan(*LIVE, "--flux", "run/flux.trace", "--out", "again", "--json")
    assert (code, json.loads(out)["flux"]) == (0, "Flux 0.16.9 (recorded)"), err
    assert json.loads(out)["reason"] == "the recording holds pictures and losses only"
    compared = json.loads((tmp_path / "again" / "summary.json").read_text())["pictures"]["steps"]
    assert [(step["step"], step["relative"]) for step in compared] == [(0, 0.0), (5, 0.0), (10, 0.0)]


def test_stopped_in_fluxs_half_its_steps_so_far_can_be_compared_as_a_shorter_run(pygan: Pygan, stop_at, tmp_path):
    stop_at("flux", 6)
    code, out, _ = pygan(*LIVE, "--flux", "live")
    assert (code, out.splitlines()[-1]) == (
        130, "What Flux did is kept: run again with --flux run/flux.trace to compare it with PyTorch.",
    )  # fmt: skip
    assert files(tmp_path / "run") == ["flux.gif", "flux.trace", "summary.json", "summary.md"]
    assert [record.step for record in Trace(tmp_path / "run" / "flux.trace")] == list(range(7))
    line = next(line for line in (tmp_path / "run" / "summary.md").read_text().splitlines() if "--flux" in line)
    assert line.startswith("`pygan gif --flux run/flux.trace --steps 7`")
    stop_at("nothing", 0)
    code, _, err = pygan(*LIVE, "--flux", "run/flux.trace", "--steps", 7, "--out", "again")
    assert (code, err) == (0, "")
    assert len(read_gif(tmp_path / "again" / "torch.gif").frames) == 2, "torch has a picture that Flux has not"


def test_a_trace_of_an_earlier_stopped_run_stays(pygan: Pygan, stop_at, tmp_path) -> None:
    for step in (6, 2):
        stop_at("flux", step)
        assert pygan(*LIVE, "--flux", "live", "--overwrite")[0] == 130
    assert len(Trace(tmp_path / "run" / "flux.trace")) == 7
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["steps_done"], summary["files"]) == ({"flux": 3}, ["flux.gif", "summary.json", "summary.md"])


def test_beside_recorded_flux_there_is_no_trace_to_keep(pygan: Pygan, stop_at, tmp_path) -> None:
    trace = Trace(traces_dir() / "flux-narrow-float32")
    stop_at("torch", 6)
    assert pygan(*LIVE, "--samples", "62", "--steps", trace.training_steps, "--flux", "recorded")[0] == 130
    assert files(tmp_path / "run") == ["flux.gif", "summary.json", "summary.md", "torch.gif"]
    assert len(read_gif(tmp_path / "run" / "flux.gif").frames) == sum(1 for record in trace if record.pictures)


def test_a_grid_that_its_values_do_not_give_again_is_kept() -> None:
    values = np.linspace(-1, 1, 4 * 28 * 28, dtype=np.float32).reshape(4, 1, 28, 28)
    own = grid(values, 2)
    for shown, kept in ((own, ["values"]), (own.T.copy(), ["values", "grid"])):
        assert list(stopped._slim(StepRecord(0, pictures={"values": values, "grid": shown})).pictures) == kept
    assert list(stopped._slim(StepRecord(0, pictures={"grid": own})).pictures) == ["grid"]


def test_stopped_while_the_first_step_is_judged_nothing_is_written(pygan: Pygan, stop_at, tmp_path) -> None:
    stop_at("torch", 0)
    code, out, err = pygan(*LIVE, "--flux", "live")
    assert (code, err) == (130, "stopped; every file written so far is valid\n")
    assert "Judging the first step" in out and "First step: " not in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("flux", "name"), [("live", "flux"), ("recorded", "torch")])
def test_stopped_before_the_first_step_nothing_is_written(
    pygan: Pygan, stop_at, tmp_path, flux: str, name: str
) -> None:
    stop_at(name, -1)
    steps = ("--samples", "62", "--steps", "10")
    code, _, err = pygan(*LIVE, *steps, "--flux", flux)
    assert (code, err) == (130, "stopped; every file written so far is valid\n")
    assert not (tmp_path / "run").exists()
