"""``pygan gif``: a verdict on the first step, and both trainings as GIFs."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pygan.cli.options import (
    DataDirOption,
    DataOption,
    OutOption,
    SamplesOption,
    StepForm,
    StepFormOption,
    stack_name,
    with_config,
)
from pygan.cli.output import console, followed, say, say_caveats, say_config, say_notes, say_rate, say_warning
from pygan.cli.places import OverwriteOption, result_folder
from pygan.errors import ConfigError, JuliaNotFound
from pygan.records import StepRecord
from pygan.run_folder import held

if TYPE_CHECKING:
    from pygan.data import Dataset
    from pygan.gifs import Run, StepVerdict
    from pygan.traces import Trace

DEFAULT_STEPS = 300
"""Of live Flux, which takes seven minutes for them on two cores. A recording is shown whole."""


@with_config(picture_every=10)
def gif(
    config: Any,
    answer: dict[str, Any],
    flux: Annotated[
        str,
        typer.Option(
            "--flux",
            help="auto: real Flux live if it is found without downloading, else the shipped recording; live; recorded; "
            "or a trace of Flux made by `pygan record` or train.jl.",
        ),
    ] = "auto",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help=f"Training steps; default: all of a recording, {DEFAULT_STEPS} of live Flux."
        ),
    ] = None,
    step: StepFormOption = None,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=50, help="Pictures a second in the GIFs.")] = 10,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Judge the first step of both stacks, train them from the same draws, and write flux.gif, torch.gif,
    side_by_side.gif, plots and a summary. The pictures are shown, not judged.

    Exit code 0: the first step agrees, or was not judged (the reason is printed). 1: it differs, or a picture is not
    finite.

    Ctrl-C, SIGTERM and SIGHUP (exit codes 130, 143, 129) leave the GIFs so far; what Flux did
    live goes on with --flux OUT/flux.trace.
    """
    name = "runs/gifs-float64" if config.dtype == "float64" else "runs/gifs"
    out = result_folder(out, name, ("*.gif", "summary.*", "contact_sheet.png", "*losses.png"), overwrite)
    with held(out):
        _gif(config, answer, flux, data, data_dir, samples, steps, step, fps, out)


