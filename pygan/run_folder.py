"""The folder of a run: one process writes into it at a time, and ``run.json`` says how to go on with it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pygan.errors import ConfigError, OutputError
from pygan.files import cannot_write, remove_temporaries, sha256_file, write_json

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not told apart there
    fcntl = None  # type: ignore[assignment]

SCHEMA = 1
RUN_FILE = "run.json"
LOCK_FILE = ".pygan-lock"


class HeldFolder:
    """A folder that this process alone writes into (:func:`held`)."""

    def __init__(self, path: Path, inode: int) -> None:
        self.path, self._inode = path, inode

    def check(self) -> None:
        """Raise ``OutputError`` if the folder was removed or replaced since it was taken."""
        if not _is_file(self.path / LOCK_FILE, self._inode):
            raise OutputError(
                f"{self.path} was removed or replaced while the run was writing into it, so the run ends here. "
                "What it wrote is where the folder has gone."
            )


@contextlib.contextmanager
def held(path: Path) -> Iterator[HeldFolder]:
    """Take the folder ``path``, made where it is missing, for this process alone, and clear what a killed run left
    half written.

    The lock is the system's and dies with the process. Raises ``OutputError`` where another process has it, or the
    folder cannot be written.
    """
    made = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    inode = os.fstat(descriptor).st_ino
    try:
        remove_temporaries(path)
        yield HeldFolder(path, inode)
    finally:
        if _is_file(path / LOCK_FILE, inode):
            (path / LOCK_FILE).unlink()
        os.close(descriptor)
        for folder in made:  # nothing was kept in it: leave no empty folder
            with contextlib.suppress(OSError):
                folder.rmdir()


def _locked(path: Path) -> int:
    """An open descriptor of the folder's lock file, locked."""
    while True:
        descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OutputError(
                f"{path} is in use: another pygan run is writing into it. Wait for its end, or choose another folder "
                "with --out."
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        if _is_file(path / LOCK_FILE, os.fstat(descriptor).st_ino):
            return descriptor
        os.close(descriptor)  # its holder removed it in this moment


def _is_file(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


@dataclass(frozen=True)
class StoredRun:
    """What ``run.json`` keeps: the ``command`` with its ``arguments``, the whole ``config``, how the ``recipe`` was
    named, facts of the ``data``, the SHA-256 of a user's own recipe ``files`` by path, and what was ``typed``."""

    command: str
    arguments: Mapping[str, Any]
    config: Mapping[str, Any]
    recipe: str
    data: Mapping[str, Any]
    files: Mapping[str, str]
    typed: str

    def write(self, folder: Path) -> None:
        """Store it in ``folder``."""
        write_json(folder / RUN_FILE, {"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def read(folder: Path) -> StoredRun:
        """The run stored in ``folder``. Raises ``ConfigError`` naming file and fault."""
        path = folder / RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != SCHEMA:
                raise ValueError(f"this pygan reads schema {SCHEMA}")
            stored = StoredRun(**content)
            if not all(isinstance(one, dict) for one in (stored.arguments, stored.config, stored.data, stored.files)):
                raise ValueError("a table is missing")
            return stored
        except FileNotFoundError:
            raise ConfigError(
                f"--resume {folder}: there is no {RUN_FILE}, so no run that could be gone on with"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"--resume {folder}: cannot read {path}: {error}") from error


def recipe_files(config: Any) -> dict[str, str]:
    """SHA-256 of the files of a user's own recipe by path; empty for pygan's."""
    from pygan.recipes.own import own_files

    return {str(path): sha256_file(path) for path in own_files(type(config))}
