"""``pygan gif``: both trainings as GIFs, with the verdict."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import DataDirOption, DataOption, OutOption, SamplesOption, StepsOption, with_config
from pygan.cli.output import console, data_facts, followed, say_caveats, say_config, say_warning
from pygan.errors import ConfigError, JuliaNotFound

DEFAULT_STEPS = 300
"""About two minutes of PyTorch on two cores."""


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
    steps: StepsOption = None,
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
            console.print(f"Flux is replayed from a recording, because {str(error).splitlines()[0]}", markup=False)

    every = config.picture_every
    trace = None
    if not live:
        trace = gifs.given_trace(Path(flux), config, dataset) if own_trace else gifs.recorded_flux(config, dataset)
    held = gifs.recorded_steps(trace) if trace else DEFAULT_STEPS
    total = steps or min(held, DEFAULT_STEPS)
    say_config(config)
    started = time.perf_counter()

    def run(name: str) -> gifs.Run:
        stack = make_stack(name, config)
        say_warning(stack)
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
    if trace is not None and total < held:
        torch_run = gifs.without_closing(torch_run, total)
    facts = {
        "config": config.to_dict(),
        "data": data_facts(dataset),
        "steps": total,
        "seconds": time.perf_counter() - started,
    }
    answer |= {**facts, "flux": flux_run.title, "torch": torch_run.title, "out": out}
    verdict = gifs.write_gifs(
        out,
        flux_run,
        torch_run,
        picture_band(config.to_dict()),
        fps,
        facts,
        lambda path: console.print(f"wrote {path}", markup=False),
    )
    answer["files"] = sorted(path for path in out.iterdir() if path.is_file())
    answer |= {name: getattr(verdict, name) for name in ("verdict", "reason", "agreed_until", "horizon")}
    console.print(f"\n{verdict.verdict}: {verdict.reason}.", markup=False)
    if verdict.verdict == DIFFERS:
        sys.exit(1)
