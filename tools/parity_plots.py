"""The plots of ``docs/parity.md``: kink flips of an epoch, and how far free runs part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from pygan.files import atomic_path
from pygan.parity.bands import FORWARD_NOISE, picture_band, tensor_bands

KINDS = {
    "parameter": ("parameters", "#2563a8"),
    "exp_avg": ("first moments", "#3b8f5a"),
    "exp_avg_sq": ("second moments", "#7a56a6"),
    "buffer": ("BatchNorm statistics", "#d9722e"),
}
WORST, LIMIT = "#a3123a", "#444444"
FLOOR = 1e-8
"""Differences below it (Float32 rounding of one value) are drawn on the lower edge."""


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _steps_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("steps taken")


def histogram(kinks: Sequence[Mapping[str, Any]], path: Path) -> None:
    """PNG: how far from zero the flipped units lay, one entry a layer and step (its furthest unit)."""
    values = np.array([one["largest"] for one in kinks if one["largest"] is not None])
    low = min(float(values[values > 0].min(initial=FORWARD_NOISE)), FORWARD_NOISE) / 2
    high = max(float(values.max(initial=0.0)), FORWARD_NOISE) * 2
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.hist(np.maximum(values, low), bins=list(np.geomspace(low, high, 41)), color="#2563a8", edgecolor="white")
    axes.axvline(FORWARD_NOISE, color=WORST, linewidth=1.6, label=f"admitted: {FORWARD_NOISE:.0e}")
    axes.set_xscale("log")
    axes.set_xlabel("largest input of a flipped unit, over the layer's root mean square")
    axes.set_ylabel("layers at steps")
    axes.margins(y=0.15)
    axes.legend(frameon=False, loc="upper left")
    _dress(axes, "Units whose relu or leaky relu had another sign: how far from zero")
    save(figure, path)


def worst_tensor(curves: Mapping[str, Any], network: str, config: Mapping[str, Any]) -> tuple[str, float] | None:
    """Key of the network's state tensor that comes closest to its band, and its share of it; without bands, the one
    that differs most, and its relative difference. None where no tensor has a number."""
    bands = tensor_bands(config) if config["dtype"] == "float32" else None
    shares = []
    for key, curve in curves.items():
        if _network(key) != network:
            continue
        for step, value in zip(curve["steps"], curve["relative"], strict=True):
            if value is None or (bands is not None and (key not in bands.floor or step > bands.horizon)):
                continue
            shares.append((value / bands.at(key, step) if bands else value, key))
    if not shares:
        return None
    share, key = max(shares)
    return key, share


def _network(key: str) -> str:
    """Network of a state tensor's key; empty for anything else."""
    return key.rpartition("/")[2].partition(".")[0] if key.startswith("state/") else ""


def _points(curve: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Steps counted from 1 and values, on the plot's lower edge where they are smaller."""
    pairs = [(s + 1, max(v, FLOOR)) for s, v in zip(curve["steps"], curve["relative"], strict=True) if v is not None]
    return np.array([s for s, _ in pairs]), np.array([v for _, v in pairs])


def free_tensors(report: Mapping[str, Any], path: Path) -> None:
    """PNG: every tensor's relative difference over the steps of two free runs, a panel a network, the worst marked."""
    curves, config = report["curves"], report["config"]
    networks = sorted({network for key in curves if (network := _network(key))})
    bands = tensor_bands(config) if config["dtype"] == "float32" else None
    figure = Figure(figsize=(5.2 * len(networks) + 0.4, 5.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(networks), sharey=True))
    for axes, network in zip(panels, networks, strict=True):
        worst = worst_tensor(curves, network, config)
        for key, curve in curves.items():
            if _network(key) == network:
                colour = KINDS[key.split("/")[1]][1]
                axes.plot(*_points(curve), color=colour, linewidth=0.8, alpha=0.6, marker=".", markersize=3)
        if worst is not None:
            key = worst[0]
            name = key.removeprefix("state/").replace(f"{network}.", "")
            axes.plot(*_points(curves[key]), color=WORST, linewidth=2.2)
            lines = [Line2D([], [], color=WORST, linewidth=2.2)]
            labels = [f"{'closest to its band' if bands else 'largest'}: {name}"]
            if bands is not None:
                steps = np.arange(bands.horizon + 1)
                admitted = [bands.at(key, int(step)) for step in steps]
                (line,) = axes.plot(steps + 1, admitted, color=WORST, linewidth=1.4, linestyle="--")
                lines, labels = [*lines, line], [*labels, f"its band: {bands.factor:g} × measured spread"]
            axes.legend(lines, labels, frameon=False, loc="upper left", fontsize=8.5)
        _steps_axis(axes)
        axes.set_yscale("log")
        _dress(axes, network)
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low, high * 20)  # room for the legends
    panels[0].set_ylabel("relative difference of a tensor")
    handles = [Line2D([], [], color=colour, linewidth=2) for _, colour in KINDS.values()]
    figure.legend(handles, [label for label, _ in KINDS.values()], loc="outside lower center", ncols=4, frameon=False)
    title = f"{report['candidate']} against {report['reference']}, {config['dtype']}, each on its own way"
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def free_pictures(report: Mapping[str, Any], path: Path) -> None:
    """PNG: relative difference of the pictures that both free runs draw, and what is admitted."""
    steps, values = _points(report["curves"]["pictures"])
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, color="#2563a8", linewidth=1.8, marker="o", markersize=4, label="measured")
    band = picture_band(report["config"]) if report["config"]["dtype"] == "float32" else None
    if band is not None:
        within = np.arange(band.horizon + 1)
        admitted = [band.at(int(step)) for step in within]
        told = f"admitted: {band.factor:g} × spread of one stack's own runs"
        axes.plot(within + 1, admitted, color=LIMIT, linestyle="--", linewidth=1.4, label=told)
        axes.axvline(band.horizon + 1, color=LIMIT, linestyle=":", linewidth=1.2, label=f"horizon: step {band.horizon}")
    _steps_axis(axes)
    axes.set_yscale("log")
    axes.set_ylabel("relative difference of the pictures")
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    _dress(axes, "Pictures of two free runs from the same noise")
    save(figure, path)
