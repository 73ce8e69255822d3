"""``pygan gif``: both trainings as GIFs, with the verdict."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import (
    DataDirOption,
    DataOption,
    OutOption,
    SamplesOption,
    StepFormOption,
    stack_name,
    with_config,
)
from pygan.cli.output import console, followed, say, say_caveats, say_config, say_warning
from pygan.errors import ConfigError, JuliaNotFound
from pygan.records import StepRecord

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
    out: OutOption = Path("runs/gifs"),
) -> None:
    """Train both stacks from the same draws and write flux.gif, torch.gif, side_by_side.gif, plots and a summary.

    Exit code 0: the pictures agree up to the stated step. 1: they differ inside the horizon.

    Ctrl-C (exit code 130) leaves the GIFs so far; what Flux did live goes on with --flux OUT/flux.trace.
    """
    from pygan import gifs
    from pygan.data import load
    from pygan.parity.bands import picture_band
    from pygan.parity.free_run import DIFFERS
    from pygan.stacks.choose import make_stack
    from pygan.stacks.julia_setup import find_julia

    own_trace = (Path(flux) / "trace.json").is_file()
    if not own_trace and flux not in ("auto", "live", "recorded"):
        raise ConfigError(f"--flux {flux}: expected auto, live, recorded or the folder of a trace")
    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
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

    every = config.picture_every
    trace = None
    if not live:
        trace = gifs.given_trace(Path(flux), config, dataset) if own_trace else gifs.recorded_flux(config, dataset)
    total = steps or (trace.training_steps if trace else DEFAULT_STEPS)
    say_config(config)
    started = time.perf_counter()
    runs: dict[str, gifs.Run] = {}

    def run(name: str) -> None:
        from pygan.training import train

        stack = make_stack(stack_name(name, step if name == "torch" else None, config.device), config)
        try:
            say_warning(stack)
            title, described = gifs.live_title(stack), stack.describe()
            records: list[StepRecord] = []
            begun = time.perf_counter()
            try:
                made = train(stack, dataset, total, picture_every=every)
                for record in followed(made, f"{name} on {dataset.name}", total):
                    records.append(record)  # one by one: a stopped run keeps what it has
            finally:
                seconds = time.perf_counter() - begun
                runs[name] = gifs.Run(title, {"live": True, "seconds": seconds, **described}, records)
        finally:
            stack.close()

    try:
        if trace is not None:
            environment = {"live": False, "trace": trace.folder.name, "recorded": trace.header.recorded}
            kept = gifs.first_steps(trace, total, every)
            runs["flux"] = gifs.Run(gifs.recorded_title(trace), {**environment, **trace.header.environment}, kept)
        else:
            run("flux")
        run("torch")
    except KeyboardInterrupt:
        facts = {"config": config.to_dict(), "data": dataset.facts(), "steps": total}
        answer |= {**facts, "out": out}
        answer |= _leave(out, runs, dataset, fps, facts)
        raise
    flux_run, torch_run = runs["flux"], runs["torch"]
    if all(record.step != total for record in flux_run.records):
        torch_run = gifs.without_closing(torch_run, total)
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

    band = picture_band(config.to_dict())
    verdict = gifs.write_gifs(out, flux_run, torch_run, band, fps, facts, written)
    answer |= {name: getattr(verdict, name) for name in ("verdict", "reason", "agreed_until", "horizon")}
    console.print()
    say(f"{verdict.verdict}: {verdict.reason}.")
    if verdict.verdict == DIFFERS:
        sys.exit(1)


def _leave(out: Path, runs: dict[str, Any], dataset: Any, fps: float, facts: dict[str, Any]) -> dict[str, Any]:
    """Write what a stopped run has; returns what a machine is told of it."""
    from pygan import stopped
    from pygan.parity.free_run import NOT_RUN

    if not any(run.records for run in runs.values() if run.facts["live"]):
        return {}  # nothing but a start and a recording that the user has anyway
    reason, files = stopped.write_stopped(out, runs, dataset, fps, facts)
    for path in files:
        console.print(f"wrote {path}", markup=False)
    console.print()
    say(f"{NOT_RUN}: {reason}.")
    if out / stopped.TRACE in files:
        say(f"What Flux did is kept: run again with --flux {out / stopped.TRACE} to compare it with PyTorch.")
    return {"files": files, "verdict": NOT_RUN, "reason": reason}
