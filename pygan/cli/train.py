"""``pygan train``: one stack trains, pictures at the article's cadence, the state at the end."""

from __future__ import annotations

import contextlib
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
from pygan.cli.output import console, followed, say_caveats, say_config, say_notes, say_rate, say_warning
from pygan.cli.places import OverwriteOption, result_folder
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
from pygan.errors import Diverged
from pygan.records import StepRecord
from pygan.run_folder import RUN_FILE


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
    resume: ResumeOption = None,
    checkpoint_every: CheckpointOption = 0,
    on_nan: OnNanOption = OnNan.stop,
    recipe: str = "",
) -> None:
    """Train one stack: PNG pictures as the article makes them, losses.csv and losses.png, a trace of all steps, and
    state.safetensors. run.json keeps the command and its config.

    Ctrl-C, SIGTERM and SIGHUP end the training after the step under way: exit code 130, 143 or 129, with the pictures,
    trace and state up to there. --resume OUT goes on with it, also after a kill.
    """
    from pygan.data import load
    from pygan.losses import FILES, write_losses
    from pygan.pictures.gif import write_gif
    from pygan.pictures.of_record import grid_of
    from pygan.pictures.png import file_name, picture_files, write_png
    from pygan.recording import record
    from pygan.stacks.choose import make_stack
    from pygan.state import save
    from pygan.traces import Trace
    from pygan.training import total_steps

    if resume is None or out is None:  # a resumed run has its folder
        files = (f"{stack}.trace", f"{stack}.gif", "state.safetensors", "dcgan_steps_*.png", *FILES, RUN_FILE)
        out = result_folder(out, "runs/train", files, overwrite)
    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
    say_notes(dataset.notes)
    total = steps or total_steps(config, dataset)
    trace, state, gif = out / f"{stack}.trace", out / "state.safetensors", out / f"{stack}.gif"
    run = stored_run(
        "train",
        config,
        recipe,
        dataset,
        stack=stack,
        step=step,
        data=data,
        data_dir=data_dir,
        samples=samples,
        steps=total,
        fps=fps,
        checkpoint_every=checkpoint_every,
        on_nan=on_nan,
    )
    answer |= {"stack": stack, "data": dataset.facts(), "steps": 0, "losses": {}, "out": out, "trace": trace}
    answer["pictures"] = pictures = []
    frames = []
    stopped: BaseException | None = None

    def keep(one: StepRecord) -> None:
        if one.pictures:
            frames.append(grid_of(one))
            pictures.append(out / file_name(one.step))
            write_png(pictures[-1], frames[-1])
        if one.loss:
            answer["steps"] = one.step + 1
            answer["losses"] = {name: float(value) for name, value in one.loss.items()}

    with contextlib.ExitStack() as open_:
        kept = open_.enter_context(kept_run(run, out, trace, resume is not None))
        say_config(config)
        started = time.perf_counter()
        runner = make_stack(stack_name(stack, step, config.device), config)
        open_.callback(runner.close)
        say_warning(runner)
        kept.start(runner)
        if resume is not None:
            for path in picture_files(out):
                if (number := path.stem.rpartition("_")[2]).isdecimal() and int(number) >= kept.first:
                    path.unlink()
        if kept.first:
            before = Trace(trace)
            for earlier in sorted({*before.steps_with("pictures"), kept.first - 1}):
                if earlier < kept.first:
                    keep(before.record(earlier))
        made = record(
            runner,
            dataset,
            total,
            trace,
            picture_every=config.picture_every,
            first=kept.first,
            checkpoints=kept.checkpoints,
        )
        try:
            for one in followed(made, stack, total, kept.watch):
                kept.folder.check()
                keep(one)
        except (KeyboardInterrupt, Diverged) as interrupt:
            stopped = interrupt
        finally:
            made.close()  # type: ignore[attr-defined]
        whole = stopped is None or BETWEEN_STEPS in stopped.args
        if whole:
            try:
                kept.save(answer["steps"], runner, finished=stopped is None)
                save(state, runner.state(), config.to_dict())
            except Diverged as diverged:
                whole, stopped = False, stopped or diverged
        if fps and frames:
            write_gif(gif, frames, fps)
            say_rate(fps)
            answer["gif"] = gif
        curves = write_losses(out, Trace(trace), stack) if (trace / "trace.json").exists() else []
    answer |= {"state": state if whole else None, "seconds": time.perf_counter() - started}
    names = [f"{len(pictures)} pictures", *(path.name for path in curves), trace.name]
    names += ([gif.name] if "gif" in answer else []) + ([state.name] if whole else [])
    written = f"{', '.join(names[:-1])} and {names[-1]}"
    console.print(f"wrote {written} to {out}", markup=False)
    say_end(kept, out, "train", stopped)
