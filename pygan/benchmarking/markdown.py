"""A report as a page of documentation, plots beside it. Every number on the page comes from the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan.benchmarking import plots
from pygan.benchmarking.report import is_plain, main_group
from pygan.benchmarking.statistics import median
from pygan.benchmarking.table import group_rows, interval, milliseconds
from pygan.benchmarking.words import CHANGES, DROPPED, TORCH_CHANGES
from pygan.files import write_text


def write_markdown(path: Path, report: Mapping[str, Any]) -> list[Path]:
    """Write the page at ``path`` and its plots into a folder of its name beside it; returns all paths."""
    pictures = plots.write_plots(path.with_suffix(""), report)
    write_text(path, "\n".join(page(report, pictures, path)) + "\n")
    return [path, *pictures]


def page(report: Mapping[str, Any], pictures: Sequence[Path], path: Path) -> Iterator[str]:
    """The page's lines."""
    shown = {picture.stem: f"![{picture.stem}]({path.stem}/{picture.name})" for picture in pictures}
    yield "# Benchmarks"
    yield ""
    yield from _header(report)
    group = main_group(report)
    if group is not None:
        yield ""
        yield "## A training step"
        yield from _picture(shown, "ratios")
        yield from _group(report, group)
        yield from _rows_in_words(group)
    yield from _floor(report, shown)
    yield from _breakdown(report, shown)
    yield from _fast(report)
    yield from _tuned(report)
    yield from _phases(report)
    yield from _series(report, shown)
    yield from _others(report)
    yield from _rules()


def _header(report: Mapping[str, Any]) -> Iterator[str]:
    facts = report["environment"]
    versions: dict[str, str] = {}
    for group in report["groups"]:
        for entry in group["rows"]:
            versions |= entry["versions"]
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "julia", "Flux", "NNlib", "Zygote") if name in versions
    )
    memory = f", {facts['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in facts else ""
    yield (
        f"Made by `pygan bench --report ... --markdown` from a report of {report['started'][:10]}: {facts['cpu']}, "
        f"{facts['cores']} cores{memory}, {facts['platform']}, Python {facts['python']}, {named}. Recipe "
        f"`{report['config']['recipe']}`, batch {report['config']['batch']}, Float32, {report['cores']} cores for "
        f"every row. The run took {report['seconds'] / 60:.0f} minutes"
        + (" and was stopped early." if report["stopped"] else ".")
    )
    yield ""
    yield (
        "No time is shown without a verdict: before a row is timed its first step is held to recorded Flux, to torch "
        "or to the Float64 referee, and the losses of every timed step are held to those of the other keyed rows. "
        f"Ratios are of medians over random rounds, with a {report['settings']['confidence']:.0%} bootstrap interval. "
        "A group whose "
        "control (one row against itself, in two processes) does not straddle 1 is marked noisy."
    )


