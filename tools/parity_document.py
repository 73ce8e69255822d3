"""Write ``docs/parity.md`` and its plots from the JSON files in ``docs/results/``; run nothing, measure nothing.

Every number in the text comes from those files or from the committed floors and bands. A file that is not there leaves
a section that names the command which makes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parity_plots as plots
from parity_rows import merged, number, rows_table
from parity_sections import cost_section, example_section, flips_text, free_text, machine, planted_section

from pygan.files import write_bytes
from pygan.parity.bands import FLOAT64_RELATIVE, REFEREE_FACTOR
from pygan.parity.judge import REFERENCE_FLOORS

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "docs" / "results", ROOT / "docs" / "parity.md"

HEAD = """\
# Parity: what was compared, and how closely it agrees

Made by `make docs` from the JSON files in [results/](results). Do not edit: a test holds this text to those files.
"""

LEVELS = f"""\
## What each level shows

| level | in plain words | held to |
|---|---|---|
| 1 shapes, counts, names, dtypes, modes | Both runs have the same tensors, and at every call the same layers in the \
same order, in train or eval mode alike. | equal |
| 2 laws of the native initialisers | Left to its own random numbers, each stack draws initial weights, dropout and \
noise from the published laws. | Kolmogorov-Smirnov and moments |
| 3 forward, layer by layer | The output of every layer at every call, in both modes. | one step |
| 4 logits and losses | What the discriminator says, and the two numbers that are minimised. | one step |
| 5 gradients | Of the loss with respect to every layer's output and every parameter. | one step |
| 6 moments, parameters, buffers after the step | What the optimisers and BatchNorm leave behind. | one step |
| 7 teacher-forced steps | All of that at every step, each started from the reference's state, so that no difference \
grows. Units whose relu had another sign are counted. | one step |
| 8 free run | Both runs on their own ways: how fast do they part? | bands over steps |
| 9 pictures | What the generators draw, from the same state and after free runs. | bands over steps |
| 10 learning gate | Every network that should train did. Two runs can agree on a network that never moves. | moved |

**One step** means: in Float64 a relative norm of {FLOAT64_RELATIVE:.0e}, or for a gradient that cancels a stated \
absolute one. In Float32 the referee judges, the same step in Float64 with the same constants and on/off patterns: a \
run may be {REFEREE_FACTOR:g} times as far from it as the other, or as far as the stated floor; a reference that is \
itself over {REFERENCE_FLOORS:g} floors away excuses nothing.

