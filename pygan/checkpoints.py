"""Checkpoints: all that a run needs to go on exactly, each one unit on disk.

A checkpoint is a folder ``step-000000400``: ``state.safetensors`` (what :meth:`pygan.stacks.Stack.checkpoint` gives)
and, written last, ``manifest.json`` with the file's size and SHA-256. It is written beside its place, synced, renamed,
and the folder above synced, so that one which is there is whole unless the disk damaged it; the hash tells.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from pygan.divergence import Watch
from pygan.errors import StateError
from pygan.files import TEMPORARY, cannot_write, sha256, sync_folder
from pygan.records import Arrays
from pygan.stacks import Stack

SCHEMA = 1
FOLDER = "checkpoints"
SECONDS = 120.0
"""Without a number of steps a checkpoint is written so often: a killed run loses at most the work of this time."""
KEPT = 2
STATE, MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """The ``arrays`` from which step number ``step`` starts, and where the run had first diverged, if it had."""

    step: int
    arrays: Arrays
    diverged: str = ""


class Checkpoints:
    """The checkpoints of the run in ``folder``: every ``every`` steps, or where that is 0 every two minutes."""

    def __init__(self, folder: Path, every: int = 0, watch: Watch | None = None) -> None:
        self.folder = folder / FOLDER
        self._every, self._watch = every, watch
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Is it time for one before ``step``?"""
        return step % self._every == 0 if self._every else time.monotonic() - self._last >= SECONDS

    def save(self, step: int, stack: Stack) -> None:
        """Write the checkpoint from which ``step`` starts, and remove all but the newest :data:`KEPT`.

        Raises ``OutputError`` where it cannot be written; older ones then stay. Raises ``Diverged`` where the state is
        not finite and the run is to stop there.
        """
        arrays = stack.checkpoint()
        if self._watch is not None:
            self._watch.state(step - 1, arrays)
        target = self.folder / f"step-{step:09d}"
        try:
            self._write(target, step, arrays)
            self.keep(KEPT)
        except OSError as error:
            raise cannot_write(target, error) from error
        self._last = time.monotonic()

    def _write(self, target: Path, step: int, arrays: Arrays) -> None:
        content = to_safetensors({key: np.asarray(value, order="C") for key, value in arrays.items()})
        manifest = {
            "schema": SCHEMA,
            "step": step,
            "diverged": self._watch.first if self._watch else "",
            "files": {STATE: {"bytes": len(content), "sha256": sha256(content)}},
        }
        temporary = self.folder / f".{target.name}{TEMPORARY}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write_synced(temporary / STATE, content)
            _write_synced(temporary / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            sync_folder(temporary)
            if target.exists():  # of the run that this one goes on with, and damaged or the same
                shutil.rmtree(target)
            os.rename(temporary, target)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def keep(self, count: int) -> None:
        """Remove all but the newest ``count``."""
        for path in self._paths()[count:]:
            shutil.rmtree(path, ignore_errors=True)

    def _paths(self) -> list[Path]:
        """Folders of all that are there, newest first."""
        return sorted((path for path in self.folder.glob("step-*") if path.name[5:].isdecimal()), reverse=True)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole one, None where there is none, and what is wrong with each newer one."""
        faults: list[str] = []
        for path in self._paths():
            try:
                return read(path), faults
            except StateError as error:
                faults.append(str(error))
        return None, faults


def read(folder: Path) -> Checkpoint:
    """The checkpoint at ``folder``. Raises ``StateError`` naming file and fault."""
    try:
        manifest: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise StateError(f"{folder} has schema {manifest['schema']}; this pygan reads schema {SCHEMA}")
        content = (folder / STATE).read_bytes()
        if sha256(content) != manifest["files"][STATE]["sha256"]:
            raise StateError(f"{folder / STATE} is damaged: its SHA-256 is not the one in {MANIFEST}")
        return Checkpoint(int(manifest["step"]), from_safetensors(content), str(manifest["diverged"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StateError(f"cannot read the checkpoint {folder}: {error}") from error


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
