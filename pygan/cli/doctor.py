"""``pygan doctor``: what this machine has, against the pins, and for each gap the one command that mends it."""

from __future__ import annotations

import os
import sys
from importlib import metadata, util
from typing import Annotated

import typer
from rich.table import Table

from pygan import environment
from pygan.cli.output import console
from pygan.data import NAMES, load
from pygan.errors import PyganError
from pygan.stacks.julia_setup import PINS, find_julia


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False) -> None:
    """List Julia, packages, data and threads against the pins. Starts nothing and downloads nothing.

    Exit code 0 if everything needed without Julia is there; gaps that only live Flux needs are shown, not counted.
    """
    rows = [*_python_rows(), *_julia_rows(), *_data_rows()]
    if as_json:
        import json

        sys.stdout.write(
            json.dumps([dict(zip(("what", "state", "detail"), row, strict=True)) for row in rows], indent=1) + "\n"
        )
    else:
        table = Table("what", "state", "detail", box=None, pad_edge=False)
        colours = {"ok": "green", "gap": "yellow", "broken": "red"}
        for what, state, detail in rows:
            table.add_row(what, f"[{colours[state]}]{state}[/]", detail.replace("[", "\\["))
        console.print(table)
    if any(state == "broken" for _, state, _ in rows):
        sys.exit(2)


def _python_rows() -> list[tuple[str, str, str]]:
    facts = environment.describe()
    rows = [("machine", "ok", f"{facts['cpu']}, {facts['cores']} cores, {facts['platform']}, Python {facts['python']}")]
    for name, version in facts["packages"].items():
        here = util.find_spec({"pillow": "PIL"}.get(name, name)) is not None
        rows.append((name, "ok" if here else "broken", version if here else f"pip install {name}"))
    threads = {key: os.environ[key] for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if key in os.environ}
    rows.append(("threads", "ok", f"all {facts['cores']} cores" if not threads else str(threads)))
    return rows


def _julia_rows() -> list[tuple[str, str, str]]:
    try:
        juliacall = metadata.version("juliacall")
    except metadata.PackageNotFoundError:
        return [("juliacall pin", "broken", f"pip install juliacall=={PINS['PythonCall']}")]
    state = "ok" if juliacall == PINS["PythonCall"] else "broken"
    rows = [("juliacall pin", state, f"{juliacall}, traces were made with {PINS['PythonCall']}")]
    try:
        setup = find_julia()
        versions = setup.check()
    except PyganError as error:
        return [*rows, ("julia", "gap", f"live Flux is off; recorded Flux works. {error}")]
    rows.append(("julia", "ok", f"{versions['julia']} at {setup.executable} ({setup.source})"))
    rows.append(("julia environment", "ok", setup.project))
    return rows + [
        (name, "ok", versions[name])
        for name in ("Flux", "NNlib", "Zygote", "Optimisers", "PythonCall")
        if name in versions
    ]


def _data_rows() -> list[tuple[str, str, str]]:
    rows = []
    for name in NAMES:
        if name == "digits":
            rows.append((f"data: {name}", "ok", "made on first use, nothing to download"))
            continue
        try:
            rows.append((f"data: {name}", "ok", str(load(name).sources[0])))
        except PyganError as error:
            rows.append((f"data: {name}", "gap", str(error)))
    return rows
