"""A measuring session: starts the rows' processes, has their first steps judged, samples them, writes groups."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygan.benchmarking import machine
from pygan.benchmarking.groups import Measured, make_group
from pygan.benchmarking.judge_inputs import recorded_like
from pygan.benchmarking.native_law import faults as law_faults
from pygan.benchmarking.process import RowProcess, scratch
from pygan.benchmarking.rounds import Sample, sample_rounds
from pygan.benchmarking.rows import CONTROL, CONTROL_SUFFIX, Row, gap
from pygan.benchmarking.statistics import median
from pygan.benchmarking.verdicts import STEPS, judged, timed_losses
from pygan.errors import ConfigError, PyganError
from pygan.traces import Trace

PHASES = ("generate", "draws", "data", "picture")
PHASE_ROWS = ("torch-eager-injected", "flux")
"""The rows whose steps are also timed in parts."""
PHASE_REPEATS = 5
MEMORY_RUNS = 2
"""Runs of a row's first steps after which its peak memory is read."""
FOR_GOOD = frozenset({"heap"})
"""Changes that act on a row's whole process and are not undone."""


@dataclass(frozen=True)
class Settings:
    """How much is measured: at most ``rounds`` rounds of ``steps`` steps, and about ``seconds`` a group."""

    rounds: int = 15
    steps: int = STEPS
    seconds: float = 150.0
    sweep_rounds: int = 4
    repeats: int = 5
    data: str = "digits"

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= STEPS:
            raise ConfigError(f"steps a sample = {self.steps}: 1 .. {STEPS}, whose losses a committed band covers")
        if self.rounds < 1:
            raise ConfigError(f"rounds = {self.rounds}: at least 1")


