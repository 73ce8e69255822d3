"""Write ``docs/parity.md`` and its plots from the JSON files in ``docs/results/``; run nothing, measure nothing.

Every number in the text comes from those files or from the tolerances in the code. A file that is not there leaves the
command which makes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import parity_plots as plots
from parity_free import FreeRun
from parity_planted import clean_glance, clean_text, planted_glance, planted_text
from parity_rows import merged, steps_of, table, verdicts
from parity_sections import cost_table, example_text, float32_text, free_plot, free_text, steps_text

from pygan.files import write_bytes
from pygan.parity import referee, tolerances
from pygan.parity.free import RUNS

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "docs" / "results", ROOT / "docs" / "parity.md"
TEMPLATE = Path(__file__).with_name("parity_template.md")


@dataclass(frozen=True)
class Source:
    """One JSON file of ``docs/results``, and the command that makes it."""

    label: str
    file: str
    command: str


def parity(label: str, name: str, *options: str) -> Source:
    """The source of a comparison of torch with live Flux."""
    file = f"parity-{name}.json"
    return Source(label, file, " ".join(["pygan parity torch flux", *options, f"-o docs/results/{file}"]))


def planted(label: str, file: str, words: str) -> Source:
    """The source of a count over many comparisons."""
    return Source(label, file, f"cd parity_tests && python -m planted.{words} --out ../docs/results/{file}")


Stored = Mapping[str, Any]
Glance = tuple[str, str, str]
"""Verdict, steps, and what was found."""


def glance(one: Stored) -> Glance:
    """A file with reports in one line."""
    rows = merged(one["reports"])
    agree, left = (sum(row["verdict"] == word for row in rows) for word in ("agree", "not run"))
    told = f"{agree} of {len(rows)} claims agree" + (f", {left} not run" if left else "")
    return verdicts(one["reports"]), f"{steps_of(one['reports']):,}", told


def example_glance(one: Stored) -> Glance:
    """The example in one line."""
    return "differs, as it should", glance(one)[1], f"called: {one['reports'][0]['diagnosis']['cause']}"


@dataclass(frozen=True)
class Section:
    """One section: its files, what it says of those that are there, and a file's line at a glance."""

    title: str
    sources: tuple[Source, ...]
    text: Callable[[Mapping[str, Stored]], str]
    glance: Callable[[Stored], Glance] = glance

    def stored(self, results: Path) -> dict[str, Stored]:
        """What its files hold by label; without those that are not there."""
        paths = {one.label: results / one.file for one in self.sources}
        return {label: json.loads(path.read_text("utf-8")) for label, path in paths.items() if path.is_file()}

    def render(self, results: Path) -> str:
        """The section; where files are not there, their commands."""
        stored = self.stored(results)
        made = [stored[one.label].get("command", one.command) for one in self.sources if one.label in stored]
        missing = [one.command for one in self.sources if one.label not in stored]
        parts = [f"## {self.title}\n"]
        parts += [_shell(made)] if made else []
        parts += ["Not measured yet:\n", _shell(missing)] if missing else []
        return "\n".join([*parts, self.text(stored)] if stored else parts)

    def lines(self, results: Path) -> list[tuple[str, ...]]:
        """A line a file."""
        stored = self.stored(results)
        found = {label: self.glance(one) for label, one in stored.items()}
        return [(self.name_of(one), *found.get(one.label, ("not measured yet", "", ""))) for one in self.sources]

    def name_of(self, source: Source) -> str:
        """The section's title, and which of its files where it has several."""
        return self.title if len(self.sources) == 1 else f"{self.title}: {source.label}"


def _shell(commands: Sequence[str]) -> str:
    return "\n".join(["```sh", *commands, "```\n"])


FLOAT32 = "--full --dtype float32 --levels 1,3-7,9 --steps 1 --seeds 0-2 --threads 1 --data"
LEVELS = Section(
    "Every level, live Flux",
    (
        parity("narrow twin, Float64", "narrow-float64"),
        parity("narrow twin, Float32", "narrow-float32", "--dtype float32 --seeds 0-2"),
        parity("published size, Float64", "full-float64", "--full --steps 2 --levels 1-7,9 --threads 2"),
    ),
    steps_text,
)
FREE = Section(
    "Free runs, Float64",
    (
        parity("narrow", "free-narrow", "--levels 8,9 --steps 2000"),
        parity("width 16", "free-width16", "--width 16 --batch 32 --data mnist --levels 8,9 --steps 2000 --threads 1"),
        parity("published size", "free-full", "--full --levels 8,9 --steps 200 --threads 2"),
    ),
    free_text,
)
ROUNDING = Section(
    "Float32 at published size",
    tuple(parity(data, f"float32-{data}", FLOAT32, data) for data in ("digits", "mnist")),
    float32_text,
)
CLEAN = Section("Clean runs", (planted("clean runs", "clean-runs.json", "clean_runs"),), clean_text, clean_glance)
PLANTED = Section(
    "Planted faults",
    (planted("planted faults", "planted-bugs.json", "score --seeds 1 --live 1"),),
    planted_text,
    planted_glance,
)
EXAMPLE = Section(
    "When something differs",
    (Source("an example, planted", "parity-example.json", "python tools/parity_example.py"),),
    example_text,
    example_glance,
)
SECTIONS = (LEVELS, FREE, ROUNDING, CLEAN, PLANTED, EXAMPLE)


def document(results: Path) -> str:
    """The whole text, from the files in ``results``."""
    lines = [line for section in SECTIONS for line in section.lines(results)]
    compared = {
        f"{section.title}: {label}": one
        for section in (LEVELS, FREE, ROUNDING)
        for label, one in section.stored(results).items()
    }
    known = {**vars(referee), **vars(tolerances)}
    values = {name: f"{value:g}" for name, value in known.items() if isinstance(value, int | float)}
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        values,
        RUNS=RUNS,
        glance=table(("comparison", "verdict", " steps", "found"), lines),
        sections="\n".join(section.render(results).rstrip() + "\n" for section in SECTIONS),
        cost=cost_table(compared),
    )


def draw(results: Path, folder: Path) -> list[Path]:
    """The plots whose files are there, into ``folder``."""
    drawn = []
    for label, one in FREE.stored(results).items():
        folder.mkdir(parents=True, exist_ok=True)
        plots.free_run(FreeRun(one["reports"][0]), path := folder / free_plot(label))
        drawn.append(path)
    return drawn


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
