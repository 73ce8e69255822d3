"""``pygan julia``: make, show and remove the Julia environment of the flux worker."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Annotated

import typer

from pygan.cli.output import Row, console, show_rows
from pygan.errors import JuliaNotFound, PyganError
from pygan.processes import julia_environment, python_environment
from pygan.stacks.julia_setup import (
    PINS,
    JuliaSetup,
    environment_dir,
    find_julia,
    julia_depot,
    julia_on_path,
    juliapkg_project,
    remove_environment,
    setup_words,
    shell_line,
)

app = typer.Typer(
    help="Make, show and remove the Julia environment that live Flux runs in.",
    no_args_is_help=True,
)

JULIA_SIZE, PACKAGE_SIZE = "about 500 MB", "about 400 MB"
"""Roughly what Julia 1.10 takes unpacked, and what Flux, PythonCall and their compiled code take in an empty depot."""

_RESOLVE = """
import juliapkg, subprocess, sys
try:
    juliapkg.resolve(force=True)
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode)
except Exception as error:
    sys.exit(f"ERROR: {error}")
"""

_LAST_LINES = 15


@app.command()
def setup(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Let juliapkg download Julia itself if need be.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Make it anew even if it already serves.")] = False,
) -> None:
    """Make the environment of the flux worker, by the command that doctor prints; Julia's own output is shown.

    Without Julia 1.10 on PATH, juliapkg downloads it, but only with --yes.

    With JULIA_PKG_OFFLINE=true or PYTHON_JULIAPKG_OFFLINE=yes nothing is downloaded.
    """
    with contextlib.suppress(JuliaNotFound):
        found = find_julia()
        found.check()
        if not again:
            console.print(f"{found.project} already serves; nothing to do (--again makes it anew)", markup=False)
            return
    executable, project = os.environ.get("PYTHON_JULIACALL_EXE"), os.environ.get("PYTHON_JULIACALL_PROJECT")
    if not (executable and project):
        executable, project = julia_on_path(), str(environment_dir())
    version = julia_version(executable) if executable else None
    if executable and version and version.startswith(f"{PINS['julia']}."):
        _make(executable, version, project)
    else:
        _have_juliapkg_get_julia(_what_is_wrong(executable, version), yes)
    made = find_julia()
    versions = made.check()
    console.print(f"ready: Julia {versions['julia']} with Flux {versions['Flux']} in {made.project}", markup=False)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False) -> None:
    """Show which Julia and which environment live Flux would use. Exit code 0 if it can run, else 2."""
    rows = julia_rows()
    show_rows(rows, as_json)
    if any(state in ("gap", "broken") for _, state, _ in rows):
        sys.exit(PyganError.exit_code)


@app.command()
def remove() -> None:
    """Delete the environment that setup made, and nothing else; Julia and its packages stay in Julia's own folders."""
    gone = remove_environment()
    for path in gone:
        console.print(f"removed {path}", markup=False)
    if not gone:
        console.print(f"there is no environment in {environment_dir()}", markup=False)
    if (juliapkg_project() / "Manifest.toml").exists():
        console.print(f"{juliapkg_project()} is juliapkg's and stays", markup=False)


def julia_rows() -> list[Row]:
    """What there is for live Flux, against the pins."""
    try:
        juliacall = metadata.version("juliacall")
    except metadata.PackageNotFoundError:
        return [("juliacall pin", "broken", f"pip install juliacall=={PINS['PythonCall']}")]
    state = "ok" if juliacall == PINS["PythonCall"] else "broken"
    rows: list[Row] = [("juliacall pin", state, f"{juliacall}, traces were made with {PINS['PythonCall']}")]
    try:
        found = find_julia()
        versions = found.check()
    except PyganError as error:
        return [*rows, ("julia", "gap", f"live Flux is off, recorded Flux works: {error}")]
    rows += [_executable_row(found, versions), ("julia environment", "ok", found.project)]
    return rows + [
        (name, "ok", versions[name])
        for name in ("Flux", "NNlib", "Zygote", "Optimisers", "PythonCall")
        if name in versions
    ]


