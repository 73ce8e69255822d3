"""The plots of ``docs/parity.md``: how far two free Float64 runs part, and how far the referee parts from itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from parity_free import PICTURES, FreeRun

from pygan.files import atomic_path
from pygan.parity.free import RUNS
from pygan.parity.tolerances import FREE_FACTOR

GREY, BLACK, WORST = "#bdbdbd", "#222222", ("#a3123a", "#d9722e", "#2563a8")
LOWEST = 1e-17
"""Smaller differences, such as none, are drawn here."""


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _line(axes: Axes, points: Mapping[int, float], colour: str, label: str = "", **how: Any) -> None:
    """Values over steps taken, counted from 1."""
    values = [max(points[step], LOWEST) for step in sorted(points)]
    axes.plot(np.array(sorted(points)) + 1, values, color=colour, label=label or None, **{"linewidth": 1.8, **how})


def _held(axes: Axes, run: FreeRun, key: str, whose: str) -> None:
    """The referee's separation and the limit made from it."""
    _line(axes, run.separation(key), BLACK, f"referee's separation ({RUNS} runs){whose}", linestyle="--")
    _line(axes, run.limit(key), BLACK, f"limit: {FREE_FACTOR:g} × separation{whose}", linestyle=":")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("steps taken")
    axes.grid(True, which="major", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=8)


def free_run(run: FreeRun, path: Path) -> None:
    """PNG: a panel a network with every tensor's relative difference, those closest to their limit named; and one with
    the pictures."""
    figure = Figure(figsize=(4.8 * (len(run.networks) + 1), 5.2), layout="constrained")
    *panels, last = np.atleast_1d(figure.subplots(1, len(run.networks) + 1, sharey=True))
    for axes, (network, keys) in zip(panels, run.networks.items(), strict=True):
        for key in keys:
            _line(axes, run.curve(key), GREY, linewidth=0.8)
        worst = [one.key for one in run.worst(keys)[: len(WORST)]]
        for place, key in enumerate(worst):
            name = key.removeprefix("state/").replace(f"{network}.", "")
            _line(axes, run.curve(key), WORST[place], name, zorder=9 - place)
        if worst:
            _held(axes, run, worst[0], ", of the first" if len(worst) > 1 else "")
        _dress(axes, f"{network}: {len(keys)} tensors")
    _line(last, run.curve(PICTURES), WORST[2], "pictures from the same noise")
    _held(last, run, PICTURES, "")
    _dress(last, "pictures")
    low, high = last.get_ylim()
    last.set_ylim(low, high * 10 ** (0.35 * np.log10(high / low)))  # room for the legends
    figure.axes[0].set_ylabel("relative difference")
    save(figure, path)
