"""``pygan julia``: the printed command is what runs, nothing comes unasked, and nothing but our own goes."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_julia import MANIFEST, PROJECT, environment, fake_julia
from run_pygan import MAIN, Pygan, refused

from pygan.cli import julia as command
from pygan.stacks.julia_setup import JuliaSetup, find_julia, setup_words

pytestmark = pytest.mark.usefixtures("bare")


# --- setup with a Julia that is there ----------------------------------------------------------------------------


def test_setup_runs_the_command_that_it_prints_and_shows_julias_own_words(pygan: Pygan, bare: Path) -> None:
    julia = fake_julia(bare / "bin")
    project = bare / "user" / "pygan" / "julia-1.10"
    code, out, err = pygan("julia", "setup")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"making {project} for Julia 1.10.8 ({julia})"
    assert lines[1].startswith(f"packages and compiled code go to {bare / 'home' / '.julia'}: about 400 MB")
    asked = json.loads((bare / "bin" / "asked.json").read_text())
    assert shlex.split(lines[2]) == [str(julia), *asked["arguments"]] == setup_words(project, str(julia))
    assert lines[3:5] == ["   Resolving package versions...", "Precompiling project..."]
    assert lines[5] == f"ready: Julia 1.10.8 with Flux 0.16.9 in {project}"
    assert asked["offline"] is None

    (bare / "bin" / "asked.json").unlink()
    code, out, _ = pygan("julia", "setup")
    assert (code, out) == (0, f"{project} already serves; nothing to do (--again makes it anew)\n")
    assert not (bare / "bin" / "asked.json").exists()
    assert pygan("julia", "setup", "--again")[0] == 0
    assert (bare / "bin" / "asked.json").exists()


@pytest.mark.parametrize("name", ["JULIA_PKG_OFFLINE", "PYTHON_JULIAPKG_OFFLINE"])
def test_offline_is_passed_on_to_julia_and_said(pygan: Pygan, bare: Path, monkeypatch, name: str) -> None:
    fake_julia(bare / "bin")
    monkeypatch.setenv(name, {"JULIA_PKG_OFFLINE": "true", "PYTHON_JULIAPKG_OFFLINE": "yes"}[name])
    code, out, _ = pygan("julia", "setup")
    assert code == 0
    assert out.splitlines()[1] == "offline: only what is already in the depot is used"
    assert json.loads((bare / "bin" / "asked.json").read_text())["offline"] == "true"


def test_a_julia_that_fails_is_one_message_with_its_last_words(pygan: Pygan, bare: Path) -> None:
    trace = "\n".join(f'print("  [{number}] deep", file=sys.stderr)' for number in range(40))
    behaviour = f'print("ERROR: Unsatisfiable requirements for Flux\\n log:", file=sys.stderr)\n{trace}\nsys.exit(3)'
    julia = fake_julia(bare / "bin", behaviour=behaviour)
    code, out, err = pygan("julia", "setup")
    assert code == 2
    start = f"error: {julia} failed (exit code 3). Its last words:\nERROR: Unsatisfiable requirements for Flux\n log:\n"
    assert err.startswith(start) and len(err.splitlines()) == 16
    assert "  [39] deep" in out


def test_a_console_that_lacks_julias_characters_does_not_end_the_setup(bare: Path) -> None:
    julia = fake_julia(bare / "bin", behaviour='sys.stdout.buffer.write("  ✓ Flux\\n".encode()); sys.stdout.flush()')
    variables = {**os.environ, "PYGAN_JULIA": str(julia), "PYGAN_JULIA_ENV": str(bare / "env")}
    variables |= {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    words = [sys.executable, "-c", MAIN, "julia", "setup"]
    finished = subprocess.run(words, env=variables, capture_output=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert b"\n  ? Flux\n" in finished.stdout


def test_a_julia_that_leaves_no_environment_is_an_error(pygan: Pygan, bare: Path) -> None:
    fake_julia(bare / "bin", behaviour="sys.exit()")
    refused(pygan("julia", "setup"), "but not the environment of the flux worker")


def test_the_users_own_project_is_made_where_juliacalls_variables_name_it(
    pygan: Pygan, bare: Path, monkeypatch
) -> None:
    julia = fake_julia(bare / "elsewhere", name="julia-1.10")
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", str(julia))
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(bare / "my project"))
    assert pygan("julia", "setup")[0] == 0
    assert (bare / "my project" / "Manifest.toml").exists()
    assert not (bare / "user").exists()


def test_another_julia_can_be_named(pygan: Pygan, bare: Path, monkeypatch) -> None:
    fake_julia(bare / "bin", version="1.12.1")
    other = fake_julia(bare / "other")
    monkeypatch.setenv("PYGAN_JULIA", str(other))
    code, out, _ = pygan("julia", "setup")
    assert (code, out.splitlines()[0].endswith(f"for Julia 1.10.8 ({other})")) == (0, True)
    assert find_julia().source == "PYGAN_JULIA" and find_julia().executable == str(other)
    monkeypatch.setenv("PYGAN_JULIA", "no-such-julia")
    refused(pygan("julia", "setup"), "PYGAN_JULIA = no-such-julia is no executable file")


def test_ctrl_c_stops_julia_too(bare: Path) -> None:
    julia = fake_julia(bare / "bin", behaviour="time.sleep(60)")
    variables = {**os.environ, "PYGAN_JULIA": str(julia), "PYGAN_JULIA_ENV": str(bare / "env")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, "-c", MAIN, "julia", "setup"]
    with subprocess.Popen(words, env=variables, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        while "Resolving" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "stopped; every file written so far is valid\n"
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.05)


# --- setup without a fitting Julia -------------------------------------------------------------------------------

JULIAPKG = """
import json, os, pathlib, sys
def resolve(force):
    project = pathlib.Path(os.environ["PYTHON_JULIAPKG_PROJECT"])
    print("[juliapkg] Locating Julia ~1.10")
    if os.environ.get("FAIL"):
        raise Exception("could not find Julia ~1.10.3")
    (project / "pyjuliapkg").mkdir(parents=True)
    facts = {"meta_version": 8, "executable": os.environ["FAKE_JULIA"], "version": "1.10.8"}
    (project / "pyjuliapkg" / "meta.json").write_text(json.dumps(facts))
    (project / "Manifest.toml").write_text(MANIFEST)
