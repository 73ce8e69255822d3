"""Write ``julia/share/recipes.toml``: fields, defaults and ranges of the published recipes, for runs without Python."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pygan.config import RunConfig
from pygan.files import write_bytes
from pygan.recipes import CONFIGS

PATH = Path(__file__).parents[1] / "julia" / "share" / "recipes.toml"
HEAD = "# Written by tools/recipe_share.py from the configs in pygan/recipes. Julia's side is julia/src/recipe.jl.\n"


def share() -> str:
    """The whole file: a table for each field of each recipe."""
    return HEAD + "".join(table(kind, item) for kind in CONFIGS.values() for item in dataclasses.fields(kind))


def table(kind: type[RunConfig], item: dataclasses.Field[Any]) -> str:
    """One field. Strings and numbers read the same in TOML as in JSON."""
    allowed = {
        key: value for key, value in dataclasses.asdict(item.metadata["range"]).items() if value not in (None, (), "")
    }
    facts = {"default": item.default, **allowed, "expected": str(item.metadata["range"])}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
    return f"\n[{kind.recipe}.{item.name}]\n{lines}"


if __name__ == "__main__":
    write_bytes(PATH, share().encode())
    print(f"wrote {PATH}")
