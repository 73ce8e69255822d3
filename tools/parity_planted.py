"""What ``docs/parity.md`` says of clean runs and planted faults, from what ``parity_tests/planted`` counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_rows import table

Stored = Mapping[str, Mapping[str, Any]]

# --- clean runs --------------------------------------------------------------------------------------------------


def clean_text(stored: Stored) -> str:
    """Counts, false alarms, and how much of its tolerance each kind of check used at most."""
    (one,) = stored.values()
    counts = one["counts"]
    told = (
        f"Nothing is planted, so whatever is found is a false alarm: **{counts['false alarms']} in "
        f"{counts['comparisons']} comparisons** ({counts['steps']:,} steps, {counts['flipped units']:,} units with "
        f"another sign, {counts['skipped']} comparisons skipped). A right torch stack is compared with another one "
        "through all levels.\n"
    )
    spread = [
        (what.removeprefix("by "), ", ".join(f"{name} ({count})" for name, count in found.items()))
        for what, found in counts.items()
        if isinstance(found, dict)
    ]
    worst = sorted(one["largest share of what is admitted"].items(), key=lambda item: -item[1]["share"])
    shares = [(kind, f"{found['share']:.2f}", found["of"]) for kind, found in worst]
    parts = [told, table(("of", "comparisons"), spread)]
    parts += ["Largest share of the tolerance, by kind of check; 1 would be an alarm:\n"]
    parts += [table(("check", " share", "in"), shares)]
    if alarms := [(run["name"], run["alarm"].replace("\n", " ")) for run in one["runs"] if run["alarm"]]:
        parts += ["False alarms:\n", table(("comparison", "what was found"), alarms)]
    return "\n".join(parts)


def clean_glance(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Verdict, steps and what was found, in one line."""
    counts = one["counts"]
    wrong = counts["false alarms"]
    return (
        "false alarms" if wrong else "agree",
        f"{counts['steps']:,}",
        f"{wrong} false alarms in {counts['comparisons']} comparisons",
    )


# --- planted faults ----------------------------------------------------------------------------------------------

RIGHT, UNSEEN, MISSED = "named right", "not observable", "MISSED"
LOUD = ("WRONG NAME", MISSED, "SEEN WHERE NOTHING SHOWS")
"""Verdicts that must not be."""
_COUNTS = ("faults", "planted", "caught")

WORDS = """\
Faults are put in by chance (which layer, how strong), and the comparison that a user runs has to find and name them. \
*Named right*: its cause. *Unknown, right place*: found where it was put, and not named. *Unknown, elsewhere*: found, \
at a tensor that was not touched. A wrong name counts against it more than none. *Not observable*: the recording holds \
nothing that could show it, or it only changes how Float32 rounds.
"""


def _verdicts(totals: Mapping[str, Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(word for counts in totals.values() for word in counts if word not in _COUNTS))


def _score(title: str, totals: Mapping[str, Mapping[str, int]]) -> str:
    """Counts by verdict, a line a key."""
    words = _verdicts(totals)
    head = [title, *([" faults"] if any("faults" in counts for counts in totals.values()) else []), " planted"]
    rows = [
        (name, *([counts.get("faults", "")] if " faults" in head else []), counts["planted"],
         *(counts.get(word, 0) for word in words))
        for name, counts in totals.items()
    ]  # fmt: skip
    return table((*head, *(f" {word.lower()}" for word in words)), rows)


def planted_text(stored: Stored) -> str:
    """The score by side and dtype and by recording, and every fault that was not named right every time."""
    (one,) = stored.values()
    parts = [WORDS, _score("planted in", one["totals"])]
    if recordings := one.get("recordings"):
        parts += ["What each recording can name:\n", _score("recording", recordings)]
    if clean := one.get("clean"):
        runs = [(what, found["runs"], found["steps"], found["false alarms"]) for what, found in clean.items()]
        parts += ["With live Flux and nothing planted:\n", table(("what", " runs", " steps", " false alarms"), runs)]
    right = [fault for fault in one["faults"] if fault[RIGHT] + fault.get(UNSEEN, 0) == fault["planted"]]
    for side in dict.fromkeys(fault["side"] for fault in right):
        names = ", ".join(fault["fault"] for fault in right if fault["side"] == side)
        parts.append(f"Named right wherever it shows, in {side}: {names}.\n")
    words = _verdicts(one["totals"])
    rows = [
        (
            fault["side"],
            f"{fault['fault']}: {fault['what']}",
            fault["planted"],
            *(fault.get(word) or "" for word in words),
            ", ".join(f"{name} ({count})" for name, count in fault["causes"].items() if name),
        )
        for fault in one["faults"]
        if fault not in right
    ]
    if rows:
        head = ("planted in", "fault", " planted", *(f" {word.lower()}" for word in words), "called")
        parts += ["The others:\n", table(head, rows)]
    return "\n".join(parts)


def planted_glance(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Verdict, steps and what was found, in one line."""
    counts = {word: sum(found.get(word, 0) for found in one["totals"].values()) for word in (*LOUD, RIGHT, "planted")}
    told = f"{counts[RIGHT]} of {counts['planted']} named right"
    told += "".join(f", {counts[word]} {word.lower()}" for word in LOUD)
    return "differs, as it should" if not counts[MISSED] else "missed some", "", told