"""


@pytest.fixture
def juliapkg(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A juliapkg that downloads nothing, for the process that setup starts; returns its project."""
    (bare / "stub").mkdir()
    (bare / "stub" / "juliapkg.py").write_text(f"MANIFEST = {MANIFEST!r}\n{JULIAPKG}")
    monkeypatch.setenv("PYTHONPATH", str(bare / "stub"))
    monkeypatch.setenv("PYTHON_JULIAPKG_PROJECT", str(bare / "juliapkg project"))
    monkeypatch.setenv("FAKE_JULIA", str(fake_julia(bare / "downloaded")))
    return bare / "juliapkg project"


def test_without_julia_setup_says_what_a_download_takes_and_does_nothing(pygan: Pygan, juliapkg: Path) -> None:
    result = pygan("julia", "setup")
    refused(result, "There is no julia on PATH; Julia 1.10 is needed.", str(juliapkg), "about 500 MB", "--yes")
    assert result[1] == "" and not juliapkg.exists()


def test_with_yes_juliapkg_brings_julia_and_find_julia_takes_what_it_left(pygan: Pygan, bare, juliapkg: Path) -> None:
    code, out, err = pygan("julia", "setup", "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        "[juliapkg] Locating Julia ~1.10",
        f"ready: Julia 1.10.8 with Flux 0.16.9 in {juliapkg}",
    ]
    assert find_julia() == JuliaSetup(str(bare / "downloaded" / "julia"), str(juliapkg), "juliapkg")


def test_a_failing_juliapkg_is_one_message(pygan: Pygan, juliapkg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    refused(pygan("julia", "setup", "--yes"), "(exit code 1)", "ERROR: could not find Julia ~1.10.3")


def test_offline_nothing_is_downloaded_even_with_yes(pygan: Pygan, juliapkg: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHON_JULIAPKG_OFFLINE", "yes")
    refused(pygan("julia", "setup", "--yes"), "Nothing can be downloaded: offline is set")
    assert not juliapkg.exists()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.12.1", "is Julia 1.12.1; the traces and pins are of Julia 1.10"),
        ("1.100.0", "is Julia 1.100.0"),
        ("", "--version"),
    ],
)
def test_a_julia_of_another_version_is_named_and_not_used(pygan: Pygan, bare: Path, version: str, words: str) -> None:
    fake_julia(bare / "bin", version=version)
    refused(pygan("julia", "setup"), words, "PYGAN_JULIA" if version else "Julia 1.10 is needed", "--yes")
    assert not (bare / "bin" / "asked.json").exists()