class Session:
    """Rows' processes on ``cores`` cores. ``tell(done, total, text)`` hears of every step of the work."""

    def __init__(self, cores: int, settings: Settings, tell: Callable[[int, int, str], None] | None = None) -> None:
        self.cores, self.settings = cores, settings
        self.tell = tell or (lambda done, total, text: None)
        self.sweep: list[dict[str, Any]] = []
        self._processes: dict[str, RowProcess] = {}
        self._start_seconds: dict[str, float] = {}
        self._threads: tuple[int, int] | None = None
        self._failed: dict[str, str] = {}

    # --- processes -------------------------------------------------------------------------------------------

    def process(self, label: str, row: Row) -> RowProcess:
        """The process of ``row``, started at first use."""
        if label not in self._processes:
            self.tell(0, 1, f"starting {label}")
            start = time.monotonic()
            self._processes[label] = self._start(label, row)
            self._start_seconds[label] = time.monotonic() - start
        return self._processes[label]

    def _start(self, label: str, row: Row, blas: int | None = None) -> RowProcess:
        if row.best_threads and self._threads:
            blas = self._threads[1]
        spec = {"row": dataclasses.asdict(self._settled(row)), "cores": self.cores, "data": self.settings.data}
        spec |= {"blas_threads": blas or self.cores}
        for other in self._processes.values():
            other.stop()
        return RowProcess(label, spec, self.cores)

    def _settled(self, row: Row) -> Row:
        """``row`` as it is run: with the thread setting that was found best."""
        return row.replace(julia_threads=self._threads[0]) if row.best_threads and self._threads else row

    def close(self) -> None:
        """End every process."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- groups ----------------------------------------------------------------------------------------------

    def step_group(
        self,
        name: str,
        config: Any,
        images: int,
        rows: Sequence[Row],
        *,
        phases: bool = False,
        control: bool = True,
        effort: float = 1.0,
    ) -> list[dict[str, Any]]:
        """The group of whole steps; with ``phases`` those of the two updates in its place. ``effort``: how many times
        as long as the settings say it is sampled."""
        measured, not_run = self._ready(name, config, images, rows, phases, control)
        if not phases:
            self._weigh(name, measured, config, images)
        found, stopped = self._sampled(name, measured, lambda label: self._steps(label), effort)
        about = {"config": config.to_dict(), "images": images, "steps": self.settings.steps}
        make = functools.partial(make_group, cores=self.cores, stopped=stopped)
        if not phases:
            return [make(name, found, not_run, about={**about, "what": "step"})]
        groups = []
        for what, key in (("discriminator step", "discriminator_seconds"), ("generator step", "generator_seconds")):
            for one in found.values():
                one.samples = [_with_generator(sample) for sample in one.samples]
            title = f"{what}, {name.partition(', ')[2]}"
            groups.append(make(title, found, not_run, about={**about, "what": what}, key=key))
        return groups

    def phase_groups(self, config: Any, rows: Sequence[Row], phases: Iterable[str] = PHASES) -> list[dict[str, Any]]:
        """A group for each part of a run besides its steps; each row carries the verdict of its configuration."""
        measured, not_run = self._ready("phases", config, config.batch, rows, False, True)
        groups = []
        for phase in phases:
            title = f"{phase}, batch {config.batch}"
            for label in measured:
                self._phase(phase, label)  # its first time compiles in Julia
                self._processes[label].stop()
            found, stopped = self._sampled(title, measured, functools.partial(self._phase, phase))
            about = {"config": config.to_dict(), "images": config.batch, "steps": PHASE_REPEATS, "what": phase}
            groups.append(make_group(title, found, not_run, cores=self.cores, about=about, stopped=stopped))
            if stopped:
                break
        return groups

    def _ready(
        self, name: str, config: Any, images: int, rows: Sequence[Row], phases: bool, control: bool
    ) -> tuple[dict[str, Measured], dict[str, str]]:
        """Processes started, configured, judged and warmed up; and why the others are not."""
        if any(row.best_threads for row in rows):
            self.find_best_threads(config, next(row for row in rows if row.best_threads))
        labelled = {row.name: row for row in rows}
        twice = CONTROL if CONTROL in labelled else next((row.name for row in rows if row.stack == "torch"), "")
        if control and twice:
            labelled[twice + CONTROL_SUFFIX] = labelled[twice]
        measured: dict[str, Measured] = {}
        not_run: dict[str, str] = {}
        for label, row in labelled.items():
            reason = self._failed.get(label) or gap(row)
            if not reason:
                try:
                    measured[label] = self._prepared(name, label, row, config, images, phases)
                except PyganError as error:
                    reason = self._failed[label] = str(error)
                    if label in self._processes:
                        self._processes.pop(label).close()
            if reason and not label.endswith(CONTROL_SUFFIX):
                not_run[label] = reason
        return measured, not_run

    def _prepared(self, name: str, label: str, row: Row, config: Any, images: int, phases: bool) -> Measured:
        process = self.process(label, row)
        self.tell(0, 1, f"{name}: judging {label}")
        before = process.ask("configure", config=config.to_dict(), images=images, phases=phases)
        first = process.ask("steps", count=1)["seconds"]  # before anything else, so that it holds the compilation
        keyed = config.replace(randomness="keyed").to_dict()
        # a step in lowered precision has on/off patterns of its own, which the judge imposes on the referee
        like_flux = row.stack == "torch" and row.precision == "float32"
        recorded = recorded_like(keyed, images) if like_flux else None
        with scratch() as folder:
            trace = Path(folder) / "first.trace"
            process.ask("first_step", folder=str(trace), reference=str(recorded or ""))
            process.stop()
            verdict = judged(trace, images, self.cores)
            first_loss = sum(float(value) for value in Trace(trace).record(0).loss.values())
        law = law_faults(process.ask("law")) if row.randomness == "native" else []
        again = process.ask("steps", count=2)["seconds"]
        process.stop()
        one = Measured(self._settled(row), before, first_step=verdict, law=law, first_loss=first_loss)
        one.start_seconds = self._start_seconds[label]
        one.warmup = {"first_step": first[0], "then": again}
        return one

    def _weigh(self, name: str, measured: Mapping[str, Measured], config: Any, images: int) -> None:
        """Find the peak memory of each row that shows a time, in a process that only trains: on the heap of the one
        that is timed, its judged step and the groups before have left their marks."""
        if not machine.has_proc():
            return
        for label, one in measured.items():
            if label.endswith(CONTROL_SUFFIX) or not one.first_step.shows_time:
                continue
            self.tell(0, 1, f"{name}: memory of {label}")
            try:
                one.peak_bytes = self._peak_bytes(label, one.row, config, images)
            except PyganError as error:
                one.peak_fault = str(error)

    def _peak_bytes(self, label: str, row: Row, config: Any, images: int) -> int:
        process = self._start(label, row)
        try:
            process.ask("configure", config=config.to_dict(), images=images, phases=False)
            for _ in range(MEMORY_RUNS):
                process.ask("steps", count=self.settings.steps)
            return machine.peak_bytes(process.pid)
        finally:
            process.close()

    def _sampled(
        self, name: str, measured: Mapping[str, Measured], sample: Callable[[str], Sample], effort: float = 1.0
    ) -> tuple[dict[str, Measured], bool]:
        shown = {label: one for label, one in measured.items() if one.first_step.shows_time}
        processes = {label: self._processes[label] for label in shown}
        samples, idle, stopped = sample_rounds(
            processes, sample, self.settings.rounds, effort * self.settings.seconds,
            tick=lambda done, total, row: self.tell(done, total, f"{name}: {row}"),
        )  # fmt: skip
        for label, one in shown.items():
            one.samples, one.idle_share = samples[label], idle[label]
            one.after = processes[label].ask("facts")
            processes[label].stop()
        return dict(measured), stopped

    def _steps(self, label: str) -> Sample:
        return self._processes[label].ask("steps", count=self.settings.steps)

    def _phase(self, phase: str, label: str) -> Sample:
        return self._processes[label].ask("phase", name=phase, repeats=PHASE_REPEATS)

    # --- what only Flux needs --------------------------------------------------------------------------------

    def find_best_threads(self, config: Any, row: Row) -> None:
        """Time the idiomatic step at every setting of Julia and BLAS threads, once a session; keep the fastest."""
        if self._threads is not None or gap(row):
            return
        plain = row.replace(name="flux-threaded", changes=None)
        settings = thread_settings(self.cores)
        processes = {}
        try:
            for julia, blas in settings:
                self.tell(0, 1, f"starting Flux with {julia} Julia and {blas} BLAS threads")
                label = f"{julia} x {blas}"
                processes[label] = self._start(label, plain.replace(julia_threads=julia), blas)
                processes[label].ask("configure", config=config.to_dict(), images=config.batch, phases=False)
                processes[label].ask("steps", count=2)
                processes[label].stop()
            samples, _, _ = sample_rounds(
                processes, lambda label: processes[label].ask("steps", count=2),
                self.settings.sweep_rounds, self.settings.seconds,
                tick=lambda done, total, one: self.tell(done, total, f"threads of Flux: {one}"),
            )  # fmt: skip
        finally:
            for process in processes.values():
                process.close()
        for julia, blas in settings:
            seconds = [sum(one["seconds"]) / len(one["seconds"]) for one in samples[f"{julia} x {blas}"]]
            entry = {"julia_threads": julia, "blas_threads": blas, "median": median(seconds), "per_step": seconds}
            self.sweep.append(entry)
        best = min(self.sweep, key=lambda entry: entry["median"])
        self._threads = (best["julia_threads"], best["blas_threads"])

    def gains_of_changes(self, config: Any, row: Row, reference: Sequence[float] | None) -> list[dict[str, Any]]:
        """Median step with the first 0, 1, ... changes of the tuned row, in random rounds.

        All sets run in one process, but for those with a change :data:`FOR_GOOD`, which run in one of their own.
        The losses of every step are held to ``reference``, those of a verified keyed row; a set of changes that
        leaves the band shows no time but the fault.
        """
        assert row.changes is not None
        sets = {str(count): list(row.changes[:count]) for count in range(len(row.changes) + 1)}
        processes = {count: self._with_changes(row, changes) for count, changes in sets.items()}
        for process in dict.fromkeys(processes.values()):
            process.ask("configure", config=config.to_dict(), images=config.batch, phases=False)

        def sample(count: str) -> Sample:
            process = processes[count]
            process.ask("changes", changes=sets[count])
            process.ask("steps", count=1)  # a stack made anew touches its memory for the first time
            return process.ask("steps", count=2)

        for count, process in processes.items():
            sample(count)
            process.stop()
        samples, _, _ = sample_rounds(
            processes, sample, self.settings.rounds, 2 * self.settings.seconds,
            tick=lambda done, total, one: self.tell(done, total, f"changes in {row.name}: the first {one}"),
        )  # fmt: skip
        for process in processes.values():
            process.stop()
        entries = []
        for count, changes in sets.items():
            _, faults = timed_losses([one["losses"] for one in samples[count]], reference, "the keyed torch row")
            seconds = [sum(one["seconds"]) / len(one["seconds"]) for one in samples[count]]
            gc = [one["gc_seconds"] / len(one["seconds"]) for one in samples[count]]
            shown = {} if faults else {"median": median(seconds), "per_step": seconds, "gc_seconds": median(gc)}
            verdict = "differs" if faults else "agree"
            entries.append({"changes": changes, "verdict": verdict, "reason": "; ".join(faults), **shown})
        return entries

    def _with_changes(self, row: Row, changes: Sequence[str]) -> RowProcess:
        """The process in which the tuned row runs with ``changes`` alone."""
        if not FOR_GOOD & set(row.changes or ()):
            return self.process(row.name, row)
        kind = "changed for good" if FOR_GOOD & set(changes) else "as it starts"
        return self.process(f"{row.name}, {kind}", row.replace(changes=()))


def _with_generator(sample: Sample) -> Sample:
    """The sample with the generator's part of each step: what is left after the discriminator's update."""
    pairs = zip(sample["seconds"], sample["discriminator_seconds"], strict=True)
    return {**sample, "generator_seconds": [whole - part for whole, part in pairs]}


def thread_settings(cores: int) -> list[tuple[int, int]]:
    """Settings of ``(Julia threads, BLAS threads)`` that are tried on so many cores."""
    tried = [(1, cores), (cores, 1), (cores, cores), (max(1, cores // 2), 2)]
    return [pair for at, pair in enumerate(tried) if pair not in tried[:at] and max(pair) <= cores]
