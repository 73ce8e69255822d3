"""``pygan gif``: both trainings as GIFs, with the verdict."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import DataDirOption, DataOption, OutOption, SamplesOption, StepsOption, with_config
from pygan.cli.output import console, followed, say_caveats
from pygan.errors import ConfigError, JuliaNotFound

DEFAULT_STEPS = 400


@with_config
def gif(
    config: Any,
    flux: Annotated[
        str,
        typer.Option(
            "--flux",
            help="auto: real Flux live if it is found without downloading, else the recorded run; live; recorded.",
        ),
    ] = "auto",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between pictures.")] = 10,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=50, help="Pictures a second in the GIFs.")] = 5,
    out: OutOption = Path("runs/gifs"),
) -> None:
    """Train both stacks from the same draws and write flux.gif, torch.gif, side_by_side.gif, plots and a summary.

    Exit code 0: the pictures agree up to the stated step. 1: they differ inside the horizon.
    """
    from pygan import gifs
    from pygan.data import load
    from pygan.parity.bands import picture_band
    from pygan.parity.free_run import DIFFERS
    from pygan.stacks.choose import make_stack
    from pygan.stacks.julia_setup import find_julia

    if flux not in ("auto", "live", "recorded"):
        raise ConfigError(f"--flux {flux}: expected auto, live or recorded")
    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
    live = flux == "live"
    if flux == "auto":
        try:
            find_julia().check()
            live = True
        except JuliaNotFound as error:
            console.print(f"Flux is replayed from a recording, because {str(error).splitlines()[0]}", markup=False)

    trace = None if live else gifs.recorded_flux(config, dataset)
    total = steps or (gifs.recorded_steps(trace) if trace else DEFAULT_STEPS)
    started = time.perf_counter()

    def run(name: str) -> gifs.Run:
        stack = make_stack(name, config)
        begun = time.perf_counter()
        try:
            from pygan.training import train

            made = train(stack, dataset, total, picture_every=every)
            records = list(followed(made, f"{name} on {dataset.name}", total))
            seconds = time.perf_counter() - begun
            return gifs.Run(gifs.live_title(stack), {"live": True, "seconds": seconds, **stack.describe()}, records)
        finally:
            stack.close()

    if trace is not None:
        environment = {"live": False, "trace": trace.folder.name, "recorded": trace.header.recorded}
        kept = gifs.first_steps(trace, total, every)
        flux_run = gifs.Run(gifs.recorded_title(trace), {**environment, **trace.header.environment}, kept)
    else:
        flux_run = run("flux")
    torch_run = run("torch")
    facts = {
        "config": config.to_dict(),
        "data": {"name": dataset.name, "images": len(dataset.images), "sha256": dataset.sha256},
        "steps": total,
        "seconds": time.perf_counter() - started,
    }
    verdict = gifs.write_gifs(
        out, flux_run, torch_run, picture_band(), fps, facts, lambda path: console.print(f"wrote {path}")
    )
    console.print(f"\n{verdict.verdict}: {verdict.reason}.", markup=False)
    if verdict.verdict == DIFFERS:
        sys.exit(1)
