"""What a benchmark run measures, in which order, and the report that comes of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pygan.benchmarking import breakdown, floor
from pygan.benchmarking.report import new_report
from pygan.benchmarking.rows import ROWS, available_cores, chosen
from pygan.benchmarking.session import PHASE_ROWS, Session, Settings
from pygan.errors import ConfigError, PyganError

if TYPE_CHECKING:
    from pygan.benchmarking.work import Operation

Tell = Callable[[int, int, str], None]
Save = Callable[[Mapping[str, Any]], None]

SERIES_ROWS = ("torch-eager", "torch-eager-injected", "torch-tuned", "flux", "flux-tuned")
"""Rows of the groups at other batch sizes."""
THREAD_ROWS = ("torch-eager-injected", "torch-tuned", "flux")
"""Rows of the groups on fewer cores."""
TORCH_ROWS = ("torch-eager-injected", "torch-tuned")
"""Rows of the largest batch, at which a step of Flux takes a quarter of a minute, and of the groups with caps."""
FULL_BATCHES = (1, 8, 32, 96, 512)
"""Images a step of ``--full`` besides the recipe's own; 96 is MNIST's last batch, at the recipe's own batch size."""
LARGEST_BATCH = 2048
MAIN_EFFORT = 2.0
"""How many times as long the main group is sampled: it has the most rows and carries the ratios."""
AVX2 = (("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2"))
"""What keeps torch, oneDNN and (on Intel processors) MKL from instructions beyond AVX2."""


@dataclass(frozen=True)
class Plan:
    """``rows`` at the config's batch; ``images`` a step for the series; ``fewer_cores`` for the thread series;
    ``capped``: also without AVX-512."""

    config: Any
    rows: Sequence[str]
    phases: bool = True
    breakdown: bool = True
    images: Sequence[int] = ()
    fewer_cores: Sequence[int] = ()
    capped: bool = False
    settings: Settings = field(default_factory=Settings)

    @property
    def cores(self) -> int:
        """Cores that every row may use: the config's threads, else all that this process has."""
        return self.config.threads or available_cores()


def step_group_name(images: int, device: str = "cpu", cores: int | None = None) -> str:
    """The name of a group of whole steps."""
    return f"step, batch {images}{', cuda' if device == 'cuda' else ''}" + (f", {cores} cores" if cores else "")


def measure(plan: Plan, tell: Tell | None = None, save: Save | None = None, command: str = "") -> dict[str, Any]:
    """Run ``plan`` and return the report; ``save`` gets it after every group.

    Ctrl-C ends the run with what has been measured, marked as stopped; before the first group it is raised.
    """
    if plan.cores > available_cores():
        raise ConfigError(f"threads = {plan.cores}, but this process may use {available_cores()} cores")
    report = new_report(plan, command)
    began = time.monotonic()

    def add(groups: Sequence[Mapping[str, Any]]) -> None:
        report["groups"] += groups
        report["seconds"] = round(time.monotonic() - began, 1)
        if save is not None:
            save(report)
        if any(group["stopped"] for group in groups):
            raise KeyboardInterrupt

    try:
        _measure(plan, report, add, tell)
    except KeyboardInterrupt:
        if not report["groups"]:
            raise
        report["stopped"] = True
    report["seconds"] = round(time.monotonic() - began, 1)
    if save is not None:
        save(report)
    return report


def _measure(plan: Plan, report: dict[str, Any], add: Callable[..., None], tell: Tell | None) -> None:
    rows = chosen(plan.rows)
    config, batch = plan.config, plan.config.batch
    on_cpu = [row for row in rows if row.device == "cpu" and row.precision == "float32"]
    on_bf16 = [row for row in rows if row.device == "cpu" and row.precision == "bf16"]
    on_cuda = [row for row in rows if row.device == "cuda"]
    with Session(plan.cores, plan.settings, tell) as session:
        if on_cpu:
            add(session.step_group(step_group_name(batch), config, batch, on_cpu, effort=MAIN_EFFORT))
        report["thread_settings"] = session.sweep
        parts = [row for row in on_cpu if row.name in PHASE_ROWS]
        if plan.phases and parts:
            add(session.step_group(step_group_name(batch), config, batch, parts, phases=True))
            add(session.phase_groups(config, parts))
        if plan.breakdown:
            add_breakdown(session, plan, report)
            add([])
        for images in plan.images:
            names = TORCH_ROWS if images >= LARGEST_BATCH else SERIES_ROWS
            series, config_of_series = [row for row in on_cpu if row.name in names], config
            if images != MNIST_LAST:
                try:
                    config_of_series = config.replace(batch=images)
                except ConfigError as error:
                    report["not_run"].append({"group": step_group_name(images), "reason": str(error)})
                    continue
            add(session.step_group(step_group_name(images), config_of_series, images, series))
        report["thread_settings"] = session.sweep
    if on_bf16:
        with Session(plan.cores, plan.settings, tell) as session:
            add(session.step_group(f"{step_group_name(batch)}, bf16", config, batch, on_bf16))
    if on_cuda:
        for precision in dict.fromkeys(row.precision for row in on_cuda):
            name = step_group_name(batch, "cuda") + ("" if precision == "float32" else f", {precision}")
            with Session(plan.cores, plan.settings, tell) as session:
                alike = [row for row in on_cuda if row.precision == precision]
                add(session.step_group(name, config, batch, alike, control=True))
    for cores in plan.fewer_cores:
        fewer = [row for row in on_cpu if row.name in THREAD_ROWS]
        with Session(cores, plan.settings, tell) as session:
            add(session.step_group(step_group_name(batch, cores=cores), config, batch, fewer))
    if plan.capped:
        capped = [row.replace(environment=AVX2) for row in on_cpu if row.name in TORCH_ROWS]
        with Session(plan.cores, plan.settings, tell) as session:
            add(session.step_group(f"{step_group_name(batch)}, AVX2 only", config, batch, capped))


