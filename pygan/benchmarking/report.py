"""Reports: what a benchmark run leaves behind, how it is read back, and when two of them may be compared."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pygan.benchmarking import machine
from pygan.benchmarking.statistics import CONFIDENCE, RESAMPLES, ratio
from pygan.errors import ConfigError, DataError

SCHEMA = 1
KEY = "pygan_benchmark"
"""Where the report lies inside a json of pytest-benchmark."""


def new_report(plan: Any, command: str) -> dict[str, Any]:
    """An empty report of ``plan`` with the environment as it is now."""
    return {
        "schema": SCHEMA,
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "stopped": False,
        "config": plan.config.to_dict(),
        "cores": plan.cores,
        "settings": {**asdict(plan.settings), "confidence": CONFIDENCE, "resamples": RESAMPLES},
        "environment": machine.snapshot(),
        "groups": [],
        "not_run": [],
    }


def read(path: Path) -> dict[str, Any]:
    """The report at ``path``, plain or inside a json of pytest-benchmark. Raises ``DataError`` if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        report = found.get(KEY, found)
        if report["schema"] != SCHEMA:
            raise DataError(f"{path} has report schema {report['schema']}; this pygan reads {SCHEMA}")
        for group in report["groups"]:
            for entry in group["rows"]:
                if entry["verdict"] != "agree" and entry["per_step"]:
                    raise DataError(f"{path}: row {entry['row']} of {group['group']} has times without a verdict")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no benchmark report of pygan: {error!r}") from error
    return dict(report)


def identity(report: Mapping[str, Any], group: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two times of a row to be comparable."""
    return {
        "processor": report["environment"]["cpu"],
        "cores of the machine": report["environment"]["cores"],
        "cores": group["cores"],
        "device": entry["device_name"],
        "precision": group["precision"],
        "config": group["config"],
        "images": group["images"],
        "randomness": entry["randomness"],
        "threads": entry["threads"],
        "versions": {name: value for name, value in entry["versions"].items() if name != "PyganFlux"},
    }


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two identities differ, in words."""
    return [
        f"{key}: {one.get(key)!r} against {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def against(
    new: Mapping[str, Any], old: Mapping[str, Any], max_slowdown: float, *, force: bool = False
) -> list[dict[str, Any]]:
    """Each row that both reports show, new over old, with an interval and ``slower`` (the gate).

    A row is slower when its ratio is above ``1 + max_slowdown`` and the interval lies above 1; in a group that either
    report marked noisy nothing is called slower. Raises ``ConfigError`` naming what differs between unlike reports
    unless ``force``, and where no row is in both.
    """
    theirs = {(group["group"], entry["row"]): (group, entry) for group in old["groups"] for entry in group["rows"]}
    found: list[dict[str, Any]] = []
    faults: list[str] = []
    for group in new["groups"]:
        for entry in group["rows"]:
            if (group["group"], entry["row"]) not in theirs:
                continue
            old_group, old_entry = theirs[group["group"], entry["row"]]
            differs = unlike(identity(new, group, entry), identity(old, old_group, old_entry))
            faults += [f"{group['group']}, {entry['row']}: {fault}" for fault in differs]
            value = ratio(entry["per_step"], old_entry["per_step"], paired=False)
            noisy = bool(group["noisy"] or old_group["noisy"])
            slower = value.value > 1 + max_slowdown and value.low > 1 and not noisy
            line = {"group": group["group"], "row": entry["row"], **asdict(value), "noisy": noisy, "slower": slower}
            found.append({**line, "unlike": differs})
    if faults and not force:
        raise ConfigError(
            f"the two reports are unlike and are not compared (--force does it): {faults[0]}"
            + (f", and {len(faults) - 1} more" if len(faults) > 1 else "")
        )
    if not found:
        raise ConfigError("the two reports have no row of a group in common")
    return found


def entries(report: Mapping[str, Any], what: str = "step") -> Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """``(group, row)`` of every row that shows a time in the groups about ``what``."""
    return [(group, entry) for group in report["groups"] if group["what"] == what for entry in group["rows"]]


def is_plain(group: Mapping[str, Any]) -> bool:
    """Is it a group of whole Float32 steps on the CPU with all its instructions, so that it stands in the series?"""
    return bool(group["what"] == "step") and group["group"].count(",") <= 1 + (" cores" in group["group"])


def main_group(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first group of whole steps."""
    return next((group for group in report["groups"] if group["what"] == "step"), None)
