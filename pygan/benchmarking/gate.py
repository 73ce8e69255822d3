"""The gate of ``pygan bench --against``: which rows are slower than in an older report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pygan.benchmarking.report import identity, unlike
from pygan.benchmarking.statistics import Ratio, ratio
from pygan.benchmarking.table import interval
from pygan.errors import ConfigError

SLOWER, NOT_SLOWER, CANNOT_TELL = "slower", "not slower", "cannot tell"
EXIT_CODES = {NOT_SLOWER: 0, SLOWER: 1, CANNOT_TELL: 3}


def decided(found: Ratio, margin: float) -> str:
    """Slower where the whole interval lies above ``1 + margin``, not slower where it lies below, else cannot tell."""
    if found.low > 1 + margin:
        return SLOWER
    return NOT_SLOWER if found.high < 1 + margin else CANNOT_TELL


def against(new: Mapping[str, Any], old: Mapping[str, Any], margin: float, *, force: bool = False) -> dict[str, Any]:
    """``rows`` that both reports show, new over old with interval and verdict; ``only_new`` and ``only_old``; and the
    ``verdict`` of all.

    The interval alone decides: that a group is marked noisy stands beside the verdict. A row of ``only_old`` has a
    reason where the new report tried it and shows no time; nobody can tell whether such a row is slower. Raises
    ``ConfigError`` naming what differs between unlike reports unless ``force``, and where no row is in both.
    """
    mine, theirs = _shown(new), _shown(old)
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    for place in (place for place in mine if place in theirs):
        (group, entry), (old_group, old_entry) = mine[place], theirs[place]
        differs = unlike(identity(new, group, entry), identity(old, old_group, old_entry))
        faults += [f"{', '.join(place)}: {fault}" for fault in differs]
        found = ratio(entry["per_step"], old_entry["per_step"], paired=False)
        noisy = bool(group["noisy"] or old_group["noisy"])
        line = {**_named(place), **asdict(found), "verdict": decided(found, margin), "noisy": noisy}
        rows.append({**line, "samples": [len(one["per_step"]) for one in (entry, old_entry)], "unlike": differs})
    if faults and not force:
        raise ConfigError(
            f"the two reports are unlike and are not compared (--force does it): {faults[0]}"
            + (f", and {len(faults) - 1} more" if len(faults) > 1 else "")
        )
    if not rows:
        raise ConfigError("the two reports have no row of a group in common; measure the older report's rows (--rows)")
    tried = {(group["group"], one["row"]): one["reason"] for group in new["groups"] for one in _without_time(group)}
    only_old = [{**_named(place), "reason": tried.get(place, "")} for place in theirs if place not in mine]
    verdicts = [row["verdict"] for row in rows] + [CANNOT_TELL for one in only_old if one["reason"]]
    return {
        "margin": margin,
        "verdict": next((word for word in (SLOWER, CANNOT_TELL) if word in verdicts), NOT_SLOWER),
        "rows": rows,
        "only_new": [_named(place) for place in mine if place not in theirs],
        "only_old": only_old,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The comparison as text, its outcome last."""
    for row in found["rows"]:
        marks = [word for word in ("noisy", "unlike") if row[word]]
        yield f"{row['group']}, {row['row']}: {interval(row)} of before: {', '.join([row['verdict'], *marks])}"
    for key, told in (("only_new", "the new"), ("only_old", "the older")):
        for one in found[key]:
            why = f"; {CANNOT_TELL}, no time now: {one['reason'].splitlines()[0]}" if one.get("reason") else ""
            yield f"{one['group']}, {one['row']}: only in {told} report{why}"
    open_ = [row["verdict"] for row in found["rows"]].count(CANNOT_TELL) + sum(
        bool(one["reason"]) for one in found["only_old"]
    )
    slower = sum(row["verdict"] == SLOWER for row in found["rows"])
    advice = "; more rounds (--rounds, --seconds) make intervals narrower" if open_ else ""
    yield (
        f"of {len(found['rows'])} rows in both, {slower} slower by more than {found['margin']:.3g}, "
        f"{open_} cannot be told{advice}"
    )


def _shown(report: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return {(group["group"], entry["row"]): (group, entry) for group in report["groups"] for entry in group["rows"]}


def _without_time(group: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [*group["refused"], *group["not_run"]]


def _named(place: tuple[str, str]) -> dict[str, str]:
    return {"group": place[0], "row": place[1]}
