"""``pygan train``: one stack trains, pictures at the article's cadence, the state at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pygan.cli.options import DataDirOption, DataOption, OutOption, SamplesOption, StackOption, StepsOption, with_config
from pygan.cli.output import console, followed, say_caveats


@with_config
def train(
    config: Any,
    stack: StackOption = "torch",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    out: OutOption = Path("runs/train"),
) -> None:
    """Train one stack: PNG pictures as the article makes them, a trace of the losses, and state.safetensors."""
    from pygan.data import load
    from pygan.parity.free_run import grid_of
    from pygan.pictures.png import file_name, write_png
    from pygan.recording import record
    from pygan.stacks.choose import make_stack
    from pygan.state import save
    from pygan.training import total_steps

    say_caveats(config)
    dataset = load(data, data_dir, limit=samples)
    total = steps or total_steps(config, dataset)
    runner = make_stack(stack, config)
    try:
        made = record(runner, dataset, total, out / f"{stack}.trace", picture_every=config.picture_every)
        stopped: KeyboardInterrupt | None = None
        try:
            for one in followed(made, stack, total):
                if one.pictures:
                    write_png(out / file_name(one.step), grid_of(one))
        except KeyboardInterrupt as interrupt:
            stopped = interrupt
        finally:
            made.close()  # type: ignore[attr-defined]
        save(out / "state.safetensors", runner.state(), config.to_dict())
        if stopped:
            raise stopped
    finally:
        runner.close()
    console.print(f"wrote pictures, {stack}.trace and state.safetensors to {out}")
