"""Curves of two trainings: their losses, and how far their pictures lie apart. Matplotlib is loaded on first use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pygan.files import atomic_path
from pygan.pictures.grid import PictureError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = tuple[ArrayLike, ArrayLike]
"""Steps ``(n,)`` and the values ``(n,)`` at them."""
_Curve = tuple[np.ndarray, np.ndarray]

COLOURS = ("#2563a8", "#d9722e", "#3b8f5a", "#7a56a6", "#a83f57", "#6b6b6b")


def loss_plot(
    path: str | os.PathLike[str],
    left: Mapping[str, Series],
    right: Mapping[str, Series],
    labels: tuple[str, str],
) -> None:
    """PNG of both stacks' losses over steps, and below it their absolute difference on a logarithmic axis.

    ``left``, ``right``: a series by loss name (discriminator, generator). ``labels``: the stacks' titles. Differences
    of exactly 0 have no place on a logarithmic axis; they are marked on its lower edge and counted in the legend. Steps
    that only one side has, and values that are not finite, leave gaps.
    Raises ``PictureError`` on a series whose steps and values differ in length, ``OutputError`` if not writable.
    """
    one = {name: _series(name, series) for name, series in left.items()}
    other = {name: _series(name, series) for name, series in right.items()}
    names = list(dict.fromkeys([*one, *other]))
    figure = _figure(6.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        for side, label, width, alpha in ((one, labels[0], 3.2, 0.35), (other, labels[1], 1.0, 1.0)):
            if name in side:
                look = {"color": colour, "linewidth": width, "alpha": alpha, **_markers(side[name])}
                upper.plot(*side[name], label=f"{name}, {label}", **look)
    differences = {name: _difference(one[name], other[name]) for name in names if name in one and name in other}
    own_colours = [COLOURS[names.index(name) % len(COLOURS)] for name in differences]
    _log_curves(lower, differences, own_colours)
    upper.set_ylabel("loss")
    lower.set_ylabel("|difference|")
    lower.set_xlabel("step")
    for axes in (upper, lower):
        _dress(axes, 3)
    _save(figure, path)


def divergence_plot(path: str | os.PathLike[str], steps: ArrayLike, values: Mapping[str, ArrayLike]) -> None:
    """PNG of the pictures' relative difference over steps, on a logarithmic axis.

    ``steps``: ``(n,)``; ``values``: ``(n,)`` by name. Zeros, gaps and errors as for :func:`loss_plot`.
    """
    curves = {name: _series(name, (steps, value)) for name, value in values.items()}
    figure = _figure(4.8)
    axes = figure.subplots()
    _log_curves(axes, curves, COLOURS)
    axes.set_ylabel("relative difference of the pictures")
    axes.set_xlabel("step")
    _dress(axes, 4)
    _save(figure, path)


def losses_of_runs_plot(path: str | os.PathLike[str], runs: Mapping[str, Mapping[str, Series]]) -> None:
    """PNG of losses over steps: a panel for each loss, a colour for each run.

    ``runs``: by label, then by loss name. Values that are not finite leave gaps. Raises as :func:`loss_plot`.
    """
    names = list(dict.fromkeys(name for losses in runs.values() for name in losses))
    figure = _figure(0.8 + 2.9 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        for (label, losses), colour in zip(runs.items(), itertools.cycle(COLOURS), strict=False):
            if name in losses:
                curve = _series(name, losses[name])
                axes.plot(*curve, color=colour, linewidth=1.1, alpha=0.8, label=_text(label), **_markers(curve))
        axes.set_ylabel(_text(f"loss of {name}"))
        _dress(axes, 1)
    panels[-1].set_xlabel("step")
    _save(figure, path)


def _text(label: str) -> str:
    """A label that is drawn as it is: no formula between dollar signs, no letter that the font lacks."""
    return label.encode("ascii", "replace").decode().replace("$", r"\$")


def _series(name: str, series: Series) -> _Curve:
    """Steps and values as Float64 in order of steps; infinities become gaps."""
    steps, values = (np.asarray(part, np.float64) for part in series)
    if steps.ndim != 1 or steps.shape != values.shape:
        raise PictureError(f"{name}: {values.shape} values at {steps.shape} steps; expected as many as steps, (n,)")
    order = np.argsort(steps, kind="stable")
    values = values[order]
    return steps[order], np.where(np.isfinite(values), values, np.nan)


def _difference(one: _Curve, other: _Curve) -> _Curve:
    """Absolute difference at the steps that both have."""
    steps, first, second = np.intersect1d(one[0], other[0], return_indices=True)
    return steps, np.abs(one[1][first] - other[1][second])


def _markers(series: _Curve) -> dict[str, Any]:
    """Dots for series so short that a line hides where they were measured."""
    return {"marker": "o", "markersize": 3} if len(series[0]) <= 40 else {}


def _log_curves(axes: Axes, curves: Mapping[str, _Curve], colours: Sequence[str]) -> None:
    """Positive values as lines; zeros as ticks on the lower edge, counted in the legend."""
    if not any(np.isfinite(value).any() for _, value in curves.values()):
        axes.text(0.5, 0.5, "no step that both stacks recorded", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    positive = np.concatenate([value[value > 0] for _, value in curves.values()])
    low, high = (positive.min() / 3, positive.max() * 3) if positive.size else (1e-9, 1e-6)
    axes.set_ylim(min(low, high / 1e3), high)
    for (name, (steps, value)), colour in zip(curves.items(), itertools.cycle(colours), strict=False):
        zero = value == 0
        label = f"{name} ({int(zero.sum()):,} of {len(value):,} exactly 0)" if zero.any() else name
        curve = (steps, np.where(value > 0, value, np.nan))
        axes.plot(*curve, color=colour, linewidth=1.2, label=label, **_markers(curve))
        if zero.any():
            edge = np.zeros(int(zero.sum()))
            axes.plot(
                steps[zero], edge, "|", color=colour, markersize=9, clip_on=False, transform=axes.get_xaxis_transform()
            )


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    return Figure(figsize=(9.2, height), dpi=120, layout=layout, facecolor="white")


def _dress(axes: Axes, columns: int) -> None:
    """Light grid, no box, whole steps, a legend above in so many columns."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.grid(True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9a9a9a")
    axes.tick_params(colors="#444444", labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if axes.get_legend_handles_labels()[0]:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0.2}
        axes.legend(frameon=False, fontsize=8.5, ncols=columns, handlelength=1.8, columnspacing=1.6, **place)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


__all__ = ["Series", "divergence_plot", "loss_plot", "losses_of_runs_plot"]
