"""Finished runs side by side: what was different about them, and what came of it. Nothing is judged."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pygan.comparison.runs import FinishedRun
from pygan.comparison.states import StateDistance, state_distance
from pygan.files import finite
from pygan.parity.compare import norm


@dataclass(frozen=True)
class Extent:
    """How much of a run the others have too; ``first``: the compared steps are its first ones."""

    steps: int
    of_steps: int | None
    first: bool
    pictures: int
    of_pictures: int


@dataclass(frozen=True)
class Curve:
    """A loss at the first and last compared step, and its median over them; ``end`` is that of the run's own last step.
    The ``not_finite`` values are left out of the median."""

    first: float
    median: float
    last: float
    end: float
    not_finite: int


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown of ``runs``; other tuples have an entry for each.

    ``config``: fields that differ, None where a run has no such field. ``losses``: by name, over ``steps``, which are
    those that all runs with losses have; without any, each run is taken over its own. ``states``: from the first run's.
    ``drawn``: steps done at the last pictures that all runs with pictures drew; ``pictures``: relative difference of
    these from the first run's, None where a run has none or they do not fit.
    """

    runs: tuple[FinishedRun, ...]
    labels: tuple[str, ...]
    config: Mapping[str, tuple[Any, ...]]
    equal_fields: int
    steps: tuple[int, ...]
    extents: tuple[Extent, ...]
    losses: Mapping[str, tuple[Curve | None, ...]]
    states: tuple[StateDistance, ...]
    drawn: int | None
    pictures: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: None for what was not recorded or is not finite."""
        told = [
            {
                "label": label, "run": run.name, "stack": run.stack or None, "machine": run.machine or None,
                "data": run.data or None, "config": run.config or None, "steps": run.steps,
                "compared": asdict(extent), "last_picture_after": run.last_drawn,
                "seconds_a_step": run.seconds_a_step, "state_from_first": asdict(state), "notes": run.notes,
            }
            for label, run, extent, state in zip(self.labels, self.runs, self.extents, self.states, strict=True)
        ]  # fmt: skip
        return finite(  # type: ignore[no-any-return]
            {
                "schema": 1,
                "runs": told,
                "config_differs": dict(self.config),
                "losses": {name: [curve and asdict(curve) for curve in curves] for name, curves in self.losses.items()},
                "pictures": {"after": self.drawn, "relative_from_first": self.pictures},
            }
        )


def compare(runs: Sequence[FinishedRun]) -> Comparison:
    """Set ``runs`` side by side. They may differ in anything."""
    known = [run.config for run in runs if run.config]
    fields = list(dict.fromkeys(name for config in known for name in config))
    differing = [name for name in fields if any(config.get(name) != known[0].get(name) for config in known)]
    steps = tuple(sorted(_shared([run.loss_steps for run in runs])))
    drawn = _shared([{done for done, _ in run.pictures} for run in runs])
    names = dict.fromkeys(name for run in runs for name in run.losses)
    at = max(drawn, default=None)
    return Comparison(
        tuple(runs),
        tuple(string.ascii_uppercase[: len(runs)]),
        {name: tuple(run.config.get(name) for run in runs) for name in differing},
        len(fields) - len(differing),
        steps,
        tuple(_extent(run, steps, drawn) for run in runs),
        {name: tuple(_curve(run.losses.get(name, {}), steps) for run in runs) for name in names},
        tuple(state_distance(runs[0], run) for run in runs),
        at,
        tuple(_apart(runs[0].drawn(at), run.drawn(at)) for run in runs),
    )


def _shared(each: Sequence[set[int]]) -> set[int]:
    """What all have that have anything; nothing where no two have."""
    held = [one for one in each if one]
    return set.intersection(*held) if len(held) > 1 else set()


def _extent(run: FinishedRun, steps: tuple[int, ...], drawn: set[int]) -> Extent:
    mine = [step for step in steps if step in run.loss_steps]
    pictures = sum(done in drawn for done, _ in run.pictures)
    return Extent(len(mine), run.steps, mine == list(range(len(mine))), pictures, len(run.pictures))


def _curve(values: Mapping[int, float], steps: tuple[int, ...]) -> Curve | None:
    if not values:
        return None
    shown = np.array([values[step] for step in steps or sorted(values) if step in values])
    if not shown.size:
        return None
    sound = shown[np.isfinite(shown)]
    median = float(np.median(sound)) if sound.size else float("nan")
    return Curve(float(shown[0]), median, float(shown[-1]), float(values[max(values)]), int(shown.size - sound.size))


def _apart(one: np.ndarray | None, other: np.ndarray | None) -> float | None:
    """2-norm of the difference of two pictures in [-1, 1] over that of the first."""
    if one is None or other is None or one.shape != other.shape:
        return None
    a, b = (picture / 127.5 - 1 for picture in (one, other))
    return norm(b - a) / norm(a)