def _executable_row(found: JuliaSetup, versions: Mapping[str, str]) -> Row:
    """The program answers, and it is of the minor version that made the environment."""
    version = julia_version(found.executable)
    if version is None or not version.startswith(f"{PINS['julia']}."):
        return "julia", "gap", f"live Flux is off, recorded Flux works: {_what_is_wrong(found.executable, version)}"
    made_by = "" if version == versions["julia"] else f"; the environment was made by {versions['julia']}"
    return "julia", "ok", f"{version} at {found.executable} ({found.source}){made_by}"


def julia_version(executable: str) -> str | None:
    """What ``executable --version`` answers within 20 seconds (juliaup's launcher may be slow), if it is a Julia."""
    try:
        words = subprocess.run(
            [executable, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=True
        ).stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return words[2] if words[:2] == ["julia", "version"] and len(words) > 2 else None


def _what_is_wrong(executable: str | None, version: str | None) -> str:
    if executable is None:
        return f"There is no julia on PATH; Julia {PINS['julia']} is needed."
    if version is None:
        return f"{executable} does not answer --version as Julia does; Julia {PINS['julia']} is needed."
    return (
        f"{executable} is Julia {version}; the traces and pins are of Julia {PINS['julia']}. If you have that one too, "
        "name it with PYGAN_JULIA (juliaup: `juliaup add 1.10`, then JULIAUP_CHANNEL=1.10)."
    )


def _offline() -> bool:
    asked = (os.environ.get("JULIA_PKG_OFFLINE", ""), os.environ.get("PYTHON_JULIAPKG_OFFLINE", ""))
    return any(value.lower() in ("1", "true", "yes", "t", "y") for value in asked)


def _make(executable: str, version: str, project: str) -> None:
    """Run the setup command with a Julia that is here."""
    words = setup_words(project, executable)
    console.print(f"making {project} for Julia {version} ({executable})", markup=False)
    where = f"packages and compiled code go to {julia_depot()}: {PACKAGE_SIZE} if it has none of them, some minutes"
    console.print("offline: only what is already in the depot is used" if _offline() else where, markup=False)
    console.print(shell_line(words), style="dim", markup=False)
    _run(words, {"JULIA_PKG_OFFLINE": "true"} if _offline() else {})


def _have_juliapkg_get_julia(why: str, yes: bool) -> None:
    """Let juliapkg bring Julia and make its own environment, by the ``juliapkg.json`` files of pygan and juliacall."""
    place = juliapkg_project()
    size = f"{JULIA_SIZE}, and {PACKAGE_SIZE} of packages to {julia_depot()}"
    if _offline():
        raise JuliaNotFound(f"{why} Nothing can be downloaded: offline is set. Install it, or unset offline.")
    if not yes:
        raise JuliaNotFound(
            f"{why} Install it (https://julialang.org/downloads) and run this again, or let juliapkg download it to "
            f"{place} ({size}):\n  pygan julia setup --yes"
        )
    console.print(f"{why} juliapkg downloads Julia {PINS['julia']} to {place}: {size}", markup=False)
    _run([sys.executable, "-P", "-u", "-c", _RESOLVE], {})


def _run(words: Sequence[str], variables: Mapping[str, str]) -> None:
    """Run a program and show what it prints as it comes; ``JuliaNotFound`` with its last words if it fails."""
    last: collections.deque[str] = collections.deque(maxlen=1000)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**julia_environment(python_environment()), "JULIA_CONDAPKG_BACKEND": "Null", **variables},
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise JuliaNotFound(f"cannot run {words[0]}: {error.strerror}") from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                console.file.write(line)
                console.file.flush()
                last.append(line)
            code = process.wait()
        except BaseException:  # Ctrl-C reaches the program too; it gets a moment to end by itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            raise
    if code:
        raise JuliaNotFound(f"{words[0]} failed (exit code {code}). Its last words:\n{_last_words(last)}")


def _last_words(lines: Iterable[str]) -> str:
    """The last error and the lines that explain it, else the last lines: a stack trace must not hide the error."""
    text = [line.rstrip() for line in lines]
    start = max((number for number, line in enumerate(text) if line.startswith("ERROR")), default=-_LAST_LINES)
    return "\n".join(text[start:][:_LAST_LINES]).strip()
