"""Runs side by side: what differs, over which steps, and what is only said to be missing."""

from pathlib import Path

import numpy as np
import pytest
from made_runs import write_gifs, write_trace, write_training

from pygan.comparison.compare import Comparison, compare
from pygan.comparison.reading import read_runs
from pygan.comparison.runs import FinishedRun
from pygan.comparison.table import ABSENT, rows


def shown(found: Comparison) -> dict[str, list[str]]:
    return {name.strip(): cells for name, cells in rows(found)}


def both(*paths: Path) -> Comparison:
    return compare([run for path in paths for run in read_runs(path)])


def test_a_run_beside_itself_shows_no_difference(tmp_path: Path) -> None:
    found = both(*[write_training(tmp_path / "run")] * 2)
    lines = shown(found)
    assert found.config == {}
    assert lines["5 other config fields"] == ["equal", ""]
    assert lines["compared"] == ["all 5 steps, 4 of 4 pictures"] * 2
    assert lines["parameter"][1].startswith("0 (largest 0")
    assert lines["distance from A"] == ["", "0 after 5 steps"]
    assert "last of the whole run" not in lines


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 7), ("generator_lr", 0.001), ("dtype", "float64"), ("batch", 16), ("recipe", "x")]
)
def test_a_field_that_differs_is_shown_with_both_values(tmp_path: Path, field: str, value: object) -> None:
    found = both(write_training(tmp_path / "a"), write_training(tmp_path / "b", value=1.5, **{field: value}))
    assert list(found.config) == [field]
    assert shown(found)[field][1] == str(value)
    assert shown(found)["parameter"][1] == "0.5 (largest 0.5: generator.dense.weight)"


def test_losses_are_first_median_and_last_by_name(tmp_path: Path) -> None:
    found = both(write_trace(tmp_path / "a"), write_trace(tmp_path / "b", base=3.0))
    lines = list(rows(found))
    at = [name for name, _ in lines].index("loss of discriminator")
    assert lines[at + 1 : at + 4] == [("  first", ["1", "3"]), ("  median", ["3", "5"]), ("  last", ["5", "7"])]


def test_a_longer_run_is_compared_over_the_common_steps_and_keeps_its_end(tmp_path: Path) -> None:
    found = both(write_training(tmp_path / "a", 3), write_training(tmp_path / "b", 10))
    lines = shown(found)
    assert lines["compared"] == ["all 3 steps, 3 of 3 pictures", "first 3 of 10 steps, 2 of 6 pictures"]
    assert lines["last of the whole run"][1] == "0.1"
    assert lines["last pictures"] == ["after 3 steps", "after 10 steps"]
    assert found.drawn == 3
    assert lines["state, distance from A"] == ["", "after 10 steps, from 3"]


def test_every_step_and_some_steps_are_compared_where_both_have_losses(tmp_path: Path) -> None:
    found = both(write_trace(tmp_path / "a", 6), write_gifs(tmp_path / "gifs") / "torch.gif")
    assert found.steps == (0, 2, 4)
    assert shown(found)["compared"][0].startswith("3 of 6 steps")


def test_a_gif_folder_adds_both_of_its_runs(tmp_path: Path) -> None:
    found = both(write_trace(tmp_path / "a"), write_gifs(tmp_path / "gifs"))
    assert found.labels == ("A", "B", "C")
    assert shown(found)["seconds a step"] == [ABSENT, ABSENT, "0.5"]
    assert shown(found)["not finite"] == ["0", "2", "0"]


def test_what_was_not_recorded_is_said(tmp_path: Path) -> None:
    bare = write_trace(tmp_path / "bare", every=0)
    lines = shown(both(write_training(tmp_path / "a"), bare))
    assert lines["compared"] == ["all 5 steps, 0 of 4 pictures", "all 5 steps, pictures not recorded"]
    assert lines["last pictures"] == ["after 5 steps", ABSENT]
    assert lines["state"] == ["recorded", ABSENT]
    one, same = (FinishedRun(name, pictures=[(1, np.zeros((4, 4), np.uint8))]) for name in "xy")
    assert shown(compare([one, same, FinishedRun("z")]))["distance from A"] == ["", "0 after 1 step", ABSENT]
    assert "distance from A" not in shown(compare([FinishedRun("z"), one, same]))
    lines = shown(compare([FinishedRun("x"), FinishedRun("y")]))
    for name in ("stack", "data", "machine", "config", "losses", "seconds a step", "state", "last pictures"):
        assert lines[name] == [ABSENT, ABSENT], name
    assert lines["compared"] == ["steps not recorded, pictures not recorded"] * 2


def test_states_and_pictures_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one = FinishedRun("x", pictures=[(1, np.zeros((4, 4), np.uint8))])
    other = FinishedRun("y", pictures=[(1, np.zeros((8, 8), np.uint8))])
    assert shown(compare([one, other]))["distance from A"] == ["", "do not fit after 1 step"]
    lines = shown(both(write_training(tmp_path / "a"), write_training(tmp_path / "b", width=5)))
    assert lines["does not fit"] == ["", "parameter/generator.dense.weight: (3, 2) against (5, 2)"]
    assert "parameter" not in lines
    assert lines["buffer"][1].startswith("0 ")


def test_no_common_step_shows_each_run_over_its_own() -> None:
    one, other = FinishedRun("x", losses={"g": {0: 1.0}}), FinishedRun("y", losses={"g": {5: 2.0}})
    lines = dict(rows(compare([one, other])))
    assert lines["loss of g (no step in common: each run over its own)"] == []
    assert lines["  first"] == ["1", "2"]


def test_a_run_that_diverged_is_shown_with_what_is_finite() -> None:
    values = {0: 1.0, 1: float("nan"), 2: 3.0, 3: float("inf")}
    weight = {"parameter/w": np.array([np.inf, 1.0])}
    runs = [FinishedRun("x", losses={"g": values}, states={4: lambda: weight}) for _ in range(2)]
    found = compare(runs)
    lines = shown(found)
    assert (lines["median"][0], lines["last"][0], lines["not finite"][0]) == ("2", "inf", "2")
    assert lines["parameter"][1].startswith("nan")
    assert found.to_dict()["losses"]["g"][0]["last"] is None
