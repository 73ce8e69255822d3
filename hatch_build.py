"""Build hook of the wheel: ships the Julia package as ``pygan/_julia`` and points ``pygan/juliapkg.json`` to it.

An editable install gets neither: there ``pygan.resources`` and the checkout's own ``juliapkg.json`` find ``julia/``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ("Project.toml", "train.jl", "src/**/*.jl", "ext/**/*.jl", "share/*")
"""What of ``julia/`` belongs into a wheel: no Manifest (it is a machine's), no tests."""


class JuliaFiles(BuildHookInterface[Any]):
    """Adds the files when a wheel is built that is to be installed as it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; called before the wheel is written."""
        if version != "standard":
            return
        root = Path(self.root)
        julia = root / "julia"
        files = [path for pattern in SHIPPED for path in sorted(julia.glob(pattern)) if path.is_file()]
        shipped = {str(path): f"pygan/_julia/{path.relative_to(julia).as_posix()}" for path in files}
        self._folder = tempfile.mkdtemp(prefix="pygan-wheel-")
        described = json.loads((root / "pygan" / "juliapkg.json").read_text(encoding="utf-8"))
        described["packages"]["PyganFlux"]["path"] = "_julia"
        moved = Path(self._folder) / "juliapkg.json"
        moved.write_text(json.dumps(described, indent=4) + "\n", encoding="utf-8")
        build_data["force_include"].update({**shipped, str(moved): "pygan/juliapkg.json"})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what ``initialize`` wrote."""
        if version == "standard":
            shutil.rmtree(self._folder, ignore_errors=True)
