"""Finding Julia and the environment of the flux worker, without starting or downloading anything.

Order: ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT``; then ``julia`` on PATH with the worker environment
(``PYGAN_JULIA_ENV``, else a folder of the user's data directory); then what juliapkg has already resolved.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs

from pygan.errors import JuliaNotFound
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
        path = Path(self.project) / "Manifest.toml"
        try:
            manifest = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise JuliaNotFound(
                f"{path} cannot be read ({error}). Make the environment with:\n"
                f"  {setup_command(self.project, self.executable)}"
            ) from error
        found = {name: entry[0].get("version", "") for name, entry in manifest.get("deps", {}).items()}
        return {"julia": str(manifest.get("julia_version", "")), **found}

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
        if faults:
            raise JuliaNotFound(
                f"the Julia environment {self.project} does not serve: {'; '.join(faults)}. Mend it with:\n"
                f"  {setup_command(self.project, self.executable)}"
            )
        return versions


def environment_dir() -> Path:
    """Folder of the worker environment for a ``julia`` on PATH."""
    chosen = os.environ.get("PYGAN_JULIA_ENV")
    return Path(chosen) if chosen else platformdirs.user_data_path("pygan") / f"julia-{PINS['julia']}"


def setup_command(project: str | Path | None = None, executable: str = "julia") -> str:
    """The one command, for a shell, that makes or mends the worker environment (or another ``project``)."""
    script = (
        f'using Pkg; Pkg.develop(path="{julia_dir().as_posix()}"); '
        f'Pkg.add(name="PythonCall", version="{metadata.version("juliacall")}"); Pkg.precompile()'
    )
    return shlex.join([executable, f"--project={project or environment_dir()}", "-e", script])


def _juliapkg_project() -> tuple[str, str] | None:
    """``(executable, project)`` that juliapkg resolved earlier, read from its own record."""
    project = Path(os.environ.get("PYTHON_JULIAPKG_PROJECT") or Path(sys.prefix) / "julia_env")
    record = project / ".pkg" / "lock.pid"
    if not (project / "Manifest.toml").exists() or not record.parent.exists():
        return None
    name = "julia.exe" if os.name == "nt" else "julia"
    own = project / "pyjuliapkg" / "install" / "bin" / name
    executable = str(own) if own.exists() else shutil.which("julia")
    return (executable, str(project)) if executable else None


def find_julia() -> JuliaSetup:
    """The Julia to use. Raises ``JuliaNotFound`` that says how to get one."""
    executable, project = os.environ.get("PYTHON_JULIACALL_EXE"), os.environ.get("PYTHON_JULIACALL_PROJECT")
    if executable and project:
        resolved = shutil.which(executable)
        if resolved is None:
            raise JuliaNotFound(f"PYTHON_JULIACALL_EXE = {executable} is no executable file")
        return JuliaSetup(resolved, project, "PYTHON_JULIACALL_EXE")
    on_path = shutil.which("julia")
    if on_path and (environment_dir() / "Manifest.toml").exists():
        return JuliaSetup(on_path, str(environment_dir()), "julia on PATH")
    resolved_by_juliapkg = _juliapkg_project()
    if resolved_by_juliapkg:
        return JuliaSetup(*resolved_by_juliapkg, "juliapkg")
    if on_path:
        raise JuliaNotFound(
            f"{on_path} is there, but not the environment of the flux worker. Make it with:\n  {setup_command()}"
        )
    raise JuliaNotFound(
        f"no Julia found. Install Julia {PINS['julia']} (https://julialang.org/downloads), put it on PATH, then run:\n"
        f"  {setup_command()}"
    )
