"""What ``pygan doctor`` measures: threads, libraries, GPU and disk, without loading torch and without ever hanging."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from run_pygan import Pygan

from pygan.cli import doctor, output
from pygan.stacks.julia_setup import setup_command

pytestmark = pytest.mark.usefixtures("bare")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_doctor_has_a_row_for_each_thing_it_measures_and_never_cuts_a_line(pygan: Pygan, monkeypatch) -> None:
    code, out, err = pygan("doctor", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert (code, err) == (0, "")
    assert rows.keys() >= {"threads", "OpenMP", "GPU", "julia", "Flux on CUDA", "disk: data", "disk: output"}
    assert rows["Flux on CUDA"]["state"] == "unverified"
    assert "free for" in rows["disk: output"]["detail"]
    assert rows["GPU"]["detail"] == "none seen (no nvidia-smi); runs use the CPU"
    monkeypatch.setenv("COLUMNS", "40")
    assert setup_command() in pygan("doctor")[1]


def test_a_terminal_shows_details_in_their_column_and_commands_whole(monkeypatch) -> None:
    console = Console(file=Terminal(), width=60, soft_wrap=True, highlight=False, color_system=None)
    monkeypatch.setattr(output, "console", console)
    command = f"  julia --project={'x' * 70} -e 'using Pkg'"
    output.show_rows([("data: mnist", "ok", "word " * 20), ("julia", "gap", f"make it with:\n{command}")], False)
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["what", "state", "detail"]
    column = lines[0].index("detail")
    assert [line[:column].split() for line in lines[1:5]] == [["data:", "mnist", "ok"], [], [], ["julia", "gap"]]
    assert max(map(len, lines[:5])) <= 60 and all(line[column] != " " for line in lines[1:5])
    assert lines[5:] == [command]


@pytest.mark.parametrize(
    ("behaviour", "version", "state", "words"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 580.1'", "2.13.0", "ok", "NVIDIA H200, 143771 MiB, 580.1; use --device cuda"),
        ("echo 'NVIDIA H200, 143771 MiB, 580.1'", "2.13.0+cpu", "gap", "this torch is a CPU build"),
        ("echo driver lost; exit 9", "2.13.0", "gap", "failed: driver lost"),
    ],
)
def test_the_gpu_is_what_nvidia_smi_says(
    bare, monkeypatch, behaviour: str, version: str, state: str, words: str
) -> None:
    (bare / "bin").mkdir()
    program = bare / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{behaviour}\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: version)
    what, found, detail = doctor._gpu_row()
    assert (what, found) == ("GPU", state)
    assert words in detail


def test_a_hanging_driver_does_not_hang_doctor(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: list[str], timeout: float, **_: object) -> None:
        assert timeout <= 10
        raise subprocess.TimeoutExpired(words, timeout)

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert doctor._gpu_row() == ("GPU", "gap", "/usr/bin/nvidia-smi did not answer in 10 s; its driver may hang")


def test_too_little_disk_and_a_folder_that_is_not_ours_are_gaps(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "not" / "yet"
    assert doctor._disk_row("disk", folder, 1)[1] == "ok"
    _, state, detail = doctor._disk_row("disk", folder, 10**18)
    assert state == "gap" and detail.endswith(f"free for {folder}; 1.0 EB may be needed")
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert doctor._disk_row("disk", folder, 1)[1:] == (
        "gap", f"{tmp_path} cannot be written; name another folder (--out, --data-dir)",
    )  # fmt: skip
    assert not folder.exists()


def test_fewer_processors_than_cores_and_a_second_openmp_are_gaps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    [row] = [row for row in doctor._thread_rows() if row[0] == "threads"]
    assert row[1] == "gap" and row[2].endswith("add --threads 3")

    for name in ("torch/lib/libgomp-a34b3233.so.1", "conda/lib/libiomp5.so", "conda/lib/libstdc++.so.6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    spec = type("Spec", (), {"origin": str(tmp_path / "torch" / "__init__.py")})
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    rows = {what: (state, detail) for what, state, detail in doctor._library_rows()}
    assert rows["OpenMP"][0] == rows["libstdc++"][0] == "gap"
    assert "2 runtimes may be loaded" in rows["OpenMP"][1]
    monkeypatch.delenv("CONDA_PREFIX")
    assert {row[1] for row in doctor._library_rows() if row[0] == "OpenMP"} == {"ok"}
