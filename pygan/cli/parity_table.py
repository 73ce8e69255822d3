"""The words and the table of ``pygan parity``, for any width of the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pygan.parity.claims import CORRECTNESS, LEVELS, RELATIVE
from pygan.parity.verdicts import AGREE, BEYOND, DIFFERS, NOT_RUN
from pygan.recipes import config_class

if TYPE_CHECKING:
    from pygan.parity.report import Report, Row

STYLES = {AGREE: "green", DIFFERS: "bold red", BEYOND: "yellow", NOT_RUN: "dim"}
TITLES = ("verdict", "measured", "tolerance", "compared")
COLUMNS_FROM, PLACES_FROM = 64, 110
"""Widths from which numbers have columns of their own, and from which the worst place has one."""
GAP, INDENT = 2, 3
EQUAL = "equal"
MOST_CLAIM = 36
"""Characters of a claim beside a worst place."""
ELSEWHERE = ("recipe", "seed", "device", "dtype", "threads", "epochs", "picture_every")
"""Config fields that the header tells otherwise, or that change no number of a step."""


def number(value: float | None) -> str:
    """A measured number or a tolerance in few characters."""
    return "" if value is None else "0" if value == 0 else f"{value:.1e}"


# --- the header --------------------------------------------------------------------------------------------------


def header_of(report: Report) -> tuple[str, str]:
    """Who is compared with whom, live or recorded; and which run of which recipe."""
    sides = ((report.candidate, "candidate"), (report.reference, "reference"))
    who = " against ".join(_side(title, report.environment.get(role, {})) for title, role in sides)
    config, data = report.config, report.data
    steps = int(report.seconds.get("steps", 0)) or report.extent.known
    told = [str(config["recipe"]), sizes_of(config), str(config["dtype"]).replace("float", "Float")]
    told += [f"{data['name']} with {data['images']:,} images"] if data else []
    told += [f"seed {config['seed']}", *([_steps(steps)] if steps else [])]
    return who, ", ".join(told)


def _side(title: str, facts: Mapping[str, Any]) -> str:
    name = title.removeprefix("recorded ").partition(" (")[0]
    packages = {**facts.get("packages", {}), **facts}
    versions = [f"{what} {packages[key]}" for key, what in _VERSIONS.items() if key in packages]
    how = f"recording {facts['trace']}" if "trace" in facts else "live"
    return f"{name} ({', '.join([how, *versions])})"


_VERSIONS = {"torch": "torch", "Flux": "Flux", "julia": "Julia"}


def sizes_of(config: Mapping[str, Any]) -> str:
    """Which twin of the recipe a config is, with its sizes and the fields that are not as published."""
    kind = config_class(str(config["recipe"]))
    published = kind().to_dict()
    held = {name: config[name] for name in kind.narrow if name in config}
    sizes = ", ".join(f"{name.removesuffix('_dim')} {value}" for name, value in held.items() if name != "grid")
    word = "narrow twin" if held == kind.narrow else "sizes of its own"
    if all(published.get(name) == value for name, value in held.items()):
        word = "published sizes"
    other = [name for name in config if name not in ELSEWHERE and name not in held]
    changed = [f"{name} {config[name]}" for name in other if config[name] != published.get(name)]
    return ", ".join([f"{word} ({sizes})" if sizes else word, *changed])


def _steps(count: int) -> str:
    return f"{count:,} step{'s' * (count != 1)}"


# --- the table ---------------------------------------------------------------------------------------------------


def table_of(rows: Sequence[Row], width: int) -> Iterator[Text]:
    """The rows as lines of at most ``width``; verdict and whole claim always, numbers below them where it is narrow."""
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(TITLES, *cells, strict=True)]
    if width < COLUMNS_FROM:
        widths = widths[:1]
    places = width >= PLACES_FROM and any(row.where for row in rows)
    room = width - INDENT - sum(widths) - GAP * len(widths)
    claims = min(room, max([MOST_CLAIM // 2, *(len(row.claim) for row in rows)])) if not places else MOST_CLAIM
    place = room - claims - GAP if places else 0
    head = [f"{'level and claim':{INDENT + claims}}", *_aligned(TITLES, widths), *(["worst place"] if places else [])]
    yield Text((" " * GAP).join(head), style="bold")
    if len(widths) == 1:
        yield Text(f"{'':{INDENT + GAP}}measured of tolerance; compared", style="dim")
    level = 0
    for row, told in zip(rows, cells, strict=True):
        if row.level != level:
            level = row.level
            yield from (Text(line, style="bold") for line in _hanging(f"{level:>2} {LEVELS[level]}", width))
        yield from _row(row, told, claims, widths, place)


def _row(row: Row, cells: tuple[str, ...], claims: int, widths: Sequence[int], place: int) -> Iterator[Text]:
    left, right = textwrap.wrap(row.claim, claims), _folded(row.where if row.verdict != NOT_RUN else "", place)
    for line in range(max(len(left), len(right))):
        text = Text(" " * INDENT + f"{left[line] if line < len(left) else '':{claims}}")
        shown = _aligned(cells if line == 0 else [""] * len(cells), widths)
        text.append(" " * GAP).append(shown[0], style=STYLES[row.verdict])
        text.append("".join(f"{'':{GAP}}{cell}" for cell in shown[1:]))
        text.append(f"{'':{GAP}}{right[line]}" if line < len(right) else "", style="dim")
        text.rstrip()
        yield text
    if len(widths) == 1 and cells[3]:
        numbers = f"{cells[1]} of {cells[2]}; " if cells[1] else ""
        if cells[2] == EQUAL:
            numbers = "equal; " if cells[1] == "0" else f"{cells[1]}, must be equal; "
        yield Text(f"{'':{INDENT + GAP}}{numbers}{cells[3]} compared", style="dim")


def _cells(row: Row) -> tuple[str, str, str, str]:
    """Verdict, measured value, tolerance (with its unit where the two are not relative), how many were compared."""
    if row.verdict == NOT_RUN or row.measured is None or row.allowed is None:
        return row.verdict, "", "", f"{row.compared:,}" if row.compared and row.verdict != NOT_RUN else ""
    measured, allowed = number(row.measured), number(row.allowed)
    if row.unit != RELATIVE:
        measured, allowed = f"{row.measured:.2g}", f"{row.allowed:g} {row.unit[: -1 if row.allowed == 1 else None]}"
    return row.verdict, measured, allowed if row.allowed else EQUAL, f"{row.compared:,}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """As many cells as there are widths; numbers to the right, a tolerance and a verdict to the left."""
    sides = ("<", ">", "<", ">")
    return [f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=False)]


def _hanging(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=" " * INDENT)


def _folded(place: str, width: int) -> list[str]:
    """``kind/call/layer @ step n`` in lines, broken after a slash or before the step."""
    lines = [""] * bool(place and width)
    for part in re.split(r"(?<=/)|(?= @)", place) if lines else ():
        whole = not lines[-1] or len(lines[-1] + part) <= width
        lines[-1:] = [lines[-1] + part] if whole else [lines[-1], part.strip()]
    return [piece for line in lines for piece in textwrap.wrap(line, width)]


# --- what is said below it ---------------------------------------------------------------------------------------


def notes_of(rows: Iterable[Row]) -> list[str]:
    """A line for every row that does not simply agree: where, and why."""
    notes = []
    for row in rows:
        if row.verdict != AGREE or "never updated" in row.reason:
            where = f" at {row.where}" if row.where and row.where not in row.reason else ""
            notes.append(f"level {row.level}, {row.claim}: {row.verdict}{where}: {row.reason}")
    return notes


def closing_of(report: Report) -> str:
    """The verdict, and of how much."""
    by_level: dict[int, list[Row]] = {}
    for row in report.rows:
        by_level.setdefault(row.level, []).append(row)
    looked_at = [level for level, rows in by_level.items() if any(row.verdict in (AGREE, DIFFERS) for row in rows)]
    compared = [*_amounts(report), *([f"level{'s' * (len(looked_at) > 1)} {ranges(looked_at)}"] if looked_at else [])]
    differing = sorted({row.level for row in report.rows if row.verdict == DIFFERS})
    told = f"{report.verdict} over {', '.join(compared)}" if compared else report.verdict
    if report.verdict == DIFFERS:
        told = f"differs at level{'s' * (len(differing) > 1)} {ranges(differing)}; compared: {', '.join(compared)}"
    if report.verdict in (NOT_RUN, BEYOND):
        reasons = [row.reason for row in report.rows if row.verdict == report.verdict]
        proof = next((row.reason for row in report.rows if row.claim == CORRECTNESS and row.verdict == NOT_RUN), "")
        told = f"{report.verdict}: {proof or next(iter(reasons), 'no row')}"
        return told + (f"; compared all the same: {', '.join(compared)}" if compared else "")
    return told + "".join(f"; {part}" for part in _left_out(report.rows, by_level))


def _amounts(report: Report) -> list[str]:
    found, extent = [], report.extent
    steps = max(extent.steps, extent.free)
    if steps:
        told = "the first step" if steps == 1 else f"the first {steps:,} steps"
        if extent.known > steps:
            told = f"the first {steps:,} of {extent.known:,} steps of the recording"
        elif extent.known:
            told = f"{'the one step' if steps == 1 else f'all {steps:,} steps'} of the recording"
        told += f" ({extent.steps:,} from the same state)" if 0 < extent.steps < steps else ""
        if extent.twins is not None and extent.twins < extent.steps:
            told += f" ({extent.twins:,} in Float64 too)"
        found.append(told)
    if extent.pictures or extent.pictures_known:
        known = f" of {extent.pictures_known:,}" if extent.pictures_known else ""
        many = (extent.pictures_known or extent.pictures) != 1
        found.append(f"{extent.pictures:,}{known} picture{'s' * many}")
    return found


def _left_out(rows: Iterable[Row], by_level: Mapping[int, Sequence[Row]]) -> list[str]:
    """Levels of which nothing was run, with the reason; how many claims of other levels; levels beyond the horizon."""
    empty: dict[str, list[int]] = {}
    for level, own in by_level.items():
        if all(row.verdict == NOT_RUN for row in own):
            empty.setdefault(own[0].reason.partition(";")[0], []).append(level)
    told = [f"level{'s' * (len(levels) > 1)} {ranges(levels)} ({why})" for why, levels in empty.items()]
    whole = {level for levels in empty.values() for level in levels}
    more = sum(row.verdict == NOT_RUN and row.level not in whole for row in rows)
    told += [f"{more} claim{'s' * (more > 1)} of other levels (above)" if told else f"{_claims(more)} (above)"] * bool(
        more
    )
    beyond = sorted({row.level for row in rows if row.verdict == BEYOND})
    found = [f"not run: {', '.join(told)}"] if told else []
    return found + ([f"beyond the horizon: level {ranges(beyond)}"] if beyond else [])


def _claims(count: int) -> str:
    return f"{count} claim{'s' * (count > 1)}"


def ranges(numbers: Iterable[int]) -> str:
    """``1-3, 7`` of 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for one in sorted(numbers):
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
