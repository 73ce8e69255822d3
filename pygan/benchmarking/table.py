"""A report as text: one table a group, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pygan.benchmarking.report import is_plain


def milliseconds(seconds: float | None) -> str:
    """``251 ms``, with three figures."""
    if seconds is None:
        return "-"
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def megabytes(count: float) -> str:
    """``1,204 MB``; ``-`` for none."""
    return f"{count / 1e6:,.0f} MB" if count else "-"


def interval(found: Mapping[str, Any]) -> str:
    """``3.210 (3.184 to 3.251)``."""
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def threads(entry: Mapping[str, Any]) -> str:
    """``2``, or ``1 x 2`` for Julia and BLAS threads."""
    counts = entry["threads"]
    if "torch_threads" in counts:
        return str(counts["torch_threads"])
    return f"{counts['julia_threads']} x {counts['blas_threads']}"


def share_of_floor(report: Mapping[str, Any], group: Mapping[str, Any], entry: Mapping[str, Any]) -> float | None:
    """The floor's seconds over the row's, where this group's floor is known."""
    floor = report.get("floor")
    same = is_plain(group) and group["cores"] == report["cores"]
    if not floor or not same or group["images"] != report["config"]["batch"]:
        return None
    return float(floor["seconds"]) / float(entry["median"])


def group_rows(report: Mapping[str, Any], group: Mapping[str, Any]) -> list[list[str]]:
    """Header and lines of a group's table."""
    step = group["what"] == "step"
    header = ["row", "threads", "time", "verdict"]
    if step:
        header[3:3] = ["images/s", "share of the floor", "first", "GC", "allocated", "peak memory"]
    lines = [header]
    for entry in group["rows"]:
        line = [entry["row"], threads(entry), milliseconds(entry["median"])]
        if step:
            share = share_of_floor(report, group, entry)
            line += [f"{group['images'] / entry['median']:,.0f}", "-" if share is None else f"{share:.0%}"]
            line += [milliseconds(entry["warmup"].get("first_step")), milliseconds(entry["gc_seconds_per_step"])]
            line += [megabytes(entry["allocated_bytes_per_step"]), megabytes(entry["peak_bytes"])]
        lines.append([*line, entry["verdict"]])
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            f"{cell:{'<' if at == 0 else '>'}{width}}" for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *rest)).rstrip()


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The whole report."""
    for group in report["groups"]:
        yield f"{group['group']}" + ("  [NOISY]" if group["noisy"] else "")
        if group["rows"]:
            yield from (f"  {line}" for line in aligned(group_rows(report, group)))
        for found in group["ratios"]:
            yield f"  {found['row']} takes {interval(found)} times as long as {found['against']}"
        if control := group["control"]:
            yield f"  control: {control['row']} takes {interval(control)} times as long as itself"
        yield from (f"  note: {note}" for note in group["notes"])
        for entry in group["rows"]:
            if fault := entry.get("peak_fault"):
                yield f"  {entry['row']}: peak memory not known: {fault.splitlines()[0]}"
        for one in group["refused"]:
            yield f"  {one['row']}: no time, verdict {one['verdict']}: {one['reason']}"
        for one in group["not_run"]:
            yield f"  {one['row']}: not run: {one['reason'].splitlines()[0]}"
        yield ""
    for one in report["not_run"]:
        yield f"{one['group']}: not run: {one['reason']}"
    if floor := report.get("floor"):
        yield (
            f"floor: {floor['gflop']:.1f} GFLOP take at least {milliseconds(floor['seconds'])} at "
            f"{floor['gflop_per_second']:.0f} GFLOP/s ({floor['flop_source']}) and {floor['gb_per_second']:.1f} GB/s"
        )
    if report["stopped"]:
        yield "stopped before everything was measured"
