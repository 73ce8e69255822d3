"""Finding Julia and the environment of the flux worker, without starting or downloading anything.

Order: ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT``; then ``julia`` on PATH (or ``PYGAN_JULIA``, a name
or path of another one) with the worker environment (``PYGAN_JULIA_ENV``, else a folder of the user's data directory);
then what juliapkg has already resolved.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from pygan.errors import JuliaNotFound, OutputError
from pygan.files import read_json
from pygan.resources import julia_dir

PINS = {"julia": "1.10", "Flux": "0.16.9", "PythonCall": "0.9.34"}
"""Julia's minor version, Flux and PythonCall that the committed traces were recorded with."""


@dataclass(frozen=True)
class JuliaSetup:
    """A Julia executable and a project that holds PythonCall and PyganFlux; ``source`` says how it was found."""

    executable: str
    project: str
    source: str

    def environment(self) -> dict[str, str]:
        """Environment variables that make juliacall use exactly this Julia, with one Julia thread."""
        return {
            "PYTHON_JULIACALL_EXE": self.executable,
            "PYTHON_JULIACALL_PROJECT": self.project,
            "PYTHON_JULIACALL_THREADS": "1",
            "PYTHON_JULIACALL_HANDLE_SIGNALS": "no",
            "JULIA_NUM_THREADS": "1",
            "JULIA_CONDAPKG_BACKEND": "Null",
        }

    def versions(self) -> dict[str, str]:
        """Versions in the project's Manifest by package name. Raises ``JuliaNotFound`` if there is no Manifest."""
        manifest = self._manifest()
        found = {name: entry[0].get("version", "") for name, entry in manifest.get("deps", {}).items()}
        return {"julia": str(manifest.get("julia_version", "")), **found}

    def _manifest(self) -> dict[str, Any]:
        path = Path(self.project) / "Manifest.toml"
        try:
            manifest = tomllib.loads(path.read_text(encoding="utf-8"))
            for entries in manifest.get("deps", {}).values():
                if not all(isinstance(entries[0].get(key, ""), str) for key in ("version", "path")):
                    raise ValueError("a version or path in it is no text")
            return manifest
        except (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
            raise JuliaNotFound(
                f"{path} cannot be read ({error}). Make the environment with:\n"
                f"  {setup_command(self.project, self.executable)}"
            ) from error

    def _other_checkout(self) -> str:
        """Where PyganFlux is developed from, if that is not this pygan's Julia package; else empty."""
        entry = self._manifest().get("deps", {}).get("PyganFlux", [{}])[0]
        if "path" not in entry:
            return ""
        developed = (Path(self.project) / entry["path"]).resolve()
        return "" if developed == julia_dir().resolve() else str(developed)

    def check(self) -> dict[str, str]:
        """The versions, after a check against the pins and juliacall. Raises ``JuliaNotFound`` naming the fix."""
        versions = self.versions()
        faults = [f"{name} is not in it" for name in ("Flux", "PythonCall", "PyganFlux") if name not in versions]
        wanted = metadata.version("juliacall")
        if versions.get("PythonCall", wanted) != wanted:
            faults.append(f"PythonCall is {versions['PythonCall']} but juliacall is {wanted}; they must be equal")
        if versions.get("Flux", PINS["Flux"]) != PINS["Flux"]:
            faults.append(f"Flux is {versions['Flux']}, the recipes are written for {PINS['Flux']}")
        if not versions["julia"].startswith(PINS["julia"] + "."):
            faults.append(f"it was made by Julia {versions['julia']}, wanted {PINS['julia']}")
        if other := self._other_checkout():
            faults.append(f"it runs the Julia code in {other}, this pygan's is in {julia_dir()}")
        if faults:
            raise JuliaNotFound(
                f"the Julia environment {self.project} does not serve: {'; '.join(faults)}. Mend it with:\n"
                f"  {setup_command(self.project, self.executable)}"
            )
        return versions


def environment_dir() -> Path:
    """Folder of the worker environment for a ``julia`` on PATH. Raises ``JuliaNotFound`` where there is no home."""
    chosen = os.environ.get("PYGAN_JULIA_ENV")
    if chosen:
        return Path(chosen)
    try:
        return platformdirs.user_data_path("pygan") / f"julia-{PINS['julia']}"
    except RuntimeError as error:
        raise JuliaNotFound("no home folder: set HOME, XDG_DATA_HOME or PYGAN_JULIA_ENV") from error


def setup_words(project: str | Path | None = None, executable: str | None = None) -> list[str]:
    """Program and arguments of :func:`setup_command`."""
    script = "using Pkg; Pkg.develop(path=ARGS[1]); Pkg.add(name=ARGS[2], version=ARGS[3]); Pkg.precompile()"
    arguments = [julia_dir().as_posix(), "PythonCall", metadata.version("juliacall")]
    program = executable or os.environ.get("PYGAN_JULIA") or "julia"
    return [program, f"--project={project or environment_dir()}", "--startup-file=no", "-e", script, *arguments]


def setup_command(project: str | Path | None = None, executable: str | None = None) -> str:
    """The one command, for a shell, that makes or mends the worker environment (or another ``project``)."""
    return shell_line(setup_words(project, executable))


def shell_line(words: Sequence[str], windows: bool = os.name == "nt") -> str:
    """``words`` quoted for a POSIX shell, or on Windows for cmd and PowerShell (words that hold no ``"`` or ``%``).

    A program whose path holds a space is then in quotes too, and PowerShell wants ``& `` before it.

    >>> print(shell_line(["julia", "--project=my env", "-e", "using Flux"], windows=False))
    julia '--project=my env' -e 'using Flux'
    >>> print(shell_line(["julia", "--project=my env", "-e", "using Flux"], windows=True))
    julia "--project=my env" -e "using Flux"
    """
    if not windows:
        return shlex.join(words)
    return " ".join(word if re.fullmatch(r"[\w.:/\\+-]+", word) else f'"{word}"' for word in words)


_ENVIRONMENT_FILES = {"Project.toml", "Manifest.toml", f"Manifest-v{PINS['julia']}.toml", "LocalPreferences.toml"}
_ENVIRONMENT_PACKAGES = {"PyganFlux", "PythonCall", "CUDA", "cuDNN"}


def remove_environment() -> list[Path]:
    """Delete the worker environment (:func:`environment_dir`); returns the files that were deleted, if any.

    Raises ``OutputError`` and deletes nothing where the folder holds anything that such an environment does not.
    """
    folder = environment_dir()
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from error
    own = {name for name in _ENVIRONMENT_FILES if (folder / name).is_file()}
    faults = [f"it holds {name}" for name in names if name not in own]
    if folder.is_symlink():
        faults.append("it is a link")
    if "Project.toml" in names:
        try:
            packages = tomllib.loads((folder / "Project.toml").read_text(encoding="utf-8")).get("deps", {})
            faults += [f"its project has the package {name}" for name in sorted(set(packages) - _ENVIRONMENT_PACKAGES)]
            if packages and "PyganFlux" not in packages:
                faults.append("its project lacks PyganFlux")
        except (OSError, ValueError) as error:
            faults.append(f"its Project.toml cannot be read ({error})")
    elif names:
        faults.append("it holds no Project.toml")
    if faults:
        raise OutputError(
            f"{folder} does not look like an environment that pygan made: {'; '.join(faults)}. Nothing was deleted; "
            "delete it yourself if it is no longer needed."
        )
    try:
        for name in names:
            (folder / name).unlink()
        folder.rmdir()
    except OSError as error:
        raise OutputError(f"cannot delete {error.filename}: {error.strerror}") from error
    return [folder / name for name in names]


def julia_on_path() -> str | None:
    """``julia`` on PATH, or what ``PYGAN_JULIA`` names in its place (``JuliaNotFound`` if that is no program)."""
    chosen = os.environ.get("PYGAN_JULIA")
    found = shutil.which(chosen or "julia")
    if chosen and not found:
        raise JuliaNotFound(f"PYGAN_JULIA = {chosen} is no executable file")
    return found


def juliapkg_project() -> Path:
    """Where juliapkg keeps its project and, unless it uses another, its Julia. The rule of its ``state.py``."""
    chosen = sys._xoptions.get("juliapkg-project") or os.environ.get("PYTHON_JULIAPKG_PROJECT")
    if isinstance(chosen, str):
        return Path(chosen)
    prefix = sys.prefix if sys.prefix != sys.base_prefix else os.environ.get("CONDA_PREFIX")
    return Path(prefix).absolute() / "julia_env" if prefix else julia_depot() / "environments" / "pyjuliapkg"


def julia_depot() -> Path:
    """The first Julia depot, where packages and compiled code are put."""
    first = os.environ.get("JULIA_DEPOT_PATH", "").split(os.pathsep)[0]
    if first:
        return Path(first).absolute()
    try:
        return Path.home() / ".julia"
    except RuntimeError as error:
        raise JuliaNotFound("no home folder: set HOME or JULIA_DEPOT_PATH") from error


def _resolved_by_juliapkg() -> tuple[str, str] | None:
    """``(executable, project)`` that juliapkg resolved earlier, read from the ``meta.json`` that it leaves."""
    project = juliapkg_project()
    try:
        meta = read_json(project / "pyjuliapkg" / "meta.json")
        executable = shutil.which(meta["executable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (executable, str(project)) if executable and (project / "Manifest.toml").exists() else None


def find_julia() -> JuliaSetup:
    """The Julia to use. Raises ``JuliaNotFound`` that says how to get one."""
    executable, project = os.environ.get("PYTHON_JULIACALL_EXE"), os.environ.get("PYTHON_JULIACALL_PROJECT")
    if executable and project:
        resolved = shutil.which(executable)
        if resolved is None:
            raise JuliaNotFound(f"PYTHON_JULIACALL_EXE = {executable} is no executable file")
        return JuliaSetup(resolved, project, "PYTHON_JULIACALL_EXE")
    on_path = julia_on_path()
    if on_path and (environment_dir() / "Manifest.toml").exists():
        source = "PYGAN_JULIA" if os.environ.get("PYGAN_JULIA") else "julia on PATH"
        return JuliaSetup(on_path, str(environment_dir()), source)
    from_juliapkg = _resolved_by_juliapkg()
    if from_juliapkg:
        return JuliaSetup(*from_juliapkg, "juliapkg")
    if on_path:
        raise JuliaNotFound(
            f"{on_path} is there, but not the environment of the flux worker. "
            f"Make it with `pygan julia setup`, which runs:\n  {setup_command()}"
        )
    raise JuliaNotFound(
        f"no Julia found. Install Julia {PINS['julia']} (https://julialang.org/downloads), put it on PATH, then run "
        f"`pygan julia setup`, which runs:\n  {setup_command()}"
    )
