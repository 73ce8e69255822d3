"""What of the user's folder and environment must not reach pygan's own processes, and machines that lack a home."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_julia import bare_machine, environment
from run_pygan import Pygan

from pygan.benchmarking.process import child_command, child_environment
from pygan.cli import doctor
from pygan.cli import julia as julia_command
from pygan.data import dataset, digits, load, registry
from pygan.errors import DataError, JuliaNotFound
from pygan.processes import julia_environment, python_command, python_environment, shadows_julia
from pygan.stacks import flux_stack
from pygan.stacks.julia_setup import JuliaSetup, environment_dir, find_julia, julia_depot

NAMES = ("random", "queue", "json", "types", "logging", "numpy", "signal", "tempfile", "ctypes", "pygan", "juliacall")
"""Modules that pygan's processes import, of which a user may well have a file in the current folder."""


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    for name in NAMES:
        (place / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')\n")
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("pythonpath", [None, "", ".", os.pathsep, f"{os.pathsep}/nowhere", "relative/folder"])
def test_no_module_in_the_current_folder_reaches_a_child(own_modules: Path, pythonpath: str | None) -> None:
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given |= {} if pythonpath is None else {"PYTHONPATH": pythonpath}
    code = f"import json, sys\nfor name in {NAMES[:-1]!r}: __import__(name)\nprint(json.dumps(sys.path))"
    words = [*python_command("x")[:-2], "-c", code]
    done = subprocess.run(words, env=python_environment(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(own_modules) not in json.loads(done.stdout) and "" not in json.loads(done.stdout)


def test_without_the_guard_this_test_would_see_it(own_modules: Path) -> None:
    words = [word for word in python_command("random") if word != "-P"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "a file of the user was imported" in done.stderr


def test_every_process_of_pygan_is_started_so() -> None:
    for command in (child_command(), flux_stack.worker_command()):
        assert command[:2] == [sys.executable, "-P"]
    assert "-P" in Path(julia_command.__file__).read_text().partition("_RESOLVE], {})")[0].splitlines()[-1]
    found = subprocess.run(
        ["grep", "-rnE", r'sys\.executable, "-[^P]', str(Path(flux_stack.__file__).parents[1])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == "", "a process that may import the user's files"


def test_python_dash_m_pygan_does_not_import_the_users_files(own_modules: Path) -> None:
    for name in ("pygan", "numpy", "types"):  # the last is imported by Python's runpy, before any line of ours
        (own_modules / f"{name}.py").unlink()
    done = subprocess.run([sys.executable, "-m", "pygan", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, "pygan "), done.stderr


def test_variables_that_change_how_python_ends_do_not_reach_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONFAULTHANDLER", "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "1")
        assert name not in python_environment() and name not in child_environment(1)


FOREIGN = {
    "JULIA_LOAD_PATH": "/my/modules",
    "JULIA_PROJECT": "@.",
    "PYTHON_JULIACALL_INIT": "no",
    "PYTHON_JULIACALL_SYSIMAGE": "/my/image.so",
    "PYTHON_JULIACALL_STARTUP_FILE": "yes",
}


def test_variables_of_other_julia_projects_do_not_reach_pygans_julia(tmp_path: Path, monkeypatch) -> None:
    bare_machine(tmp_path, monkeypatch)
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JULIA_DEPOT_PATH", "/my/depot")
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "julia")
    kept = julia_environment()
    assert not FOREIGN.keys() & kept.keys()
    assert (kept["JULIA_DEPOT_PATH"], kept["PYTHON_JULIACALL_EXE"]) == ("/my/depot", "julia")
    rows = {what: detail for what, _, detail in doctor._kept_from_julia_rows()}
    assert rows["JULIA_LOAD_PATH"].startswith("/my/modules; kept from pygan's Julia")
    assert rows.keys() == {"JULIA_LOAD_PATH", "JULIA_PROJECT"}


def test_the_flux_worker_and_julia_setup_are_started_without_them(tmp_path: Path, monkeypatch) -> None:
    started: list[dict[str, str]] = []

    def popen(words: list[str], **options: dict[str, str]) -> None:
        started.append(options["env"])
        raise OSError(8, "no such program")

    monkeypatch.setattr(subprocess, "Popen", popen)
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    project = environment(tmp_path / "project")
    with pytest.raises(OSError, match="no such program"):
        flux_stack.Worker(JuliaSetup("julia", str(project), "test"), 1.0)
    with pytest.raises(JuliaNotFound, match="cannot run"):
        julia_command._run(["julia"], {})
    assert len(started) == 2 and not any(FOREIGN.keys() & one.keys() for one in started)


def test_folders_of_libraries_that_would_shadow_julias_own_are_left_out(tmp_path: Path, monkeypatch) -> None:
    for name, file in {
        "conda": "libstdc++.so.6",
        "cuda": "libcudart.so",
        "other": "libjulia.so.1",
        "gcc": "libgcc_s.so.1",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    places = [str(tmp_path / name) for name in ("conda", "cuda", "other", "gcc", "nowhere")]
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        given = {name: os.pathsep.join([*places, "", "relative"])}
        assert julia_environment(given) == {name: places[1]}
        assert julia_environment({name: places[0]}) == {}, "an empty entry would mean the current folder"
    assert not shadows_julia(places[1])
    monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join(places[:2]))
    assert any(
        what == "LD_LIBRARY_PATH for Julia" and places[0] in told for what, _, told in doctor._kept_from_julia_rows()
    )


# --- no home -----------------------------------------------------------------------------------------------------


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No HOME and no entry in the list of users, as in a container with ``--user 54321``."""

    def fail(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    for variable in (
        "HOME",
        "PYGAN_DATA_DIR",
        "PYGAN_JULIA_ENV",
        "JULIA_DEPOT_PATH",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
    ):
        monkeypatch.delenv(variable, raising=False)
    for name in ("user_cache_path", "user_data_path"):
        monkeypatch.setattr(f"platformdirs.{name}", fail)
    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_every_place_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, error, words in (
        (registry.cache_dir, DataError, "set HOME, XDG_CACHE_HOME or PYGAN_DATA_DIR"),
        (environment_dir, JuliaNotFound, "set HOME, XDG_DATA_HOME or PYGAN_JULIA_ENV"),
        (julia_depot, JuliaNotFound, "set HOME or JULIA_DEPOT_PATH"),
        (find_julia, JuliaNotFound, "no home folder"),
    ):
        with pytest.raises(error, match=words):
            place()
    with pytest.raises(DataError, match="were not found"):
        load("mnist")
    monkeypatch.setattr(dataset, "_CHEAP", 5)
    monkeypatch.setattr(digits, "make", lambda split, progress: digits.generate(0, 30, split, progress))
    assert len(load("digits", limit=22).images) == 22, "made anew, and kept nowhere"
    monkeypatch.setenv(registry.ENV_DIR, str(tmp_path))
    assert registry.search_dirs() == [tmp_path]


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("words", [["doctor"], ["data", "list"], ["julia", "status"], ["data", "fetch", "digits"]])
def test_without_a_home_no_command_shows_a_traceback(monkeypatch, capfd, words: list[str]) -> None:
    from run_pygan import runner

    code, out, err = runner(monkeypatch, capfd)(*words)
    assert code in (0, 2) and "Traceback" not in out + err
    assert "no home folder" in out + err


def test_a_home_that_may_not_be_read_hides_no_command(monkeypatch: pytest.MonkeyPatch, pygan: Pygan) -> None:
    """``Path.is_file`` and ``Path.exists`` raise where a folder above is forbidden."""
    real = os.stat

    def stat(path: object, *rest: object, **named: object) -> os.stat_result:
        if "forbidden" in os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else False:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "cache_dir", lambda: Path("/forbidden/cache"))
    monkeypatch.setattr(os, "stat", stat)
    code, out, err = pygan("data", "list")
    assert (code, err) == (0, "") and "not here" in out
    assert doctor._disk_row("disk: data", Path("/forbidden/cache"), 1)[0] == "disk: data"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare to make a user without a home")
def test_a_user_without_a_home_is_told_so(tmp_path: Path) -> None:
    words = ["unshare", "-U", "--map-user=54321", "--map-group=54321", "env", "-i", f"PATH={os.environ['PATH']}"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    root = Path(flux_stack.__file__).parents[2]
    done = subprocess.run(
        [*words, f"PYTHONPATH={root}", sys.executable, "-m", "pygan", "doctor"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 2) and "no home folder: set HOME, XDG_CACHE_HOME" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
