"""One command, run twice on one machine, writes the same bytes: pictures, GIFs, plots, traces, states and JSON, but for
the time of day and how long it took. Flux live is in test_resume_live.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from forked_pygan import SMALL, Server, hashes

MOMENTS = frozenset({"seconds", "recorded", "typed"})
"""Keys of results that may differ."""
RECORDED = ["--width", 2, "--latent-dim", 5, "--batch", 8, "--grid", 2, "--samples", 62, "--every", 5, "--threads", 1]


def blurred(value: Any) -> Any:
    """JSON without its moments."""
    if isinstance(value, dict):
        return {key: blurred(held) for key, held in value.items() if key not in MOMENTS}
    return [blurred(held) for held in value] if isinstance(value, list) else value


def written(run: Path) -> dict[str, Any]:
    """Every file of a run: text without moments, else its hash."""
    found: dict[str, Any] = dict(hashes(run))
    for path in run.rglob("*.json"):
        found[str(path.relative_to(run))] = blurred(json.loads(path.read_text()))
    return found


@pytest.mark.parametrize(
    ("command", "least"),
    [
        (["train", *SMALL, "--steps", 6, "--every", 2, "--fps", 5, "--out", "run"], 12),
        (["record", "--stack", "torch", *SMALL, "--steps", 4, "--capture", "state,layers,patterns", "--out", "run"], 4),
        (["gif", "--flux", "recorded", *RECORDED, "--out", "run"], 8),
    ],
    ids=["train", "record", "gif"],
)
def test_a_command_run_twice_writes_the_same_bytes(
    server: Server, tmp_path: Path, command: list[Any], least: int
) -> None:
    runs = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        code, told = server.run(folder, *command)
        assert code == 0, told
        runs.append(written(folder / "run"))
    assert len(runs[0]) >= least, sorted(runs[0])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_a_verdict_given_twice_is_the_same_to_the_last_digit(server: Server, tmp_path: Path, dtype: str) -> None:
    command = ["parity", "torch", "recorded", "--dtype", dtype, "--json"]
    (code, one), (again, other) = (server.run(tmp_path, *command) for _ in range(2))
    assert code == again == 0, one
    first, second = (json.loads(told[told.index("{\n") :]) for told in (one, other))
    assert first["exit_code"] == 0
    assert blurred(first) == blurred(second)
    assert one.count("measured") > 20


def test_without_moments_what_differs_still_shows() -> None:
    assert blurred({"a": [{"seconds": {"read": 1.5}, "loss": 2}]}) == {"a": [{"loss": 2}]}
