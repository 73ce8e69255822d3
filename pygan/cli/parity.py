"""``pygan parity``: two runs through the levels, with a verdict, and at the first difference where and why."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pygan.cli.options import DataDirOption, DataOption, SamplesOption, StepsOption, value_of, with_config
from pygan.cli.output import console, say_caveats, say_notes
from pygan.cli.parity_output import Bar, print_explained, print_report, print_spot
from pygan.cli.places import OverwriteOption, result_file
from pygan.errors import ConfigError, DataError, JuliaNotFound

if TYPE_CHECKING:
    from pygan.data import Dataset
    from pygan.parity.sides import Side

SIDES = (
    "torch, torch-fast (its fast step), torch-graph (that as a CUDA graph, where nothing but losses is recorded), flux "
    "(live), recorded (real Flux from a shipped trace), a live one with :cuda, or the folder of a trace or of a run"
)
DEFAULT_STEPS = 8
BESIDE_THE_STEPS = ("batch", "pictures/")
"""Tensors that no step has, so that none can be replayed."""


@with_config(twin=True, dtype="float64")
def parity(
    config: Any,
    answer: dict[str, Any],
    given: set[str],
    candidate: Annotated[str, typer.Argument(help=f"What is judged: {SIDES}.")] = "torch",
    reference: Annotated[
        str, typer.Argument(help="What it is held to; auto is flux if found, else recorded.")
    ] = "auto",
    levels: Annotated[str, typer.Option("--levels", help="Which levels, such as 3-6 or 1,4,7.")] = "1-10",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, such as 0 or 0-19; overrides --seed.")] = "",
    full: Annotated[bool, typer.Option("--full", help="The published sizes instead of the narrow twin.")] = False,
    steps: StepsOption = None,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    samples: SamplesOption = None,
    step: Annotated[int | None, typer.Option("--step", min=0, help="Replay: look at this step alone.")] = None,
    tensor: Annotated[str, typer.Option("--tensor", help="Replay: look at this tensor (kind/name) alone.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Store the reports as JSON in this file.")] = None,
    overwrite: OverwriteOption = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Compare nothing; explain the level (a number), claim or word of the table that is named in place of "
            "the runs. Without one, list them.",
        ),
    ] = False,
) -> None:
    """Compare two runs of one recipe from the same random numbers, level by level.

    Exit code 0: everything that was compared agrees; the last line says how much that is. 1: something differs; its
    place, a probable cause and a command that replays that spot are printed. 2: nothing was compared that would prove
    anything; what to record is printed.
    """
    from pygan.files import write_json
    from pygan.parity.verdicts import DIFFERS, NOT_RUN

    if explain:
        answer["explained"] = print_explained(" ".join([candidate, reference]).removesuffix(" auto"))
        return
    if out is not None:
        result_file(out, "", overwrite)
    wanted = _numbers(levels, "--levels", range(1, 11))
    say_caveats(config)
    chosen: dict[str, Any] = {
        "steps": steps,
        "data": data,
        "data_dir": data_dir,
        "samples": samples,
        "step": step,
        "tensor": tensor,
    }
    fixed = given | ({"seed"} if seeds else set()) | (set(config.narrow) if full else set())
    reports = []
    for seed in _numbers(seeds, "--seeds", None) if seeds else [config.seed]:
        report = _one(config.replace(seed=seed), (candidate, reference), wanted, fixed, **chosen)
        if report is not None:
            reports.append(report)
    answer["reports"] = [report.to_dict() for report in reports]
    if out is not None:
        write_json(out, {"command": _command(), "reports": answer["reports"]})
        console.print(f"wrote {out}", markup=False)
    verdicts = {report.verdict for report in reports}
    if DIFFERS in verdicts:
        sys.exit(1)
    if NOT_RUN in verdicts:
        sys.exit(2)


def _command() -> str:
    return "pygan " + shlex.join(sys.argv[1:])


def _numbers(text: str, option: str, allowed: range | None) -> list[int]:
    """``1,4-6`` as [1, 4, 5, 6]. Raises ``ConfigError`` that shows the form."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise ConfigError(f"{option} {text!r}: write numbers and ranges such as 1,4-6") from None
    if not found or (allowed is not None and not set(found) <= set(allowed)):
        told = f": expected numbers from {allowed[0]} to {allowed[-1]}" if allowed else " names no number"
        raise ConfigError(f"{option} {text!r}{told}")
    return found


def _one(
    config: Any,
    names: tuple[str, str],
    levels: list[int],
    fixed: set[str],
    *,
    steps: int | None,
    data: str,
    data_dir: Path | None,
    samples: int | None,
    step: int | None,
    tensor: str,
) -> Any:
    """One seed's report; None for the replay of a spot. ``fixed`` are config fields that the user has set."""
    from pygan.parity.run import compare_runs
    from pygan.parity.shipped import recorded_run

    names = (names[0], _found_reference(config) if names[1] == "auto" else names[1])
    first, second = (str(recorded_run(config, data, fixed)) if text == "recorded" else text for text in names)
    names = (first, second)
    config, dataset = _run_of(config, names, fixed, data, data_dir, samples, steps is None and step is None)
    say_notes(dataset.notes if dataset else ())
    sides: list[Side] = []
    try:
        for text in names:
            sides.append(_side(text, config, dataset))
        if step is not None or tensor:
            print_spot(sides[0], sides[1], step or 0, tensor)
            return None
        with Bar() as bar:
            report = compare_runs(sides[0], sides[1], steps, levels, bar, dataset)
    finally:
        for side in sides:
            side.close()
    if report.diagnosis is not None and not report.diagnosis.key.startswith(BESIDE_THE_STEPS):
        report = _with_replay(report, names, config, data, data_dir, dataset)
    print_report(report)
    return report