def _cells(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    header, *lines = rows
    yield ""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "|".join("---" if at == 0 else "--:" for at in range(len(header))) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def _picture(shown: Mapping[str, str], name: str) -> Iterator[str]:
    if name in shown:
        yield ""
        yield shown[name]


def _group(report: Mapping[str, Any], group: Mapping[str, Any]) -> Iterator[str]:
    if group["rows"]:
        yield from _cells(group_rows(report, group))
    yield ""
    for found in group["ratios"]:
        yield f"- `{found['row']}` takes **{interval(found)}** times as long as `{found['against']}`."
    if control := group["control"]:
        yield f"- Control: `{control['row']}` takes {interval(control)} times as long as itself."
    for note in group["notes"]:
        yield f"- **Noisy**: {note}."
    for one in group["refused"]:
        yield f"- `{one['row']}` shows no time; verdict {one['verdict']}: {one['reason']}"
    for one in group["not_run"]:
        yield f"- `{one['row']}` was not run: {one['reason'].splitlines()[0]}"


def _rows_in_words(group: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        "Threads of Flux rows are Julia x BLAS. `first` is the first step of the row's process, compilation included; "
        "GC and allocated are a step's."
    )
    yield ""
    for entry in group["rows"]:
        yield f"- `{entry['row']}`: {entry['about']}. Verdict: {entry['reason']}."


def _floor(report: Mapping[str, Any], shown: Mapping[str, str]) -> Iterator[str]:
    floor = report.get("floor")
    if not floor:
        return
    yield ""
    yield "## The floor"
    yield ""
    yield (
        f"A step needs {floor['gflop']:.1f} GFLOP over valid taps, counted from the recipe itself. At the best rates "
        f"of the same run, {floor['gflop_per_second']:.0f} GFLOP/s ({floor['flop_source']}) and "
        f"{floor['gb_per_second']:.1f} GB/s ({floor['bytes_source']}), each product bound by the slower of the two and "
        f"everything between products taken as free, that is {milliseconds(floor['seconds'])}."
    )
    yield from _picture(shown, "floor")


def _breakdown(report: Mapping[str, Any], shown: Mapping[str, str]) -> Iterator[str]:
    table = report.get("breakdown")
    if not table:
        return
    names = list(table[0]["seconds"])
    yield ""
    yield "## Where the time goes"
    yield ""
    yield (
        "Milliseconds of a step. *alone*: each operation timed by itself on the step's shapes, times its count; "
        "garbage collection as measured inside the timed steps; the rest is the difference to the whole step. "
        "*profile*: torch.profiler's shares of real steps, scaled to the step as timed; it knows a convolution's "
        "gradients as one, which are split as the same operations are alone."
    )
    rows = [["operation", "GFLOP", "floor", *names]]
    for line in table:
        work = [f"{line['gflop']:.1f}" if line["gflop"] else "", milliseconds(line["floor"]) if line["floor"] else ""]
        rows.append([line["line"], *work, *(f"{1e3 * line['seconds'][name]:.1f}" for name in names)])
    total = [f"{1e3 * sum(line['seconds'][name] for line in table):.1f}" for name in names]
    rows.append(["whole step", f"{sum(line['gflop'] for line in table):.1f}", "", *total])
    yield from _cells(rows)
    yield from _picture(shown, "operations")
    yield from _layers(report)


def _layers(report: Mapping[str, Any]) -> Iterator[str]:
    found = sorted(report.get("layers", ()), key=lambda one: -one["flop"] * one["count"])[:12]
    if not found:
        return
    names = list(found[0]["seconds"])
    yield ""
    yield "The products with the most work, once each, alone:"
    rows = [["layer", "pass", "a step", "GFLOP", *names, "floor"]]
    for one in found:
        seconds = [milliseconds(one["seconds"][name]) for name in names]
        work = [str(one["count"]), f"{one['flop'] / 1e9:.2f}", *seconds, milliseconds(one["floor"])]
        rows.append([one["layer"], {"input": "by input", "weight": "by weight"}.get(one["pass"], one["pass"]), *work])
    yield from _cells(rows)


def _fast(report: Mapping[str, Any]) -> Iterator[str]:
    gains = report.get("torch_gains")
    if not gains:
        return
    yield ""
    yield "## The fast step of torch, change by change"
    yield ""
    yield (
        "`torch-tuned` keeps parameters, draws and verdict. In random rounds, each line with all changes above it; "
        "*expected* was written down before it was measured, of a step of 250 ms:"
    )
    rows = [["change", "expected", "step", "against the line above", "kept"]]
    before: float | None = None
    for one in gains:
        what, expected = TORCH_CHANGES[one["changes"][-1]] if one["changes"] else ("none: the idiomatic step", "")
        if "median" not in one:
            rows.append([what, expected, "refused", one["reason"], ""])
            continue
        ratio = f"x {one['median'] / before:.3f}" if before else ""
        rows.append([what, expected, milliseconds(one["median"]), ratio, "yes" if one["changes"] else ""])
        before = float(one["median"])
    yield from _cells(rows)
    yield ""
    yield "Tried when the fast step was written and not kept (November 2026, AMD EPYC, 2 cores, side by side):"
    yield from _cells([["change", "expected", "measured"], *map(list, DROPPED)])


def _tuned(report: Mapping[str, Any]) -> Iterator[str]:
    sweep, gains = report.get("thread_settings"), report.get("gains")
    if not sweep and not gains:
        return
    yield ""
    yield "## What could be gained in Flux"
    if sweep:
        yield ""
        yield "The idiomatic step at every setting of threads, each in a Julia process of its own:"
        rows = [["Julia threads", "BLAS threads", "step"]]
        rows += [[str(one["julia_threads"]), str(one["blas_threads"]), milliseconds(one["median"])] for one in sweep]
        yield from _cells(rows)
    if gains:
        yield ""
        yield (
            "`flux-tuned` keeps the parameters, the draws and the verdict and changes how the step is computed. In "
            "random rounds of one process, each line with all changes above it (and garbage collection on all cores):"
        )
        rows = [["change", "step", "of which GC"]]
        for one in gains:
            name = CHANGES[one["changes"][-1]] if one["changes"] else "none: the idiomatic step"
            times = (
                [milliseconds(one["median"]), milliseconds(one["gc_seconds"])]
                if "median" in one
                else ["refused", one["reason"]]
            )
            rows.append([name, *times])
        yield from _cells(rows)


def _phases(report: Mapping[str, Any]) -> Iterator[str]:
    groups = [group for group in report["groups"] if group["what"] != "step" and group["rows"]]
    if not groups:
        return
    names = list(dict.fromkeys(entry["row"] for group in groups for entry in group["rows"]))
    yield ""
    yield "## Parts of a run"
    rows = [["part", *names, "ratio"]]
    for group in groups:
        medians = {entry["row"]: entry["median"] for entry in group["rows"]}
        found = interval(group["ratios"][0]) if group["ratios"] else "-"
        rows.append(
            [
                group["what"],
                *(milliseconds(medians.get(name)) for name in names),
                found + (" NOISY" if group["noisy"] else ""),
            ]
        )
    yield from _cells(rows)


def _series(report: Mapping[str, Any], shown: Mapping[str, str]) -> Iterator[str]:
    groups = [group for group in report["groups"] if is_plain(group)]
    if len(groups) < 2:
        return
    names = list(dict.fromkeys(entry["row"] for group in groups[1:] for entry in group["rows"]))
    yield ""
    yield "## Other batches and core counts"
    yield from _picture(shown, "series")
    yield ""
    yield "Images a second:"
    rows = [["images a step", "cores", *names, "noisy"]]
    for group in sorted(groups, key=lambda group: (-group["cores"], group["images"])):
        rates = {entry["row"]: group["images"] / median(entry["per_step"]) for entry in group["rows"]}
        cells = [f"{rates[name]:,.0f}" if name in rates else "-" for name in names]
        rows.append([str(group["images"]), str(group["cores"]), *cells, "yes" if group["noisy"] else ""])
    yield from _cells(rows)
    for images, batch in dict.fromkeys((group["images"], group["config"]["batch"]) for group in groups):
        if images < batch:
            yield ""
            yield (
                f"A step on {images} images is the last of an epoch: it makes {batch} fakes all the same, "
                f"and so takes little less time than one on {batch}."
            )
    for one in report["not_run"]:
        yield ""
        yield f"{one['group']} was not run: {one['reason']}"


def _others(report: Mapping[str, Any]) -> Iterator[str]:
    """Groups of another arithmetic, device or instruction set."""
    for group in report["groups"]:
        if group["what"] == "step" and not is_plain(group):
            yield ""
            yield f"## {group['group'][0].upper()}{group['group'][1:]}"
            yield from _group(report, group)
            yield from _rows_in_words(group)


def _rules() -> Iterator[str]:
    yield ""
    yield "## How it was measured"
    yield ""
    yield from (
        "- Every row runs in a process of its own; while one is timed, the others are stopped (SIGSTOP), and the",
        "  processor time that they used meanwhile is checked. A round samples every row once, in a new random order.",
        "- Steps are timed inside the stack, on a fresh run of the same first steps each time; what the bridge to",
        "  Julia costs is measured apart (`benchmarks/test_bridge.py`).",
        "- Thread counts are set before, and asserted after; each row may use the same cores (processor affinity).",
        "- Garbage collection is part of the time and shown; in `flux-tuned` it is placed at the end of each step,",
        "  still inside the time.",
        "- Peak memory is that of a process tree that only trains, from its start on (interpreters, libraries and data",
        "  included; of Flux also its compiler and its Python client); the timed processes also hold a judged step's.",
        "- `pygan bench --against old.json` takes each row's median over that of the older report, with a 95%",
        "  interval. The interval alone decides: above 1 + `--max-slowdown` the row is slower (exit code 1), below it",
        "  is not slower (0), where it holds that limit the reports cannot tell (3). A group marked noisy is decided",
        "  too, and says so.",
    )
