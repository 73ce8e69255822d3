"""The losses of a run as a table and as a plot."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from forked_pygan import SMALL
from PIL import Image
from run_pygan import Pygan

from pygan.losses import write_losses
from pygan.records import StepRecord
from pygan.traces import Trace


def test_every_digit_of_a_loss_is_kept_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    third, nan = np.array(1 / 3, np.float32), np.array(np.nan, np.float32)
    records = [
        StepRecord(0, loss={"a": third, "b": np.array(1 / 3)}),
        StepRecord(1),
        StepRecord(2, loss={"b": np.array(0.1)}),
        StepRecord(3, loss={"a": nan}),
    ]
    table, plot = write_losses(tmp_path, records, "torch")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "2", "3"]
    assert np.float32(rows[0]["a"]) == third and float(rows[0]["b"]) == 1 / 3
    assert rows[1]["a"] == "" and rows[2] == {"step": "3", "a": "nan", "b": ""}
    with Image.open(plot) as drawn:
        assert drawn.size[0] > 300
    assert write_losses(tmp_path / "none", [StepRecord(0)], "torch") == []
    assert not (tmp_path / "none").exists()


def test_train_writes_them_and_a_second_run_keeps_the_first(pygan: Pygan, tmp_path: Path) -> None:
    code, out, err = pygan("train", *SMALL, "--steps", 6, "--out", "run")
    assert code == 0, err
    assert "losses.csv, losses.png" in out
    rows = list(csv.DictReader((tmp_path / "run" / "losses.csv").read_text().splitlines()))
    recorded = list(Trace(tmp_path / "run" / "torch.trace"))
    assert [int(row["step"]) for row in rows] == [record.step for record in recorded if record.loss] == [*range(6)]
    for row, record in zip(rows, recorded, strict=False):
        assert {name: np.float32(row[name]) for name in record.loss} == record.loss
    code, _, err = pygan("train", *SMALL, "--steps", 6, "--out", "run")
    assert code == 2 and "already holds" in err


def test_log_lines_say_rate_and_time_left(pygan: Pygan) -> None:
    _, out, _ = pygan("train", *SMALL, "--steps", 20, "--out", "run")
    lines = [line for line in out.splitlines() if line.startswith("torch: step ")]
    assert "steps/s" not in lines[0], "the first step has no rate"
    assert all(" steps/s, 0:00:" in line and line.endswith(" left") for line in lines[1:-1])
    assert lines[-1].endswith(" steps/s")
