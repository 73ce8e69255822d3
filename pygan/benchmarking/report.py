"""Reports: what a benchmark run leaves behind, how it is read back, and what makes two times comparable."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pygan.benchmarking import machine
from pygan.benchmarking.statistics import CONFIDENCE, RESAMPLES
from pygan.errors import DataError
from pygan.files import read_json

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
        found = read_json(path)
        report = found.get(KEY, found)
        if report["schema"] != SCHEMA:
            raise DataError(f"{path} has report schema {report['schema']}; this pygan reads {SCHEMA}")
        for group in report["groups"]:
            for entry in group["rows"]:
                if entry["verdict"] != "agree" and entry["per_step"]:
                    raise DataError(f"{path}: row {entry['row']} of {group['group']} has times without a verdict")
                if not entry["per_step"] or not all(0 < one < math.inf for one in entry["per_step"]):
                    raise DataError(f"{path}: per_step of row {entry['row']} of {group['group']} is no list of times")
                identity(report, group, entry)
            _ = group["noisy"], [(one["row"], one["reason"]) for one in (*group["refused"], *group["not_run"])]
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


def entries(report: Mapping[str, Any], what: str = "step") -> Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """``(group, row)`` of every row that shows a time in the groups about ``what``."""
    return [(group, entry) for group in report["groups"] if group["what"] == what for entry in group["rows"]]


def is_plain(group: Mapping[str, Any]) -> bool:
    """Is it a group of whole Float32 steps on the CPU with all its instructions, so that it stands in the series?"""
    return bool(group["what"] == "step") and group["group"].count(",") <= 1 + (" cores" in group["group"])


def main_group(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first group of whole steps."""
    return next((group for group in report["groups"] if group["what"] == "step"), None)
