"""``pygan train``: one stack trains, pictures at the article's cadence, the state at the end."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from pygan.cli.options import (
    DataDirOption,
    DataOption,
    OutOption,
    SamplesOption,
    StackOption,
    StepFormOption,
    StepsOption,
    stack_name,
    with_config,
)
from pygan.cli.output import BETWEEN_STEPS, console, followed, say_caveats, say_config, say_notes, say_rate, say_warning
from pygan.cli.places import OverwriteOption, result_folder


@with_config()
def train(
    config: Any,
    answer: dict[str, Any],
    stack: StackOption = "torch",
    step: StepFormOption = None,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.1, max=50, help="Write the pictures as STACK.gif too, so many a second."),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Train one stack: PNG pictures as the article makes them, a trace of the losses, and state.safetensors.

    Ctrl-C ends the training after the step under way: exit code 130, with the pictures, trace and state up to there.
    """
    from pygan.data import load
    from pygan.pictures.gif import write_gif
    from pygan.pictures.of_record import grid_of
    from pygan.pictures.png import file_name, write_png
    from pygan.recording import record
    from pygan.stacks.choose import make_stack
    from pygan.state import save
    from pygan.training import total_steps

    written_files = (f"{stack}.trace", f"{stack}.gif", "state.safetensors", "dcgan_steps_*.png")
    out = result_folder(out, "runs/train", written_files, overwrite)
    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
    say_notes(dataset.notes)
    total = steps or total_steps(config, dataset)
    say_config(config)
    started = time.perf_counter()
    runner = make_stack(stack_name(stack, step, config.device), config)
    say_warning(runner)
    trace, state, gif = out / f"{stack}.trace", out / "state.safetensors", out / f"{stack}.gif"
    answer |= {"stack": stack, "data": dataset.facts(), "steps": 0, "losses": {}, "out": out, "trace": trace}
    answer["pictures"] = pictures = []
    frames = []
    stopped: KeyboardInterrupt | None = None
    try:
        made = record(runner, dataset, total, trace, picture_every=config.picture_every)
        try:
            for one in followed(made, stack, total):
                if one.pictures:
                    frames.append(grid_of(one))
                    pictures.append(out / file_name(one.step))
                    write_png(pictures[-1], frames[-1])
                if one.loss:
                    answer["steps"] = one.step + 1
                    answer["losses"] = {name: float(value) for name, value in one.loss.items()}
        except KeyboardInterrupt as interrupt:
            stopped = interrupt
        finally:
            made.close()  # type: ignore[attr-defined]
        whole = stopped is None or BETWEEN_STEPS in stopped.args
        if whole:
            save(state, runner.state(), config.to_dict())
    finally:
        runner.close()
    if fps and frames:
        write_gif(gif, frames, fps)
        say_rate(fps)
        answer["gif"] = gif
    answer |= {"state": state if whole else None, "seconds": time.perf_counter() - started}
    names = [f"{len(pictures)} pictures", trace.name]
    names += ([gif.name] if "gif" in answer else []) + ([state.name] if whole else [])
    written = f"{', '.join(names[:-1])} and {names[-1]}"
    console.print(f"wrote {written} to {out}", markup=False)
    if stopped:
        raise stopped
