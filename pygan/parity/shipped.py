"""Which shipped recording of real Flux a comparison with ``recorded`` is made against."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pygan.errors import ConfigError
from pygan.resources import traces_dir
from pygan.traces import Trace

WITHOUT_EFFECT = ("device", "threads", "epochs", "picture_every")
"""Config fields that a recording need not share."""


def shipped() -> Iterator[Trace]:
    """Every recording that comes with pygan, by name."""
    return (Trace(path.parent) for path in sorted(traces_dir().glob("*/trace.json")))


def unlike(trace: Trace, config: Mapping[str, Any]) -> list[str]:
    """Fields of ``config`` in which the recorded run was another one."""
    held = trace.config
    keys = sorted(held.keys() | config.keys())
    return [key for key in keys if key not in WITHOUT_EFFECT and held.get(key) != config.get(key)]


def proves(trace: Trace) -> bool:
    """Does the recording hold what a step can be judged by, and not only losses and pictures?"""
    first = trace.record(trace.steps[0]) if trace.steps else None
    return first is not None and bool(first.state or first.sketch)


def recorded_run(config: Any, data: str, fixed: Collection[str] = ()) -> Path:
    """The folder of the shipped recording of Flux that is closest to ``config`` on the data set ``data``. It has the
    config's values of the ``fixed`` fields; its other fields are its own.

    Raises ``ConfigError`` that lists what is shipped, and in which of these fields the closest one is another run.
    """
    wanted = config.to_dict()
    held = [trace for trace in shipped() if trace.config.get("recipe") == wanted["recipe"] and proves(trace)]
    if not held:
        raise ConfigError(
            f"no recording of Flux is shipped for the recipe {wanted['recipe']}; compare with live Flux, or name a "
            "recording that somebody made: pygan record --stack flux"
        )

    def misfit(trace: Trace) -> tuple[bool, int, int]:
        fields = unlike(trace, wanted)
        return trace.header.data["name"] != data, len(set(fields) & set(fixed)), len(fields)

    best = min(held, key=misfit)
    other_data, conflicts, _ = misfit(best)
    if not other_data and not conflicts:
        return best.folder
    fields = [field for field in unlike(best, wanted) if field in fixed]
    told = [f"{key} = {wanted.get(key)!r} ({best.config.get(key)!r} was recorded)" for key in fields]
    told += [f"data = {data} ({best.header.data['name']} was recorded)"] if other_data else []
    names = ", ".join(f"{trace.folder.name} (on {trace.header.data['name']})" for trace in held)
    raise ConfigError(
        f"no shipped recording of Flux is of this run; the closest, {best.folder.name}, is of another: "
        f"{', '.join(told)}. Shipped: {names}. Leave these out, compare with live Flux, or record the run: pygan record"
    )
