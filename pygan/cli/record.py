"""``pygan record``: one stack's run as a trace, with as much of every step as is asked for."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import DataDirOption, DataOption, SamplesOption, StackOption, StepsOption, with_config
from pygan.cli.output import console, followed, say_caveats, say_config, say_notes, say_warning
from pygan.errors import ConfigError


@with_config()
def record(
    config: Any,
    answer: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new trace.")],
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
) -> None:
    """Record a run of real Flux (or torch) that other machines can replay and compare with."""
    from pygan import recording
    from pygan.capture import parse
    from pygan.data import load
    from pygan.files import check_writable
    from pygan.stacks.choose import make_stack
    from pygan.traces import refuse_existing
    from pygan.training import nothing, total_steps

    refuse_existing(out)
    check_writable(out)
    say_caveats(config)
    wanted = parse(capture or [])
    if twin and config.dtype != "float32":
        raise ConfigError("--twin stores Float64 steps beside Float32 ones; this run is Float64 already")
    dataset = load(data, data_dir, limit=samples)
    say_notes(dataset.notes)
    total = steps or total_steps(config, dataset)
    command = "pygan " + shlex.join(argument for argument in sys.argv[1:])
    say_config(config)
    answer |= {"stack": stack, "data": dataset.facts(), "steps": 0, "trace": out}
    runner = make_stack(stack, config)
    say_warning(runner)
    beside = None
    try:
        beside = make_stack(stack, config.replace(dtype="float64")) if twin else None
        made = recording.record(
            runner,
            dataset,
            total,
            out,
            command=command,
            picture_every=every,
            exact_pictures_until=exact_pictures_until,
            capture=wanted,
            twin=beside,
            twin_capture=parse(twin or []) if twin else nothing,
        )
        try:
            for one in followed(made, f"{stack} on {dataset.name}", total):
                answer["steps"] = min(one.step + 1, total)
        finally:
            made.close()  # type: ignore[attr-defined]
    finally:
        for one_stack in (runner, beside):
            if one_stack is not None:
                one_stack.close()
    answer["bytes"] = sum(path.stat().st_size for path in out.iterdir())
    console.print(f"wrote {out}: {total} steps, {answer['bytes'] / 1e6:.2f} MB", markup=False)