def _with_replay(
    report: Any, names: tuple[str, str], config: Any, data: str, data_dir: Path | None, dataset: Dataset | None
) -> Any:
    """The report with the command that shows its diagnosis's spot again."""
    from dataclasses import replace

    words = ["pygan", "parity", *names]
    if (recipe := value_of("--recipe", sys.argv)) is not None:
        words += ["--recipe", recipe]
    if not any(_trace_folder(text) for text in names):  # a recorded side brings its config and data
        defaults = type(config)().replace(**config.narrow, threads=1, dtype="float64").to_dict()
        for name, value in config.to_dict().items():
            if value != defaults.get(name):
                words += [f"--{name.replace('_', '-')}", str(value)]
        words += ["--samples", str(len(dataset.images))] if dataset is not None else []
    words += ["--data", data] if data != "digits" else []
    words += ["--data-dir", str(data_dir)] if data_dir else []
    found = report.diagnosis
    return replace(report, replay=shlex.join([*words, "--step", str(found.step), "--tensor", found.key]))


def _found_reference(config: Any) -> str:
    from pygan.stacks.julia_setup import find_julia

    try:
        find_julia().check()
    except JuliaNotFound as error:
        console.print(f"Flux is replayed from a recording, because {str(error).splitlines()[0]}", markup=False)
        return "recorded"
    return "flux"


def _trace_folder(text: str) -> Path | None:
    """The folder of a recorded side, or the one trace in a run's folder; None for a live side."""
    if (Path(text) / "trace.json").is_file():
        return Path(text)
    held = [path.parent for path in Path(text).glob("*.trace/trace.json")]
    return held[0] if len(held) == 1 else None


def _run_of(
    config: Any,
    names: tuple[str, str],
    fixed: set[str],
    data: str,
    data_dir: Path | None,
    samples: int | None,
    short: bool,
) -> tuple[Any, Dataset | None]:
    """Config and data of the runs: a recorded side's own, where there is one. Two recordings can do without data.

    ``short``: the default steps are taken. Raises ``ConfigError`` where a flag or a field of the config file
    contradicts the recording, or the images are others than it was made from.
    """
    from pygan.data import load
    from pygan.recipes import config_from_dict
    from pygan.traces import Trace

    folders = [_trace_folder(text) for text in names]
    folder = folders[0] or folders[1]
    if folder is None:
        if samples is None and short and data == "digits":
            samples = DEFAULT_STEPS * config.batch - 2  # so that the last of the default steps has a partial batch
        return config, load(data, data_dir, limit=samples)
    header = Trace(folder).header
    held = config_from_dict(header.config).to_dict()
    asked = config.to_dict()
    if unlike := sorted(name for name in fixed if asked[name] != held.get(name) and name not in ("device", "threads")):
        told = ", ".join(f"{name} = {asked[name]!r} (recorded with {held.get(name)!r})" for name in unlike)
        raise ConfigError(f"{folder} is a recording of another run: {told}; leave these out or compare live stacks")
    if samples not in (None, header.data["images"]):
        raise ConfigError(
            f"{folder} was recorded on {header.data['images']} images, not {samples}; leave out --samples"
        )
    ours = {name: asked[name] for name in ("device", "threads") if name in fixed}
    name = data if data != "digits" else header.data["name"]
    try:
        dataset = load(name, data_dir, limit=header.data["images"])
    except DataError:
        if all(folders):  # two recordings can do without
            return config_from_dict(header.config), None
        raise
    if dataset.sha256 != header.data["sha256"] and all(folders):
        return config_from_dict(header.config), None
    if dataset.sha256 != header.data["sha256"]:
        raise ConfigError(f"{folder} was recorded on other images than {name} (SHA-256 of the pixels differs)")
    return config_from_dict(header.config).replace(**ours), dataset


def _side(text: str, config: Any, dataset: Dataset | None) -> Side:
    from pygan.parity.sides import Live, Recorded
    from pygan.stacks.choose import NAMES, make_stack
    from pygan.traces import Trace

    folder = _trace_folder(text)
    if folder is not None:
        return Recorded(Trace(folder))
    name, _, device = text.partition(":")
    if name not in NAMES or device not in ("", "cpu", "cuda"):
        raise ConfigError(f"{text!r} is no side of a comparison; expected {SIDES}")
    assert dataset is not None, "a live side has data"
    return Live(make_stack(name, config.replace(device=device or config.device)), dataset)
