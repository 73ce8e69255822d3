"""Rows of parity reports as Markdown: several seeds in one row, reasons as footnotes, committed floors beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from pygan.parity.bands import floors, picture_band, tensor_bands
from pygan.parity.report import LEVELS
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig

ORDER = ("differs", "beyond horizon", "agree", "not run")
"""Of several seeds' verdicts on a claim, the first in this order stands for all."""


def number(value: float | None) -> str:
    """A number in few characters; a value that JSON has no number for is infinite."""
    return "inf" if value is None or not math.isfinite(value) else "0" if value == 0 else f"{value:.1e}"


def _optional(value: float | None) -> str:
    return "" if value is None else number(value)


def _share(row: Mapping[str, Any]) -> float:
    if row["measured"] is None:
        return -1.0
    return float(row["measured"]) / row["allowed"] if row["allowed"] else float(row["measured"])


def merged(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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
        verdict = min((row["verdict"] for row in rows), key=ORDER.index)
        worst = max((row for row in rows if row["verdict"] == verdict), key=_share)
        minima = [row["minimum"] for row in rows if row["minimum"] is not None]
        minimum = max(minima) if minima else None
        compared = sum(row["compared"] for row in rows)
        found.append({**worst, "verdict": verdict, "compared": compared, "minimum": minimum})
    return sorted(found, key=lambda row: row["level"])


def rows_table(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """The table of levels and, below it, the reasons."""
    lines = ["| level | claim | verdict | of | measured | admitted | floor | would pass | where |"]
    lines.append("|---|---|---|--:|--:|--:|--:|--:|---|")
    reasons: dict[str, str] = {}
    last = 0
    for row in rows:
        level = f"{row['level']} {LEVELS[row['level']]}" if row["level"] != last else ""
        last = row["level"]
        mark = ""
        if row["reason"]:
            sign = reasons.setdefault(row["reason"], _sign(len(reasons)))
            mark = f" <sup>{sign}</sup>"
        where = f"`{row['where']}`" if row["where"] else ""
        cells = [
            level,
            row["claim"],
            row["verdict"] + ("" if row["allowed"] is not None else mark),
            str(row["compared"] or ""),
            _optional(row["measured"]),
            f"{number(row['allowed'])}{mark}" if row["allowed"] is not None else "",
            _optional(committed_floor(row, config)),
            _optional(row["minimum"]),
            where,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    notes = [f"<sup>{sign}</sup> {reason}" for reason, sign in reasons.items()]
    return "\n".join(lines) + "\n\n" + "<br>\n".join(notes) + "\n"


def _sign(place: int) -> str:
    letter = ascii_lowercase[place % 26]
    return letter * (place // 26 + 1)


def committed_floor(row: Mapping[str, Any], config: Mapping[str, Any]) -> float | None:
    """The committed noise floor of the tensor that a row names; None where none was measured for such a run."""
    if config["dtype"] != "float32" or " @ step " not in row["where"]:
        return None
    key, _, step = row["where"].partition(" @ step ")
    if row["level"] == 8:
        bands = tensor_bands(config)
        return bands.at(key, int(step)) / bands.factor if bands is not None and key in bands.floor else None
    if row["level"] == 9:
        band = picture_band(config) if row["claim"] == "pictures of both free runs" else None
        return band.at(int(step)) / band.factor if band is not None else None
    if job := _job(config):
        measured: Mapping[str, float] = floors()[job]["floor"]
        return measured.get(key, measured.get(f"sketch/{key}"))
    return None


def _job(config: Mapping[str, Any]) -> str:
    """Which of the committed step floors was measured on runs of this size."""
    published = FluxTutorialConfig().to_dict()
    for job, sizes in (("narrow", NARROW), ("first_step", {name: published[name] for name in NARROW})):
        if all(config.get(name) == value for name, value in sizes.items() if name != "grid"):
            return job
    return ""
