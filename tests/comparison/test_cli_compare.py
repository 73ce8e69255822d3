"""``pygan compare``: exit codes, text, JSON and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import write_gifs, write_trace, write_training
from run_pygan import Pygan, refused

from pygan.pictures.png import read_png
from pygan.recipes.flux_tutorial_config import NARROW

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in {**NARROW, "threads": 1}.items()]


def test_real_trainings_of_other_rate_seed_dtype_and_length(pygan: Pygan, tmp_path: Path) -> None:
    for name, flags in (
        ("a", ["--steps=3"]),
        ("b", ["--steps=5", "--seed=1", "--generator-lr=0.01", "--dtype=float64"]),
    ):
        code, _, err = pygan("train", *FLAGS, "--samples=22", "--picture-every=2", *flags, "--out", name)
        assert (code, err) == (0, "")
    code, out, err = pygan("compare", "a", "b", "--out", "both", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["config_differs"] == {"seed": [0, 1], "dtype": ["float32", "float64"], "generator_lr": [0.0002, 0.01]}
    assert "first 3 of 5 steps, 2 of 4 pictures" in err
    assert "Shown, not judged." in err
    assert [Path(path).name for path in found["files"]] == ["losses.png", "last_pictures.png", "comparison.json"]
    groups = found["runs"][1]["state_from_first"]["groups"]
    assert groups.keys() == {"parameter", "buffer", "exp_avg", "exp_avg_sq", "beta_power"}
    assert all(group["relative"] > 0 for group in groups.values())
    stored = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert stored["runs"] == found["runs"]


def test_files_hold_the_last_pictures_of_every_run(pygan: Pygan, tmp_path: Path) -> None:
    write_training(tmp_path / "a", 3)
    write_training(tmp_path / "b", 10)
    code, out, err = pygan("compare", "a", "b", "-o", "both")
    assert (code, err) == (0, "")
    assert "wrote both/losses.png" in out
    picture = read_png(tmp_path / "both" / "last_pictures.png")
    assert {103, 110} <= set(np.unique(picture)), "the closing pictures of either run"
    assert (tmp_path / "both" / "losses.png").stat().st_size > 10_000


def test_a_run_without_pictures_and_one_without_anything_but_them(pygan: Pygan, tmp_path: Path) -> None:
    write_trace(tmp_path / "bare", every=0)
    write_trace(tmp_path / "also", every=0)
    code, out, _ = pygan("compare", "bare", "also", "-o", "both")
    assert code == 0
    assert "pictures not recorded" in out
    assert not (tmp_path / "both" / "last_pictures.png").exists()
    write_training(tmp_path / "pngs")
    (tmp_path / "pngs" / "torch.trace").rename(tmp_path / "elsewhere")
    assert pygan("compare", "pngs", "pngs", "-o", "two")[0] == 0
    assert not (tmp_path / "two" / "losses.png").exists()


def test_a_gif_folder_shows_both_runs(pygan: Pygan, tmp_path: Path) -> None:
    write_gifs(tmp_path / "gifs")
    code, out, _ = pygan("compare", "gifs", "gifs/torch.gif", "-o", "both")
    assert code == 0
    assert "A  gifs, flux" in out
    assert "C  gifs/torch.gif" in out


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_torn_folder_is_one_message(pygan: Pygan, tmp_path: Path, as_json: tuple[str, ...]) -> None:
    trace = write_training(tmp_path / "a") / "torch.trace" / "trace.json"
    trace.write_bytes(trace.read_bytes()[:100])
    result = pygan("compare", "a", "a", *as_json)
    refused(result, str(Path("a") / "torch.trace" / "trace.json"), "Make that run again, or name another one")
    if as_json:
        assert json.loads(result[1])["exit_code"] == 2
    refused(pygan("compare", "a", "absent"), "trace.json")
    refused(pygan("compare", "absent", "a"), "absent is no folder of a run")


def test_no_file_of_a_run_is_replaced(pygan: Pygan, tmp_path: Path) -> None:
    write_gifs(tmp_path / "gifs")
    write_trace(tmp_path / "a")
    refused(pygan("compare", "a", "gifs", "-o", "gifs"), "--out gifs holds the run gifs; choose another folder")
    refused(pygan("compare", "a", "gifs/torch.gif", "-o", "gifs/../gifs"), "choose another folder")
    assert pygan("compare", "a", "gifs", "-o", ".")[0] == 0


def test_hostile_text_reaches_no_terminal(pygan: Pygan, tmp_path: Path) -> None:
    index = write_trace(tmp_path / "a") / "trace.json"
    index.write_text(index.read_text().replace("flux_tutorial", r"\u001b[2J$\\frac$ [bold]\ud800"))
    write_trace(tmp_path / "$x$")
    code, out, err = pygan("compare", "a", "$x$", "-o", "both")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "[bold]" in out
