"""Reports of comparisons as Markdown: numbers, tables, who was compared, and the rows of one or more seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from pygan.parity.claims import LEVELS, unit_of
from pygan.parity.verdicts import joint

Report = Mapping[str, Any]


def number(value: float | None) -> str:
    """A number in few characters; a value that JSON has no number for is infinite."""
    return "inf" if value is None or not math.isfinite(value) else "0" if value == 0 else f"{value:.1e}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns of numbers are the ones whose title starts with a space."""
    lines = [f"| {' | '.join(title.strip() for title in head)} |"]
    lines.append("|" + "|".join("--:" if title.startswith(" ") else "---" for title in head) + "|")
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def verdicts(reports: Sequence[Report]) -> str:
    """Every verdict among the reports."""
    return ", ".join(sorted({report["verdict"] for report in reports}))


def steps_of(reports: Sequence[Report]) -> int:
    """Steps that were compared."""
    return int(max((report["seconds"].get("steps", 0) for report in reports), default=0))


def size_of(report: Report) -> str:
    """Sizes and data in a few words."""
    config = report["config"]
    told = [f"{name} {config[name]}" for name in ("width", "batch") if name in config]
    return ", ".join([*told, *([report["data"]["name"]] if report.get("data") else [])])


def machine(report: Report) -> str:
    """Machine and versions in one line."""
    facts = report["environment"]
    parts = [f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, torch {facts['packages']['torch']}"]
    for role in ("candidate", "reference"):
        side = facts.get(role, {})
        if "julia" in side:
            packages = ", ".join(f"{name} {version}" for name, version in side["packages"].items())
            source = f" (recorded: `{side['trace']}`)" if "trace" in side else ""
            parts.append(f"Julia {side['julia']}, {packages}{source}")
    return "Machine: " + "; ".join(parts) + "."


def summary(reports: Sequence[Report]) -> str:
    """Verdict, who against whom, and on what machine."""
    first = reports[0]
    seeds = [report["config"]["seed"] for report in reports]
    runs = f"{len(reports)} seeds ({seeds[0]} to {seeds[-1]})" if len(reports) > 1 else f"seed {seeds[0]}"
    return (
        f"**{verdicts(reports)}**: {first['candidate']} against {first['reference']}, {first['config']['recipe']}, "
        f"{first['config']['dtype']}, {size_of(first)}, {runs}, {steps_of(reports)} steps. {machine(first)}\n"
    )


def share(row: Mapping[str, Any]) -> float:
    """How much of its tolerance a row has used; -1 where it has no number, infinite where it had no finite one."""
    if row["allowed"] is None:
        return math.inf if row["verdict"] == "differs" else -1.0
    if row["measured"] is None:
        return math.inf
    return float(row["measured"] / row["allowed"]) if row["allowed"] else math.inf if row["measured"] else 0.0


def merged(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """One row a claim over all reports: the worst verdict, all tensors counted, the numbers of what came closest."""
    claims: dict[tuple[int, str, int], list[Mapping[str, Any]]] = {}
    for report in reports:
        seen: Counter[tuple[int, str]] = Counter()  # two runs of one stack have a claim of the same name each
        for row in report["rows"]:
            claim = (row["level"], row["claim"])
            claims.setdefault((*claim, seen[claim]), []).append(row)
            seen[claim] += 1
    found = []
    for rows in claims.values():
        verdict = joint({row["verdict"] for row in rows})
        worst = max((row for row in rows if row["verdict"] == verdict), key=share)
        minimum = max((row["minimum"] for row in rows if row["minimum"] is not None), default=None)
        compared = sum(row["compared"] for row in rows)
        found.append({**worst, "verdict": verdict, "compared": compared, "minimum": minimum})
    return sorted(found, key=lambda row: row["level"])


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of levels and, below it, the reasons."""
    head = ("level", "claim", "verdict", " compared", " measured", " tolerance", "worst place")
    lines = []
    signs: dict[str, str] = {}
    last = 0
    for row in rows:
        level = f"{row['level']} {LEVELS[row['level']]}" if row["level"] != last else ""
        last = row["level"]
        mark = f" <sup>{signs.setdefault(row['reason'], _sign(len(signs)))}</sup>" if row["reason"] else ""
        measured, allowed = _numbers(row)
        told = (row["verdict"], row["compared"] or "", measured, f"{allowed}{mark}")
        if not allowed:
            told = (row["verdict"] + mark, row["compared"] or "", measured, "")
        lines.append((level, row["claim"], *told, f"`{row['where']}`" if row["where"] else ""))
    notes = "<br>\n".join(f"<sup>{sign}</sup> {reason}" for reason, sign in signs.items())
    return f"{table(head, lines)}\n{notes}\n"


def _numbers(row: Mapping[str, Any]) -> tuple[str, str]:
    """Measured value and tolerance, with their unit where they are not relative."""
    if row["verdict"] == "not run" or row["allowed"] is None:
        return "", ""
    if not row["allowed"]:
        return number(row["measured"]), "equal"
    unit = unit_of(row["claim"])
    if not unit:
        return number(row["measured"]), number(row["allowed"])
    return f"{row['measured']:.2g}", f"{row['allowed']:g} {unit}"


def _sign(place: int) -> str:
    letter = ascii_lowercase[place % 26]
    return letter * (place // 26 + 1)
