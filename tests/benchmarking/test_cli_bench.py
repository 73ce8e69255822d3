"""``pygan bench``: reports shown and compared, the gate's exit codes, Ctrl-C, and one real run of narrow rows."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from bench_samples import group, measured, quiet, report
from run_pygan import Pygan, refused, runner

from pygan.benchmarking import plan
from pygan.benchmarking.report import read
from pygan.benchmarking.verdicts import Verdict
from pygan.files import write_json


@pytest.fixture
def pygan(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Pygan:
    return runner(monkeypatch, capfd)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    found = report(group(quiet(flux=measured("flux", 0.75, seed=3))))
    write_json(tmp_path / "old.json", found)
    return tmp_path / "old.json", found


def changed(path: Path, found: dict[str, Any], factor: float = 1.0, **environment: Any) -> Path:
    new = copy.deepcopy(found)
    new["environment"] |= environment
    for entry in new["groups"][0]["rows"]:
        entry["per_step"] = [factor * value for value in entry["per_step"]]
    write_json(path.with_name("new.json"), new)
    return path.with_name("new.json")


def test_a_stored_report_is_shown_and_becomes_a_page(pygan: Pygan, stored: Any, tmp_path: Path) -> None:
    code, out, err = pygan("bench", "--report", stored[0], "--markdown", tmp_path / "page.md")
    assert code == 0, err
    assert "torch-eager-injected" in out
    assert "# Benchmarks" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "page" / "ratios.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("factor", "code", "word"),
    [(1.0, 0, "not slower"), (1.03, 0, "not slower"), (1.05, 3, "cannot tell"), (1.1, 1, "slower"), (8, 1, "slower")],
)
def test_the_gate(pygan: Pygan, stored: Any, factor: float, code: int, word: str) -> None:
    new = changed(*stored, factor)
    got, out, _ = pygan("bench", "--report", new, "--against", stored[0])
    assert got == code
    assert f"of before: {word}\n" in out
    got, out, _ = pygan("bench", "--report", new, "--against", stored[0], "--json")
    assert got == code
    found = json.loads(out)
    assert (found["exit_code"], {row["verdict"] for row in found["against"]["rows"]}) == (code, {word})


def test_the_gate_takes_another_share(pygan: Pygan, stored: Any) -> None:
    new = changed(*stored, 1.1)
    assert pygan("bench", "--report", new, "--against", stored[0], "--max-slowdown", "20%")[0] == 0
    assert pygan("bench", "--report", new, "--against", stored[0], "--max-slowdown", "0.05")[0] == 1


def test_unlike_reports_need_force(pygan: Pygan, stored: Any) -> None:
    new = changed(*stored, cpu="Apple M4")
    refused(
        pygan("bench", "--report", new, "--against", stored[0]), "unlike", "'Apple M4' against 'AMD EPYC'", "--force"
    )
    code, out, _ = pygan("bench", "--report", new, "--against", stored[0], "--force")
    assert code == 0
    assert "not slower, unlike" in out


def test_faults_of_arguments_are_one_message(pygan: Pygan, stored: Any, tmp_path: Path) -> None:
    refused(pygan("bench", "--report", tmp_path / "absent.json"), "cannot read", "absent.json")
    refused(pygan("bench", "--report", stored[0], "--max-slowdown", "much"), "--max-slowdown much", "5%")
    refused(pygan("bench", "--rows", "flax", "-o", tmp_path), "no benchmark row 'flax'", "torch-eager")


def test_the_rows_are_listed(pygan: Pygan) -> None:
    code, out, _ = pygan("bench", "--rows", "list")
    assert code == 0
    assert "flux-tuned" in out


def test_a_row_that_differs_is_exit_code_1(pygan: Pygan, tmp_path: Path) -> None:
    bad = measured("flux", first_step=Verdict("differs", "gradient/generator.conv1.weight: relative 1"))
    write_json(tmp_path / "bad.json", report(group(quiet(flux=bad))))
    code, out, _ = pygan("bench", "--report", tmp_path / "bad.json")
    assert code == 1
    assert "flux: no time, verdict differs: gradient/generator.conv1.weight" in out


def test_ctrl_c_leaves_a_valid_report(pygan: Pygan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(plan: Any, found: Any, add: Any, tell: Any) -> None:
        tell(0, 5, "step, batch 128: flux")
        add([group(quiet(flux=measured("flux", 0.75, seed=3)))])
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "_measure", stopping)
    code, out, err = pygan("bench", "-o", tmp_path)
    assert code == 130
    assert "stopped" in err + out
    assert read(tmp_path / "report.json")["stopped"]
    assert read(tmp_path / "report.json")["groups"][0]["rows"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_narrow_torch_rows_really_run(pygan: Pygan, tmp_path: Path) -> None:
    narrow = ("--width", 2, "--latent-dim", 5, "--batch", 8, "--grid", 2, "--threads", 1)
    rows = ("--rows", "torch-eager,torch-eager-injected,torch-eager-cuda")
    code, out, err = pygan("bench", *narrow, *rows, "--rounds", 1, "--quick", "--json", "-o", tmp_path)
    assert code == 0, err
    found = json.loads(out)["report"]
    (steps, *cuda) = found["groups"]
    assert [entry["row"] for entry in steps["rows"]] == ["torch-eager", "torch-eager-injected"]
    native, keyed = steps["rows"]
    assert native["reason"].startswith("agrees with injected draws; native law tested")
    assert "Float64 referee" in keyed["reason"]
    for entry in steps["rows"]:
        assert entry["threads"] == {"torch_threads": 1}
        assert 0 < entry["median"] < 60
        assert len(entry["samples"][0]) == 4
        assert entry["peak_bytes"] > 1 << 20
        assert entry["warmup"]["first_step"] > 0
    assert steps["control"]["row"] == "torch-eager-injected"
    assert cuda[0]["group"] == "step, batch 8, cuda"
    assert read(tmp_path / "report.json")["groups"] == found["groups"]
