"""Plots of a report: ratios with their intervals, shares of the floor, where the time goes, images a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygan.benchmarking.report import entries, is_plain, main_group
from pygan.benchmarking.table import share_of_floor
from pygan.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "torch-eager": "#7fb0d9",
    "torch-eager-injected": "#2563a8",
    "torch-tuned": "#7a56a6",
    "torch-tuned-bf16": "#a98cc7",
    "torch-graph-cuda": "#7a56a6",
    "flux-native": "#f0b184",
    "flux": "#d9722e",
    "flux-threaded": "#b0531a",
    "flux-tuned": "#3b8f5a",
    "torch-eager-cuda": "#2563a8",
    "flux-cuda": "#d9722e",
}
LINE_COLOURS = (
    "#2563a8", "#4d86bf", "#7fb0d9", "#b5d1ea", "#7a56a6", "#a98cc7",
    "#d9722e", "#f0b184", "#3b8f5a", "#a83f57", "#c9c9c9",
)  # fmt: skip


def write_plots(folder: Path, report: Mapping[str, Any], prefix: str = "") -> list[Path]:
    """Write the plots that the report has numbers for; returns their paths."""
    drawn = {"ratios": ratios, "floor": floor_shares, "operations": operations, "series": series}
    paths = []
    for name, draw in drawn.items():
        path = folder / f"{prefix}{name}.png"
        if draw(path, report):
            paths.append(path)
    return paths


def ratios(path: Path, report: Mapping[str, Any]) -> bool:
    """Bars: how many times as long each row takes as another, with the interval of each ratio."""
    group = main_group(report)
    if group is None or not group["ratios"]:
        return False
    found = group["ratios"][::-1]
    figure = _figure(1.4 + 0.5 * len(found))
    axes = figure.subplots()
    for at, one in enumerate(found):
        low, high = one["value"] - one["low"], one["high"] - one["value"]
        colour = COLOURS.get(one["row"], "#6b6b6b")
        axes.barh(at, one["value"], xerr=[[low], [high]], color=colour, height=0.62, capsize=3, ecolor="#222222")
        axes.text(
            one["high"], at, f"  {one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})", va="center", fontsize=9
        )
    axes.set_yticks(range(len(found)), [f"{one['row']} / {one['against']}" for one in found])
    axes.set_xlim(0, 1.32 * max(one["high"] for one in found))
    axes.axvline(1, color="#444444", linewidth=1)
    control = group["control"]
    if control:
        axes.axvspan(control["low"], control["high"], color="#444444", alpha=0.15, linewidth=0)
    noisy = ", NOISY" if group["noisy"] else ""
    axes.set_xlabel(
        "time of a step, ratio of medians with its 95 % interval"
        + ("; grey: the control against itself" if control else "")
    )
    axes.set_title(f"{group['group']}, {group['cores']} cores{noisy}", loc="left", fontsize=10)
    return _saved(figure, axes, path)


def floor_shares(path: Path, report: Mapping[str, Any]) -> bool:
    """Bars: the share of the floor that each row reaches."""
    found = [
        (entry["row"], share)
        for group, entry in entries(report)
        if (share := share_of_floor(report, group, entry)) is not None
    ][::-1]
    if not found:
        return False
    figure = _figure(1.4 + 0.42 * len(found))
    axes = figure.subplots()
    for at, (row, share) in enumerate(found):
        axes.barh(at, 100 * share, color=COLOURS.get(row, "#6b6b6b"), height=0.62)
        axes.text(100 * share, at, f"  {share:.0%}", va="center", fontsize=9)
    axes.set_yticks(range(len(found)), [row for row, _ in found])
    axes.set_xlim(0, 100)
    floor = report["floor"]
    axes.set_xlabel("% of the floor")
    axes.set_title(
        f"the floor: {floor['gflop']:.1f} GFLOP in {1e3 * floor['seconds']:.0f} ms, at "
        f"{floor['gflop_per_second']:.0f} GFLOP/s and {floor['gb_per_second']:.1f} GB/s", loc="left", fontsize=10,
    )  # fmt: skip
    return _saved(figure, axes, path)


def operations(path: Path, report: Mapping[str, Any]) -> bool:
    """Stacked bars: the milliseconds of a step by kind of operation in each column of the breakdown."""
    table = report.get("breakdown")
    if not table:
        return False
    names = list(table[0]["seconds"])[::-1]
    figure = _figure(2.4 + 0.55 * len(names))
    axes = figure.subplots()
    starts = dict.fromkeys(names, 0.0)
    for line, colour in zip(table, LINE_COLOURS, strict=True):
        widths = [max(0.0, 1e3 * line["seconds"][name]) for name in names]
        axes.barh(
            range(len(names)),
            widths,
            left=[starts[name] for name in names],
            color=colour,
            label=line["line"],
            height=0.6,
        )
        for name, width in zip(names, widths, strict=True):
            starts[name] += width
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("ms of a step (a negative rest, where parts alone take longer than the step, is left out)")
    axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return _saved(figure, axes, path)


def series(path: Path, report: Mapping[str, Any]) -> bool:
    """Lines: images a second over images a step, and over cores."""
    by_images: dict[str, list[tuple[int, float]]] = {}
    by_cores: dict[str, list[tuple[int, float]]] = {}
    for group, entry in entries(report):
        if not is_plain(group):
            continue
        rate = group["images"] / entry["median"]
        if group["cores"] == report["cores"]:
            by_images.setdefault(entry["row"], []).append((group["images"], rate))
        if group["images"] == report["config"]["batch"]:
            by_cores.setdefault(entry["row"], []).append((group["cores"], rate))
    sides = [
        (label, {row: sorted(points) for row, points in one.items() if len(points) > 1})
        for label, one in (("images a step", by_images), ("cores", by_cores))
    ]
    sides = [(label, one) for label, one in sides if one]
    if not sides:
        return False
    figure = _figure(4.4)
    drawn = figure.subplots(1, len(sides), squeeze=False)[0]
    for axes, (label, one) in zip(drawn, sides, strict=True):
        for row, points in one.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=COLOURS.get(row), label=row)
        ticks = sorted({at for points in one.values() for at, _ in points})
        if label != "cores":
            axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel("images a second")
        axes.legend(frameon=False, fontsize=8.5)
        _dress(axes)
    return _saved(figure, None, path)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(
        figsize=(9.2, height), dpi=120, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1), facecolor="white"
    )


def _dress(axes: Axes) -> None:
    axes.grid(True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9a9a9a")
    axes.tick_params(colors="#444444", labelsize=9)


def _saved(figure: Figure, axes: Axes | None, path: Path) -> bool:
    if axes is not None:
        _dress(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True
