"""``pygan new``: a small working pair of models, in PyTorch and in Flux, to start an own recipe from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pygan.cli.output import console
from pygan.errors import ConfigError

NAME = "MODEL"
"""What stands for the recipe's name in the template."""


def new(folder: Annotated[Path, typer.Argument(help="The new recipe's folder; its name is the recipe's.")]) -> None:
    """Write a small working recipe: a classifier in PyTorch and in Flux, to be replaced by your own model.

    It is compared with `pygan parity torch flux --recipe FOLDER`. No file that is there is overwritten.
    """
    from pygan.files import write_text
    from pygan.recipes.own import JULIA, PYTHON

    name = re.sub(r"\W+", "_", folder.resolve().name).lower()
    if not name.isidentifier():
        raise ConfigError(f"pygan new {folder}: {folder.name!r} makes no name of a recipe; begin it with a letter")
    places = [folder / PYTHON, folder / JULIA]
    if there := [str(place) for place in places if place.exists()]:
        raise ConfigError(f"pygan new {folder}: {' and '.join(there)} would be overwritten; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    template = Path(__file__).parents[1] / "recipes" / "template"
    for place in places:
        text = (template / place.name).read_text(encoding="utf-8").replace(NAME, name).replace("FOLDER", str(folder))
        write_text(place, text)
        console.print(f"wrote {place}", markup=False)
    console.print(f"compare both with: pygan parity torch flux --recipe {folder}", markup=False)
