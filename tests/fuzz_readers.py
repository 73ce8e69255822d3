"""Every reader of pygan, real files to start from, and a watch over what reading them may do.

Only errors of pygan may come out; a read takes less than ``SECONDS`` of the processor, allocates less than ``BYTES``,
opens no file outside its folder, starts nothing and runs no code of the file (but a recipe, whose code runs by design).
"""

import codecs
import contextlib
import io
import json
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import mutated_bytes, mutated_json, mutated_json_bytes, mutated_safetensors
from fuzz_seeds import (
    ANSWER,
    MANIFEST,
    RECIPE,
    idx_files,
    made_trace,
    pictures,
    png_and_gif,
    states,
    summaries,
    tomls,
)

from pygan import state
from pygan.benchmarking.report import read as read_report
from pygan.cli.options import make_config, read_config, to_toml
from pygan.comparison.reading import read_runs
from pygan.data import idx, load
from pygan.data.picture_folder import read_picture
from pygan.errors import PyganError
from pygan.files import parse_json, sha256
from pygan.pictures.gif import read_gif, write_gif
from pygan.pictures.png import read_png
from pygan.recipes import CONFIGS, config_from_dict
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.recipes.own import load_recipe
from pygan.resources import traces_dir
from pygan.stacks.julia_setup import JuliaSetup
from pygan.stacks.wire import ArrayFile, parse_answer
from pygan.traces import Trace

SECONDS, BYTES = 5.0, 512 << 20
PACKAGE = str(Path(state.__file__).parent)

Mutate = Callable[[random.Random, bytes, list[bytes]], bytes]


@dataclass
class Reader:
    """One reader: what it reads in a folder that is laid out for it, real files, and how these are changed."""

    name: str
    read: Callable[[Path, bytes], object]
    seeds: list[bytes]
    mutate: Mutate = mutated_bytes
    code_runs: bool = False


# --- the watch ---------------------------------------------------------------------------------------------------

_watched: dict[str, Any] = {"folder": None, "events": [], "code": False}
_STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
)
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.chmod", "os.symlink", "os.link")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    folder = _watched["folder"]
    if folder is None:
        return
    if event == "open":
        path, mode = arguments[0], arguments[1]
        if isinstance(path, str | bytes) and not os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep):
            library = os.fsdecode(path).startswith((sys.prefix, sys.base_prefix, PACKAGE, "<")) and mode in (
                "r",
                "rb",
                None,
            )
            if not library:
                _watched["events"].append(f"opens {os.fsdecode(path)}")
    elif event in _STARTS or (event in _CHANGES and not str(arguments[0]).startswith(folder)):
        _watched["events"].append(f"{event} {arguments[:1]}")
    elif event in ("exec", "compile") and not _watched["code"]:
        _watched["events"].append(event)


sys.addaudithook(_audit)