def _gif(
    config: Any,
    answer: dict[str, Any],
    flux: str,
    data: str,
    data_dir: Path | None,
    samples: int | None,
    steps: int | None,
    step: StepForm | None,
    fps: float,
    out: Path,
) -> None:
    """What ``pygan gif`` does in a folder that is its own."""
    from pygan import gifs
    from pygan.data import load
    from pygan.parity.verdicts import DIFFERS
    from pygan.stacks.choose import make_stack
    from pygan.stacks.julia_setup import find_julia

    own_trace = (Path(flux) / "trace.json").is_file()
    if not own_trace and flux not in ("auto", "live", "recorded"):
        raise ConfigError(f"--flux {flux}: expected auto, live, recorded or the folder of a trace")
    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
    say_notes(dataset.notes)
    live = flux == "live"
    if flux == "auto":
        try:
            find_julia().check()
            live = True
        except JuliaNotFound as error:
            why = str(error).partition("\n")[0]
            if why.endswith(":"):  # a command that would mend it follows
                why = why.rpartition(". ")[0]
            say(f"Flux is replayed from a recording, because {why}. `pygan doctor` says how to get it live.")

    if not config.pictures:
        raise ConfigError(f"the recipe {config.recipe} draws no pictures, so there is no GIF of it; use pygan train")
    every = config.picture_every
    trace = proof = None
    if own_trace:
        trace = proof = gifs.given_trace(Path(flux), config, dataset)
    elif not live:
        trace, proof = gifs.recorded_pictures(config, dataset), gifs.recorded_step(config, dataset)
    total = steps or (trace.training_steps if trace else DEFAULT_STEPS)
    say_config(config)
    say_rate(fps)
    started = time.perf_counter()
    kept = [] if trace is None else gifs.first_steps(trace, total, every)
    if trace is not None and (missing := gifs.other_cadence(trace, kept, total, every)):
        say(missing)
    names = {"flux": "flux", "torch": stack_name("torch", step, config.device)}
    runs: dict[str, gifs.Run] = {}

    with contextlib.ExitStack() as open_stacks:

        def start(name: str) -> Any:
            stack = make_stack(names[name], config)
            open_stacks.callback(stack.close)
            say_warning(stack)
            return stack

        def train_(name: str, stack: Any) -> None:
            from pygan.training import train

            records: list[StepRecord] = []
            title, described = gifs.live_title(stack), stack.describe()
            begun = time.perf_counter()
            try:
                stack.initialise()
                made = train(stack, dataset, total, picture_every=every)
                for record in followed(made, f"{name} on {dataset.name}", total):
                    records.append(record)  # one by one: a stopped run keeps what it has
            finally:
                seconds = time.perf_counter() - begun
                runs[name] = gifs.Run(title, {"live": True, "seconds": seconds, **described}, records)
                stack.close()

        stacks = {name: start(name) for name in (("flux", "torch") if trace is None else ("torch",))}
        judged = _judged(config, dataset, names, stacks, proof)
        say(f"First step: {judged.verdict}: {judged.reason}.")
        try:
            if trace is None:
                train_("flux", stacks["flux"])
            else:
                environment = {"live": False, "trace": trace.folder.name, "recorded": trace.header.recorded}
                runs["flux"] = gifs.Run(gifs.recorded_title(trace), {**environment, **trace.header.environment}, kept)
            train_("torch", stacks["torch"])
        except KeyboardInterrupt:
            facts = {"config": config.to_dict(), "data": dataset.facts(), "steps": total}
            answer |= {**facts, "out": out}
            answer |= _leave(out, runs, judged, dataset, fps, facts)
            raise
    flux_run, torch_run = runs["flux"], gifs.paired(runs["torch"], runs["flux"])
    if lone := len(runs["torch"].framed) - len(torch_run.framed):
        say(f"Flux has no pictures at {lone} of the steps at which PyTorch drew some; these are left out.")
    facts = {
        "config": config.to_dict(),
        "data": dataset.facts(),
        "steps": total,
        "seconds": time.perf_counter() - started,
    }
    answer |= {**facts, "flux": flux_run.title, "torch": torch_run.title, "out": out}
    answer["files"] = files = []

    def written(path: Path) -> None:
        files.append(path)
        console.print(f"wrote {path}", markup=False)

    pictures = gifs.pictures_shown(flux_run, torch_run, config)
    gifs.write_gifs(out, flux_run, torch_run, judged, pictures, fps, facts, written)
    told = {"reason": pictures.reason, "close_until": pictures.close_until, "equal": pictures.equal}
    answer |= {"verdict": judged.verdict, "reason": judged.reason, "pictures": told}
    console.print()
    _say_both(judged, pictures.reason)
    if judged.verdict == DIFFERS or pictures.unfit:
        sys.exit(1)


def _judged(
    config: Any, dataset: Dataset, names: dict[str, str], stacks: dict[str, Any], proof: Trace | None
) -> StepVerdict:
    """The verdict on the first step: of the ``stacks`` that are live, by name, or beside the recording ``proof``."""
    from pygan import gifs
    from pygan.parity.sides import Live
    from pygan.parity.verdicts import NOT_RUN
    from pygan.stacks.choose import make_stack

    if why := gifs.not_judged(config, proof):
        return gifs.StepVerdict(NOT_RUN, why)
    say("Judging the first step, in Float64 and in Float32 (at the published size 1 to 2 minutes on two cores).")
    with contextlib.ExitStack() as others:

        def make(name: str, changed: Any) -> Any:
            stack = make_stack(name, changed)
            others.callback(stack.close)
            return stack

        sides = {name: Live(stack, dataset, functools.partial(make, names[name])) for name, stack in stacks.items()}
        return gifs.first_step(sides["torch"], sides["flux"] if proof is None else proof)


def _say_both(judged: StepVerdict, pictures: str) -> None:
    say(f"First step: {judged.verdict}: {judged.reason}.")
    say(f"Pictures: {pictures}.")


def _leave(
    out: Path, runs: dict[str, Run], judged: StepVerdict, dataset: Dataset, fps: float, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write what a stopped run has; returns what a machine is told of it."""
    from pygan import stopped

    if not any(run.records for run in runs.values() if run.facts["live"]):
        return {}  # nothing but a start and a recording that the user has anyway
    reason, files = stopped.write_stopped(out, runs, judged, dataset, fps, facts)
    for path in files:
        console.print(f"wrote {path}", markup=False)
    console.print()
    _say_both(judged, reason)
    if out / stopped.TRACE in files:
        say(f"What Flux did is kept: run again with --flux {out / stopped.TRACE} to compare it with PyTorch.")
    told = {"reason": reason, "close_until": None, "equal": 0}
    return {"files": files, "verdict": judged.verdict, "reason": judged.reason, "pictures": told}