# --- status and remove -------------------------------------------------------------------------------------------


def test_status_shows_what_would_run(pygan: Pygan, bare: Path) -> None:
    julia = fake_julia(bare / "bin")
    project = environment(bare / "user" / "pygan" / "julia-1.10")
    code, out, err = pygan("julia", "status")
    assert (code, err) == (0, "")
    assert f"1.10.8 at {julia} (julia on PATH)" in out and str(project) in out
    rows = {row["what"]: row for row in json.loads(pygan("julia", "status", "--json")[1])}
    assert (rows["julia"]["state"], rows["Flux"]["detail"]) == ("ok", "0.16.9")


@pytest.mark.parametrize(("version", "words"), [("1.11.5", "is Julia 1.11.5"), ("", "does not answer --version")])
def test_status_sees_a_julia_that_is_not_the_one_of_the_environment(
    pygan: Pygan, bare, version: str, words: str
) -> None:
    fake_julia(bare / "bin", version=version)
    environment(bare / "user" / "pygan" / "julia-1.10")
    code, out, _ = pygan("julia", "status", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert (code, rows["julia"]["state"]) == (2, "gap")
    assert words in rows["julia"]["detail"]


def test_status_without_julia_is_a_gap_with_the_way_out(pygan: Pygan) -> None:
    code, out, _ = pygan("julia", "status")
    assert code == 2
    assert "no Julia found. Install Julia 1.10" in out and "`pygan julia setup`" in out


def test_a_julia_that_hangs_does_not_hang_us(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: list[str], timeout: float, **_: object) -> None:
        assert timeout <= 30
        raise subprocess.TimeoutExpired(words, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert command.julia_version("julia") is None


def test_remove_deletes_the_environment_and_nothing_else(pygan: Pygan, bare: Path) -> None:
    project = environment(bare / "user" / "pygan" / "julia-1.10")
    (bare / "user" / "pygan" / "other").write_text("")
    of_juliapkg = environment(bare / "python" / "julia_env")
    code, out, err = pygan("julia", "remove")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"removed {project / 'Manifest.toml'}",
        f"removed {project / 'Project.toml'}",
        f"{of_juliapkg} is juliapkg's and stays",
    ]
    assert not project.exists()
    assert (bare / "user" / "pygan" / "other").exists() and (of_juliapkg / "Manifest.toml").exists()
    assert pygan("julia", "remove")[1].splitlines()[0] == f"there is no environment in {project}"


def foreign(folder: Path, kind: str) -> Path:
    """A folder that is not the worker's environment."""
    if kind == "file":
        environment(folder)
        (folder / "thesis.tex").write_text("years of work")
    elif kind == "folder":
        environment(folder)
        (folder / "src").mkdir()
    elif kind == "package":
        environment(folder, project=f'{PROJECT}DataFrames = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"\n')
    elif kind == "other":
        environment(folder, project='[deps]\nPythonCall = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"\n')
    elif kind == "broken":
        environment(folder, project="[deps")
    elif kind == "bare":
        environment(folder)
        (folder / "Project.toml").unlink()
    elif kind == "link":
        folder.symlink_to(environment(folder.with_name("elsewhere")))
    return folder


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("file", "it holds thesis.tex"),
        ("folder", "it holds src"),
        ("package", "its project has the package DataFrames"),
        ("other", "its project lacks PyganFlux"),
        ("broken", "its Project.toml cannot be read"),
        ("bare", "it holds no Project.toml"),
        ("link", "it is a link"),
    ],
)
def test_remove_refuses_a_folder_that_is_not_ours(pygan: Pygan, bare, monkeypatch, kind: str, words: str) -> None:
    folder = foreign(bare / "mine", kind)
    monkeypatch.setenv("PYGAN_JULIA_ENV", str(folder))
    before = sorted(bare.rglob("*"))
    refused(pygan("julia", "remove"), f"{folder} does not look like an environment that pygan made", words)
    assert sorted(bare.rglob("*")) == before
