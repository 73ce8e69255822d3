"""pytest-benchmark's own files and commands work on replayed rows."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bench_samples import group, measured, quiet, report

from pygan.benchmarking.report import read
from pygan.benchmarking.verdicts import Verdict
from pygan.files import write_json


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    bad = measured("flux-native", first_step=Verdict("differs", "planted"))
    rows = quiet(flux=measured("flux", 0.75, seed=3), flux_native=bad)
    write_json(tmp_path / "report.json", report(group(rows, not_run={"flux-tuned": "no Julia with Flux here"})))
    return tmp_path / "report.json"


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # no xdist worker
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=outer, capture_output=True, text=True, check=False)


def replay(root: Path, stored: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    options = ("-p", "no:cacheprovider", "--benchmark-replay", stored, *arguments)
    return run(root, "pytest", root / "benchmarks" / "test_rows.py", *options)


def test_rows_are_replayed_refused_rows_fail_and_reasons_are_shown(root: Path, stored: Path, tmp_path: Path) -> None:
    done = replay(root, stored, "--benchmark-json", tmp_path / "out.json")
    assert done.returncode == 1
    assert "flux-native shows no time, verdict differs: planted" in done.stdout
    assert "no Julia with Flux here" in done.stdout
    assert "times as long as itself" in done.stdout
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    rows = {one["params"]["row"]: one for one in found["benchmarks"]}
    assert rows.keys() == {"torch-eager-injected", "flux"}
    expected = read(stored)["groups"][0]["rows"][1]
    assert rows["flux"]["stats"]["median"] == pytest.approx(expected["median"])
    assert rows["flux"]["stats"]["rounds"] == len(expected["per_step"])
    assert rows["flux"]["extra_info"]["verdict"] == "agree"
    assert rows["flux"]["group"] == "step"
    assert read(tmp_path / "out.json") == read(stored)


@pytest.mark.slow
def test_compare_and_histogram_read_what_was_saved(root: Path, stored: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        replay(root, stored, "--benchmark-json", tmp_path / f"{name}.json", "-k", "injected")
    files = (tmp_path / "one.json", tmp_path / "two.json")
    done = run(root, "pytest_benchmark", "compare", *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torch-eager-injected") >= 2
    if find_spec("pygal") is None:
        pytest.skip("histograms need pygal (pip install pygal)")
    done = run(root, "pytest_benchmark", "compare", *files, f"--histogram={tmp_path / 'picture'}")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("picture*.svg"))
