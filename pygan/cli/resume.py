"""``--resume`` and what it needs: the folder taken, the run described in it, and the checkpoint to go on from."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pygan.cli.output import say, say_diverged, warn
from pygan.data.registry import NAMES
from pygan.errors import ConfigError, Diverged, StateError
from pygan.run_folder import RUN_FILE, HeldFolder, StoredRun, held, recipe_files

if TYPE_CHECKING:
    from pygan.checkpoints import Checkpoint, Checkpoints
    from pygan.data import Dataset
    from pygan.divergence import Watch
    from pygan.stacks import Stack

FREE = frozenset({"resume", "steps", "checkpoint_every", "on_nan", "fps", "data_dir"})
"""Options that may be given anew with ``--resume``: they change no number of a step."""


class OnNan(StrEnum):
    """What a training does where its numbers are not finite any more."""

    stop = "stop"
    go_on = "continue"


ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="Go on with the run in this folder, exactly as if it had never stopped. All is stored there; of the other "
        "options only --steps, --fps, --data-dir, --checkpoint-every and --on-nan may be given.",
    ),
]
CheckpointOption = Annotated[
    int, typer.Option("--checkpoint-every", min=0, help="Steps between two checkpoints; 0: one every two minutes.")
]
OnNanOption = Annotated[
    OnNan,
    typer.Option("--on-nan", help="At the first number that is not finite: stop, or continue. Exit code 4 either way."),
]


def stored_values(
    folder: Path, command: str, given: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Config and arguments of the run in ``folder``, which ``command`` is to go on with.

    ``given``: the options on the command line, ``config``: the config fields that it sets. Raises ``ConfigError``
    where one of them contradicts the run, which names both.
    """
    run = StoredRun.read(folder)
    if run.command != command:
        raise ConfigError(f"--resume {folder}: that run is of pygan {run.command}, not of pygan {command}")
    known = {**run.arguments, "out": str(folder)}
    asked = {name: _plain(name, value) for name, value in given.items() if name not in FREE and name in known}
    pairs = [(name, value, known[name]) for name, value in asked.items()]
    pairs += [(name, value, run.config.get(name)) for name, value in config.items()]
    faults = [
        f"--{name.replace('_', '-')} is {theirs!r} there, {value!r} here"
        for name, value, theirs in pairs
        if value != theirs
    ]
    if faults:
        raise ConfigError(
            f"--resume {folder} goes on with the run as it was: {'; '.join(faults)}. Leave these options out, or start "
            "a run in another folder."
        )
    return run.config, {name: _read(name, value) for name, value in known.items() if name not in given}


def _plain(name: str, value: Any) -> Any:
    """An argument as ``run.json`` has it; a folder of images is named so that it is found from anywhere."""
    folder = name == "data_dir" or (name == "data" and value not in NAMES)
    if folder and value is not None:
        return str(Path(value).resolve())
    return str(value) if isinstance(value, Path | StrEnum) else value


def _read(name: str, value: Any) -> Any:
    return Path(value) if name in ("out", "data_dir") and value is not None else value


class Kept:
    """A run that is kept so that it can be gone on with."""

    def __init__(
        self, run: StoredRun, folder: HeldFolder, checkpoints: Checkpoints, watch: Watch, checkpoint: Checkpoint | None
    ) -> None:
        self.typed = run.typed
        """The command that began the run."""
        self.folder, self.watch, self._checkpoint = folder, watch, checkpoint
        self.checkpoints: Checkpoints | None = checkpoints
        self.first = checkpoint.step if checkpoint else 0
        """The step at which it goes on."""

    def start(self, stack: Stack) -> None:
        """Give ``stack`` the state to go on from; say so where what it holds cannot be stored."""
        if self._checkpoint is not None:
            stack.restore(self._checkpoint.arrays)
            return
        try:
            stack.checkpoint()
        except StateError as error:
            warn(f"{error}; so no checkpoints are kept")
            self.checkpoints = None

    def save(self, step: int, stack: Stack, finished: bool = False) -> None:
        """A checkpoint from which ``step`` starts; of a finished run it is the only one that stays."""
        self.folder.check()
        if self.checkpoints is not None:
            self.checkpoints.save(step, stack)
            if finished:
                self.checkpoints.keep(1)


