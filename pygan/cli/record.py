"""``pygan record``: one stack's run as a trace, with as much of every step as is asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import DataDirOption, DataOption, SamplesOption, StackOption, StepsOption, with_config
from pygan.cli.output import console, followed, say_caveats, say_config, say_notes, say_warning
from pygan.cli.process import BETWEEN_STEPS
from pygan.cli.resume import (
    CheckpointOption,
    OnNan,
    OnNanOption,
    ResumeOption,
    kept_run,
    say_end,
    stored_run,
)
from pygan.errors import ConfigError, Diverged


@with_config()
def record(
    config: Any,
    answer: dict[str, Any],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the new trace.")] = None,
    stack: StackOption = "flux",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    every: Annotated[int, typer.Option("--every", min=0, help="Pictures every so many steps; 0 for none.")] = 0,
    exact_pictures_until: Annotated[
        int | None, typer.Option(help="Store later pictures as 8-bit grids instead of exact values.")
    ] = None,
    capture: Annotated[
        list[str] | None,
        typer.Option(
            help="KIND[,KIND]\\[@RANGES], kinds logits, gradients, patterns, state, sketches; e.g. sketches@0:50:10."
        ),
    ] = None,
    twin: Annotated[
        list[str] | None,
        typer.Option(
            help="As --capture, of a Float64 step from the same state beside each such step. With it a Float32 "
            "recording proves more than rounding; on/off patterns are then kept as differences from it."
        ),
    ] = None,
    resume: ResumeOption = None,
    checkpoint_every: CheckpointOption = 0,
    on_nan: OnNanOption = OnNan.stop,
    recipe: str = "",
) -> None:
    """Record a run of real Flux (or torch) that other machines can replay and compare with.

    Once it is finished, run.json and checkpoints/ beside the trace are of use only to go on with it.
    """
    from pygan import recording
    from pygan.capture import parse
    from pygan.data import load
    from pygan.files import check_writable
    from pygan.stacks.choose import make_stack
    from pygan.training import nothing, total_steps

    if out is None:
        raise ConfigError("pygan record needs --out FOLDER for the new trace")
    check_writable(out)
    say_caveats(config)
    wanted = parse(capture or [])
    if twin and config.dtype != "float32":
        raise ConfigError("--twin stores Float64 steps beside Float32 ones; this run is Float64 already")
    dataset = load(data, data_dir, limit=samples)
    say_notes(dataset.notes)
    total = steps or total_steps(config, dataset)
    run = stored_run(
        "record",
        config,
        recipe,
        dataset,
        stack=stack,
        data=data,
        data_dir=data_dir,
        samples=samples,
        steps=total,
        every=every,
        exact_pictures_until=exact_pictures_until,
        capture=capture,
        twin=twin,
        checkpoint_every=checkpoint_every,
        on_nan=on_nan,
    )
    say_config(config)
    answer |= {"stack": stack, "data": dataset.facts(), "steps": 0, "trace": out}
    stopped: BaseException | None = None
    with contextlib.ExitStack() as open_:
        kept = open_.enter_context(kept_run(run, out, out, resume is not None))
        runner = make_stack(stack, config)
        open_.callback(runner.close)
        say_warning(runner)
        beside = make_stack(stack, config.replace(dtype="float64")) if twin else None
        if beside is not None:
            open_.callback(beside.close)
        kept.start(runner)
        answer["steps"] = kept.first
        made = recording.record(
            runner,
            dataset,
            total,
            out,
            command=kept.typed,
            picture_every=every,
            exact_pictures_until=exact_pictures_until,
            capture=wanted,
            twin=beside,
            twin_capture=parse(twin or []) if twin else nothing,
            first=kept.first,
            checkpoints=kept.checkpoints,
        )
        try:
            for one in followed(made, f"{stack} on {dataset.name}", total, kept.watch):
                kept.folder.check()
                answer["steps"] = min(one.step + 1, total)
        except (KeyboardInterrupt, Diverged) as interrupt:
            stopped = interrupt
        finally:
            made.close()  # type: ignore[attr-defined]
        if stopped is None or BETWEEN_STEPS in stopped.args:
            kept.save(answer["steps"], runner, finished=stopped is None)
    answer["bytes"] = sum(path.stat().st_size for path in out.iterdir())
    if stopped is None:
        console.print(f"wrote {out}: {total} steps, {answer['bytes'] / 1e6:.2f} MB", markup=False)
    say_end(kept, out, "record", stopped)