MNIST_LAST = 96
"""Images of MNIST's last batch of 128: timed with the recipe's batch, so that the noise stays as wide."""


def add_breakdown(session: Session, plan: Plan, report: dict[str, Any]) -> None:
    """Operations, floor and gains of the tuned row, where their rows ran; a fault there is noted, not raised."""
    from pygan.benchmarking.work import step_operations, unused_operations

    config, images, repeats = plan.config, plan.config.batch, plan.settings.repeats
    group = next((one for one in report["groups"] if one["what"] == "step"), None)
    shown = {entry["row"]: entry for entry in group["rows"]} if group else {}
    torch_name, flux_name = PHASE_ROWS
    if torch_name not in shown:
        report["not_run"].append({"group": "breakdown", "reason": f"{torch_name} shows no time"})
        return
    operations = step_operations(config, images)
    entries = [one.to_dict() for one in operations]
    times: dict[str, dict[Operation, float]] = {}
    columns: dict[str, dict[str, float]] = {}
    session.tell(0, 1, "operations of torch alone, and a profile")
    process = session.process(torch_name, ROWS[torch_name])
    process.ask("configure", config=config.to_dict(), images=images, phases=False)
    found = process.ask("operations", operations=entries, repeats=repeats)
    measured_rates = process.ask("rates")
    process.stop()
    rates = floor.best_rates(measured_rates, operations, found["seconds"])
    report["rates"] = {**measured_rates, "cores": plan.cores}
    report["floor"] = floor.to_dict(operations, rates)
    times[torch_name] = breakdown.times_of(operations, found["seconds"])
    entry = shown[torch_name]
    alone = breakdown.lines_alone(
        operations,
        unused_operations(config, images, by_input=False),
        times[torch_name],
        entry["median"],
        entry["gc_seconds_per_step"],
    )
    columns[f"{torch_name}, profile"] = breakdown.lines_profiled(found["profile"], alone, entry["median"])
    columns[f"{torch_name}, alone"] = alone
    for name in (flux_name, "flux-threaded"):
        if name not in shown:
            continue
        session.tell(0, 1, f"operations of {name} alone")
        try:
            process = session.process(name, ROWS[name])
            process.ask("configure", config=config.to_dict(), images=images, phases=False)
            seconds = process.ask("operations", operations=entries, repeats=repeats)["seconds"]
            process.stop()
        except PyganError as error:
            report["not_run"].append({"group": f"operations of {name}", "reason": str(error)})
            continue
        times[name] = breakdown.times_of(operations, seconds)
        unused = unused_operations(config, images, by_input=True)
        entry = shown[name]
        columns[f"{name}, alone"] = breakdown.lines_alone(
            operations, unused, times[name], entry["median"], entry["gc_seconds_per_step"]
        )
    report["breakdown"] = breakdown.table(operations, rates, columns)
    report["layers"] = breakdown.layers(operations, rates, times)
    tuned = {"gains": "flux-tuned", "torch_gains": "torch-tuned"}
    tuned = {key: name for key, name in tuned.items() if name in shown}
    losses = process_losses(session, torch_name) if tuned else ()
    for key, name in tuned.items():
        report[key] = session.gains_of_changes(config, ROWS[name], losses)


def process_losses(session: Session, name: str) -> Sequence[float]:
    """Losses of the first steps in the verified row ``name``."""
    process = session.process(name, ROWS[name])
    losses: list[float] = process.ask("steps", count=session.settings.steps)["losses"]
    process.stop()
    return losses


def default_plan(config: Any, rows: Sequence[str] = (), full: bool = False, **settings: Any) -> Plan:
    """The plan of the suite and of ``pygan bench``: everything that can run here, ``full`` with the series."""
    names = list(rows) or list(ROWS)
    chosen(names)
    cores = config.threads or available_cores()
    plan = Plan(config, names, settings=Settings(**settings))
    if not full:
        return plan
    fewer = tuple(range(1, cores)) if cores <= 4 else (1,)
    return dataclasses.replace(plan, images=(*FULL_BATCHES, LARGEST_BATCH), fewer_cores=fewer, capped=True)