def stored_run(command: str, config: Any, recipe: str, dataset: Dataset, **arguments: Any) -> StoredRun:
    """What ``run.json`` is to say of a run. A recipe of one's own is named by its place, from anywhere."""
    files = recipe_files(config)
    named = str(Path(recipe).resolve()) if files else recipe
    plain = {name: _plain(name, value) for name, value in arguments.items()}
    typed = "pygan " + shlex.join(sys.argv[1:])
    return StoredRun(command, plain, config.to_dict(), named, dataset.facts(), files, typed)


@contextlib.contextmanager
def kept_run(run: StoredRun, out: Path, trace: Path, resume: bool) -> Iterator[Kept]:
    """Take the folder ``out`` for ``run``, new or to ``resume``, whose trace is the folder ``trace``.

    Raises ``OutputError`` where another process has the folder, ``ConfigError`` where the run cannot be gone on with.
    """
    from pygan.checkpoints import Checkpoints
    from pygan.divergence import Watch
    from pygan.files import remove_temporaries
    from pygan.traces import refuse_existing, remove_trace

    with held(out) as folder:
        watch = Watch(run.arguments["on_nan"] == OnNan.stop, say_diverged, warn=warn)
        checkpoints = Checkpoints(out, run.arguments["checkpoint_every"], watch)
        checkpoint = None
        if resume:
            stored = StoredRun.read(out)
            run = replace(run, typed=stored.typed)
            checkpoint = _found(run, stored, out, checkpoints)
            watch.first = checkpoint.diverged if checkpoint else ""
        else:
            refuse_existing(trace)
        if checkpoint is None:
            remove_trace(trace)
            checkpoints.keep(0)
        if trace.is_dir():
            remove_temporaries(trace)
        run.write(out)
        try:
            yield Kept(run, folder, checkpoints, watch, checkpoint)
        finally:
            if not resume and not (trace / "trace.json").exists():  # it never came to a step
                (out / RUN_FILE).unlink(missing_ok=True)


def _found(run: StoredRun, stored: StoredRun, out: Path, checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint of the ``stored`` run from which ``run`` can go on; None where none was written yet."""
    if stored.data.get("sha256") != run.data["sha256"]:
        raise ConfigError(f"--resume {out}: the images of {run.data['name']} are not those that the run has seen")
    if changed := [path for path, digest in stored.files.items() if run.files.get(path) != digest]:
        warn(f"{', '.join(changed)} has changed since the run began")
    checkpoint, faults = checkpoints.newest()
    for fault in faults:
        warn(f"{fault}; an older checkpoint is taken")
    if faults and checkpoint is None:
        raise ConfigError(f"--resume {out}: none of the checkpoints in {checkpoints.folder} is whole")
    first, steps = checkpoint.step if checkpoint else 0, run.arguments["steps"]
    if steps < first:
        raise ConfigError(f"--steps {steps}: the run in {out} has taken {first} steps already")
    say(f"going on at step {first + 1} of {steps}" if first < steps else f"all {steps} steps were taken before")
    return checkpoint


def say_end(kept: Kept, out: Path, command: str, stopped: BaseException | None) -> None:
    """Say how to go on with a run that was ``stopped``, or that it diverged; raise what ended it."""
    if isinstance(stopped, KeyboardInterrupt) and kept.checkpoints is not None:
        say(f"`pygan {command} --resume {out}` goes on with it.")
    if stopped is not None:
        raise stopped
    if kept.watch.first:
        raise Diverged(f"the training diverged: {kept.watch.first}. What it wrote after that is of no use.")