@contextlib.contextmanager
def bounded_memory(more: int = BYTES) -> Iterator[None]:
    """No more than ``more`` bytes above what this process has mapped now; beyond it allocations fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fault_of(reader: Reader, folder: Path, content: bytes) -> str:
    """What reading ``content`` did that no reader may do; empty where all is well."""
    _watched.update(folder=str(folder), events=[], code=reader.code_runs)
    begun = time.process_time()  # of the processor: a busy machine is no fault
    told = ""
    try:
        reader.read(folder, content)
    except PyganError as error:
        if not str(error).strip():
            told = "an error without words"
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        own = [one for one in traceback.extract_tb(error.__traceback__) if "fuzz_" not in one.filename][-1:]
        where = f" at {Path(own[0].filename).name}:{own[0].lineno}" if own else ""
        told = f"{type(error).__name__}{where}: {str(error)[:150]}"
    finally:
        _watched["folder"] = None
    if not told and (seconds := time.process_time() - begun) > SECONDS:
        told = f"took {seconds:.1f} s"
    return told or "; ".join(map(str, _watched["events"][:2]))


# --- the readers -------------------------------------------------------------------------------------------------


def _file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def reading(folder: Path, content: bytes) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return reading


def _idx(folder: Path, content: bytes) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    (folder / "labels").write_bytes(content)
    with contextlib.suppress(PyganError):
        idx.read_labels(folder / "labels")
    load(folder)


def _all_of(trace: Trace) -> None:
    """Everything that anything asks of a trace."""
    _ = trace.config, len(trace), trace.header
    with contextlib.suppress(PyganError):
        config_from_dict(trace.config)
    for read in (
        trace.initial,
        trace.initial_state,
        lambda: trace.steps_with("pictures"),
        lambda: trace.training_steps,
    ):
        with contextlib.suppress(PyganError):
            read()
    for step in trace.steps[:6]:
        for one in (trace.record, trace.twin, trace.state_before):
            with contextlib.suppress(PyganError):
                one(step)


def _trace_index(folder: Path, content: bytes) -> None:
    (folder / "trace.json").write_bytes(content)
    _all_of(Trace(folder))


def _trace_chunk(folder: Path, content: bytes) -> None:
    """The chunk is changed and its hash with it, else no change would get past the check of the hash."""
    index = json.loads(made_trace()[0])
    (folder / "chunk-000000.safetensors").write_bytes(content)
    index["chunks"][0] |= {"sha256": sha256(content), "bytes": len(content)}
    (folder / "trace.json").write_text(json.dumps(index))
    _all_of(Trace(folder))


def _wire(folder: Path, content: bytes) -> None:
    answer = parse_answer(content.partition(b"\n")[0], "step")
    if "arrays" in answer:
        place = folder / "wire"
        place.unlink(missing_ok=True)
        file = ArrayFile(place)
        try:
            os.truncate(place, 4096)
            file.receive(answer["arrays"])
        finally:
            file.close()


def _config(path: Path) -> None:
    stored = read_config(path)
    to_toml(make_config(FluxTutorialConfig, stored, {}))


def _recipe(folder: Path, content: bytes) -> None:
    (folder / "recipe.py").write_bytes(content)
    known = dict(CONFIGS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            load_recipe(folder)
    finally:
        CONFIGS.clear()
        CONFIGS.update(known)


def _manifest(folder: Path, content: bytes) -> None:
    (folder / "Manifest.toml").write_bytes(content)
    JuliaSetup("julia", str(folder), "test").check()


def _summary(folder: Path, content: bytes) -> None:
    (folder / "summary.json").write_bytes(content)
    if not (folder / "torch.gif").exists():
        for name in ("torch", "flux"):
            write_gif(folder / f"{name}.gif", [np.full((4, 4), step, np.uint8) for step in range(3)], 10)
    read_runs(folder)


def readers(root: Path) -> list[Reader]:
    """All readers with their real files; ``root``: the repository, whose committed reports are among them."""
    png, gif = png_and_gif()
    index, chunk = made_trace()
    real = [path.read_bytes() for path in sorted(traces_dir().glob("*float32/trace.json"))]
    reports = [path.read_bytes() for path in sorted((root / "benchmarks" / "results").glob("*.json"))]
    reports = sorted(reports, key=len)[:1]
    answers = [json.dumps(one).encode() for one in (ANSWER, {"error": "a\nStacktrace:b"})]
    return [
        Reader("idx", _idx, idx_files()),
        Reader("picture", _file("a.png", read_picture), pictures()),
        Reader("png", _file("a.png", read_png), png),
        Reader("gif", _file("a.gif", read_gif), gif),
        Reader("state", _file("state.safetensors", state.load), states(), mutated_safetensors),
        Reader("trace index", _trace_index, [index, *real], mutated_json_bytes),
        Reader("trace chunk", _trace_chunk, [chunk], mutated_safetensors),
        Reader("wire", _wire, answers, mutated_json_bytes),
        Reader("config", _file("config.toml", _config), tomls()),
        Reader("summary", _summary, summaries(), mutated_json_bytes),
        Reader("report", _file("report.json", read_report), reports, mutated_json_bytes),
        Reader("recipe", _recipe, [RECIPE], code_runs=True),
        Reader("manifest", _manifest, [MANIFEST]),
        Reader("json", lambda folder, content: _parsed(content), answers, mutated_json_bytes),
    ]


def _parsed(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_json(content)


def place(reader: Reader, where: Path) -> Path:
    """The folder of a reader, with what a file to be read needs beside it."""
    folder = where / reader.name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    if reader.name == "trace index":
        (folder / "chunk-000000.safetensors").write_bytes(made_trace()[1])
    return folder


def warm(reader: Reader, folder: Path) -> None:
    """Read the real files once, so that what is imported on first use is here before the watch begins."""
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        codecs.lookup(encoding)
    for seed in reader.seeds:
        with contextlib.suppress(PyganError):
            reader.read(folder, seed)


__all__ = ["BYTES", "SECONDS", "Reader", "bounded_memory", "fault_of", "mutated_json", "place", "readers", "warm"]
