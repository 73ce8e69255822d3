"""``pygan recipes``: the published systems, and every number of each with its source."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from pygan.cli.options import publications
from pygan.cli.output import console, print_json
from pygan.config import RunConfig
from pygan.recipes import CONFIGS
from pygan.recipes.own import chosen_recipe


def recipes(
    name: Annotated[str, typer.Argument(help="One of them, or a folder or .py file of your own.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List the recipes: what each publishes, and every config field with its default, what it allows and its source."""
    kinds = dict(CONFIGS)
    if name:
        kind = chosen_recipe(name)
        kinds = {kind.recipe: kind}
    if as_json:
        print_json({name: {"about": _about(kind), "fields": _fields(kind)} for name, kind in kinds.items()})
        return
    for name, kind in kinds.items():
        console.print(f"[bold]{name}[/]  {escape(_about(kind))}")
        folded = [Column(head, overflow="fold") for head in ("allowed", "source of the default")]
        table = Table(Column("field", no_wrap=True), Column("default", no_wrap=True), *folded, box=None, pad_edge=False)
        notes = {where: f"[{number}]" for number, where in enumerate(publications(kind), 1)}
        for field, facts in _fields(kind).items():
            where, colon, what = facts["source"].partition(": ")
            source = f"{notes[where]}{colon}{what}" if where in notes else facts["source"]
            table.add_row(field, str(facts["default"]), facts["allowed"], escape(source))
        console.print(table)
        for where, note in notes.items():
            console.print(f"{note} {where}", markup=False)
        console.print()
    console.print("Set a field with its flag, e.g. --latent-dim 5, or in a TOML file given to --config.")


def _about(kind: type[RunConfig]) -> str:
    return inspect.getdoc(kind).splitlines()[0]  # type: ignore[union-attr]


def _fields(kind: type[RunConfig]) -> dict[str, dict[str, Any]]:
    return {
        item.name: {
            "default": item.default,
            "type": type(item.default).__name__,
            "allowed": str(item.metadata["range"]),
            "source": item.metadata["source"],
        }
        for item in dataclasses.fields(kind)
    }
