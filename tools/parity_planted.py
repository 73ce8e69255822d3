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
Faults are put in by chance (which layer, how strong), and the comparison that a user types has to find and name them. \
Classes: *function*, what is computed is another number; *rounding*, only how Float32 rounds it; \
*admitted rounding*, that within what Float32 may leave, so that the right verdict is "agree"; *unobservable*, the \
recording ends before the fault begins, or is in Float64 where the fault rounds Float32. Verdicts: *named right*, by \
its cause; *unknown at its place*, found where it was put and not named; *unknown elsewhere*, found at a tensor that \
was not touched. A wrong name is worse than none.
"""


def score_table(title: str, totals: Mapping[str, Mapping[str, Any]]) -> str:
    """Counts by verdict, a line a key."""
    counts = {name: {word: n for word, n in found.items() if isinstance(n, int)} for name, found in totals.items()}
    words = [word for word in dict.fromkeys(word for one in counts.values() for word in one) if word not in _COUNTS]
    shown = [word for word in words if word in LOUD or any(one.get(word) for one in counts.values())]
    head = (title, " faults", " planted", " caught", *(f" {word.lower()}" for word in shown))
    rows = [
        (name, one.get("faults", ""), one["planted"], one["caught"], *(one.get(word, 0) for word in shown))
        for name, one in counts.items()
    ]
    return table(head, rows)


def planted_text(stored: Stored) -> str:
    """The score by command and by side; the single faults have a page of their own."""
    (one,) = stored.values()
    commands = {f"`{command}`": found for command, found in one["commands"].items()}
    parts = [WORDS, score_table("command", commands), "With the Julia faults, by side and dtype:\n"]
    parts += [score_table("planted in", one["totals"])]
    if clean := one.get("clean"):
        runs = [(what, found["runs"], found["steps"], found["false alarms"]) for what, found in clean.items()]
        parts += ["With live Flux and nothing planted:\n", table(("what", " runs", " steps", " false alarms"), runs)]
    return "\n".join([*parts, "Fault by fault: [planted-faults.md](planted-faults.md).\n"])


def planted_glance(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Verdict, steps and what was found, in one line."""
    counts = {word: sum(found.get(word, 0) for found in one["totals"].values()) for word in (*LOUD, RIGHT, "planted")}
    told = f"{counts[RIGHT]} of {counts['planted']} named right"
    told += "".join(f", {counts[word]} {word.lower()}" for word in LOUD)
    return "differs, as it should" if not counts[MISSED] else "missed some", "", told