How to read a row: *measured* is what came closest to its limit, *admitted* is that limit with its reason below the \
table, *floor* is the committed noise floor of that tensor where one was measured, *would pass* is the smallest \
relative tolerance between the two runs that every tensor of the claim would pass, *where* is the tensor and the step.
"""


@dataclass(frozen=True)
class Section:
    """One section: its file in ``docs/results``, the command that makes it, and what it says of the file."""

    title: str
    file: str
    command: str
    text: Callable[[Mapping[str, Any], Path], str]

    def render(self, results: Path) -> str:
        """The section, or that it was not measured yet."""
        path = results / self.file
        if not path.is_file():
            return f"## {self.title}\n\nNot measured yet. The command:\n\n```sh\n{self.command}\n```\n"
        stored = json.loads(path.read_text(encoding="utf-8"))
        made = stored.get("command", self.command)
        note = f"{stored['note']}\n\n" if "note" in stored else ""
        return f"## {self.title}\n\n```sh\n{made}\n```\n\n{note}{self.text(stored, results)}"


def steps_text(stored: Mapping[str, Any], results: Path) -> str:
    """The rows of one or more seeds."""
    return f"{summary(stored)}\n\n{rows_table(merged(stored['reports']), stored['reports'][0]['config'])}"


def summary(stored: Mapping[str, Any]) -> str:
    """Verdict, who against whom, and on what machine."""
    reports = stored["reports"]
    first = reports[0]
    verdicts = sorted({report["verdict"] for report in reports})
    seeds = [report["config"]["seed"] for report in reports]
    runs = f"{len(reports)} seeds ({seeds[0]} to {seeds[-1]})" if len(reports) > 1 else f"seed {seeds[0]}"
    config = first["config"]
    sizes = f"width {config['width']}, batch {config['batch']}" if "width" in config else f"batch {config['batch']}"
    minima = [report["minimum_tolerance"] for report in reports]
    least = "" if None in minima else f" Smallest relative tolerance that passes every step: {number(max(minima))}."
    steps = int(max(report["seconds"].get("steps", 0) for report in reports))
    return (
        f"**{', '.join(verdicts)}**: {first['candidate']} against {first['reference']}, {config['recipe']}, "
        f"{config['dtype']}, {sizes}, {runs}, {steps} steps.{least}\n\n{machine(first)}"
    )


def epoch_text(stored: Mapping[str, Any], results: Path) -> str:
    """The rows of a whole epoch, its seconds and its kink flips."""
    report = stored["reports"][0]
    spent = report["seconds"]
    took = sum(spent[part] for part in ("lead", "follow", "judge"))
    seconds = f"The {spent['steps']:.0f} compared steps took {took:,.0f} s."
    return f"{steps_text(stored, results)}\n{seconds}\n\n{flips_text(report)}"


def free_run_text(stored: Mapping[str, Any], results: Path) -> str:
    """The rows of a free run and its curves."""
    return f"{steps_text(stored, results)}\n{free_text(stored['reports'][0])}"


def planted_text(stored: Mapping[str, Any], results: Path) -> str:
    """The score of planted bugs."""
    return planted_section(stored)


def example_text(stored: Mapping[str, Any], results: Path) -> str:
    """One planted bug, read aloud."""
    return example_section(stored)


def _into(name: str) -> str:
    return f"-o docs/results/{name}"


EPOCH, FREE, EXAMPLE = "parity-epoch.json", "parity-free-run.json", "parity-example.json"
NARROW64, NARROW32, FULL64 = "parity-narrow-float64.json", "parity-narrow-float32.json", "parity-full-float64.json"
SECTIONS = (
    Section("Narrow twin, Float64, live Flux", NARROW64, f"pygan parity torch flux {_into(NARROW64)}", steps_text),
    Section(
        "Narrow twin, Float32, live Flux",
        NARROW32,
        f"pygan parity torch flux --dtype float32 {_into(NARROW32)}",
        steps_text,
    ),
    Section(
        "Published sizes, Float64, live Flux",
        FULL64,
        f"pygan parity torch flux --full --steps 2 --levels 1-7,9 --threads 2 {_into(FULL64)}",
        steps_text,
    ),
    Section(
        "Every step of an epoch of MNIST, Float32, published sizes",
        EPOCH,
        "pygan parity torch flux --full --dtype float32 --levels 1,3-7,9,10 --steps 469 --data mnist --threads 2 "
        + _into(EPOCH),
        epoch_text,
    ),
    Section(
        "Free runs, Float32, published sizes",
        FREE,
        "pygan parity torch recorded --full --dtype float32 --levels 8,9 --steps 120 --threads 2 " + _into(FREE),
        free_run_text,
    ),
    Section(
        "Planted bugs",
        "planted-bugs.json",
        "cd parity_tests && python -m planted.score --seeds 20 --live 1 --out ../docs/results/planted-bugs.json",
        planted_text,
    ),
    Section("When something differs", EXAMPLE, "python tools/parity_example.py", example_text),
)


def at_a_glance(results: Path) -> str:
    """One line a file with reports."""
    lines = ["| comparison | verdict | steps | claims that agree | claims not run |", "|---|---|---|---|---|"]
    for section in SECTIONS[:5]:
        path = results / section.file
        if not path.is_file():
            lines.append(f"| {section.title} | not measured yet | | | |")
            continue
        reports = json.loads(path.read_text(encoding="utf-8"))["reports"]
        rows = merged(reports)
        count = {word: sum(row["verdict"] == word for row in rows) for word in ("agree", "not run")}
        steps = int(max(report["seconds"].get("steps", 0) for report in reports))
        verdict = ", ".join(sorted({report["verdict"] for report in reports}))
        told = f"{count['agree']} of {len(rows)}"
        lines.append(f"| {section.title} | {verdict} | {steps} | {told} | {count['not run']} |")
    return "\n".join(lines) + "\n"


def document(results: Path) -> str:
    """The whole text, from the files in ``results``."""
    stored = {
        section.title: json.loads((results / section.file).read_text(encoding="utf-8"))
        for section in SECTIONS[:5]
        if (results / section.file).is_file()
    }
    sections = [section.render(results) for section in SECTIONS]
    parts = [HEAD, at_a_glance(results), LEVELS, *sections, cost_section(stored)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def draw(results: Path, folder: Path) -> list[Path]:
    """The plots whose files are there, into ``folder``."""
    drawn: list[Path] = []

    def plot(name: str, draws: Callable[[Path], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draws(folder / name)
        drawn.append(folder / name)

    epoch, free = (_report(results / name) for name in (EPOCH, FREE))
    if epoch is not None and epoch["kinks"]:
        plot("kinks.png", lambda path: plots.histogram(epoch["kinks"], path))
    if free is not None:
        plot("free-run-tensors.png", lambda path: plots.free_tensors(free, path))
        if "pictures" in free["curves"]:
            plot("free-run-pictures.png", lambda path: plots.free_pictures(free, path))
    return drawn


def _report(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["reports"][0]
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Write text and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="the document; plots go into a folder of its name")
    chosen = parser.parse_args(arguments)
    write_bytes(chosen.out, document(chosen.results).encode())
    for path in (chosen.out, *draw(chosen.results, chosen.out.with_suffix(""))):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
