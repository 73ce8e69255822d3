"""``pygan sample``: pictures from a saved state, with either stack."""

from __future__ import annotations

import sys
from math import isqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pygan.cli.options import JsonOption, PrintConfigOption, StackOption, capped, to_toml
from pygan.cli.output import answering, console, say_caveats, say_config, say_warning
from pygan.cli.places import OverwriteOption, result_file
from pygan.errors import ConfigError, PyganError, StateError

STREAM = "sample"
"""The draws that the latent vectors come from; the pictures of a training use another stream."""

LARGEST = 32


def sample(
    state: Annotated[Path, typer.Argument(help="The state.safetensors of a run.", show_default=False)],
    stack: StackOption = "torch",
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Pictures; else as many as fit.")] = None,
    grid: Annotated[
        int | None,
        typer.Option("--grid", min=1, max=LARGEST, help="Rows and columns; else the smallest square, or the run's."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Key of the latent vectors, if not the run's.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda, if not the run's.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads, if not the run's.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="A recipe of your own that made the run.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The PNG file; else sample.png, or the next free name.")
    ] = None,
    overwrite: OverwriteOption = False,
    print_config: PrintConfigOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures from a saved state. The config comes from the file; latent vectors from keyed draws.

    Picture k depends on the state, the seed and k only, so a larger count begins with the pictures of a smaller one.
    """
    from pygan import state as states

    with answering(as_json) as answer:
        if not state.is_file():
            raise StateError(f"there is no file {state}; expected the state.safetensors of a run")
        stored, described = states.load(state)
        config = capped(_config(state, described, device=device, threads=threads))
        answer["config"] = config.to_dict()
        if print_config:
            if not as_json:
                sys.stdout.write(to_toml(config))
            return
        if out is not None and out.suffix.lower() != ".png":
            raise ConfigError(f"--out {out}: expected a name that ends in .png")
        out = result_file(out, "sample.png", overwrite)
        number, side = _layout(count, grid, config.grid)
        key = config.seed if seed is None else seed
        say_caveats(config)
        say_config(config)
        values = _drawn(state, stored, config, stack, number, key)
        _write(out, values, side)
        answer |= {"state": state, "stack": stack, "step": int(stored["step"]), "seed": key}
        answer |= {"pictures": number, "grid": side, "file": out}
        after = f"after {int(stored['step'])} steps"
        console.print(f"wrote {out}: {number} pictures by {stack} {after}, seed {key}", markup=False)


def _config(path: Path, described: dict[str, Any], **changes: Any) -> Any:
    from pygan.recipes import config_from_dict

    try:
        config = config_from_dict(described)
    except PyganError as error:
        raise StateError(f"the config in {path} is not one of this pygan: {error}") from error
    return config.replace(**{name: value for name, value in changes.items() if value is not None})


def _layout(count: int | None, grid: int | None, of_run: int) -> tuple[int, int]:
    """Number of pictures, and rows and columns that hold them."""
    if grid is None:
        grid = of_run if count is None else isqrt(count - 1) + 1
    count = grid * grid if count is None else count
    if grid > LARGEST or count > grid * grid:
        raise ConfigError(
            f"{count} pictures do not fit in a grid of {min(grid, LARGEST)} x {min(grid, LARGEST)}; "
            f"--grid goes up to {LARGEST}"
        )
    return count, grid


def _drawn(path: Path, stored: Any, config: Any, stack: str, count: int, seed: int) -> np.ndarray:
    """Pictures ``(count, 1, H, W)`` in [-1, 1] from the ``stored`` state."""
    from pygan.draws import Draws
    from pygan.stacks.choose import make_stack

    latent = Draws(seed).normal(STREAM, (count, config.latent_dim))
    runner = make_stack(stack, config)
    say_warning(runner)
    try:
        runner.load_state(stored)
        return runner.generate(latent)
    except StateError as error:
        raise StateError(f"{path} does not fit its own config, so it is no whole state: {error}") from error
    finally:
        runner.close()


def _write(out: Path, values: np.ndarray, side: int) -> None:
    """Write the pictures in a square; cells that no picture fills are black."""
    from pygan.pictures.grid import grid
    from pygan.pictures.png import write_png

    empty = np.full((side * side - len(values), *values.shape[1:]), -1, values.dtype)
    write_png(out, grid(np.concatenate([values, empty]), side))
