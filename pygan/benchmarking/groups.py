"""From samples to a group of a report: which rows may show times, how they compare, whether the group is quiet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pygan.benchmarking.rounds import Sample, per_step
from pygan.benchmarking.rows import CONTROL, CONTROL_SUFFIX, Row, mislabelled, unequal
from pygan.benchmarking.statistics import median, ratio
from pygan.benchmarking.verdicts import Verdict, as_judged, combined, timed_losses, to_dict
from pygan.errors import ConfigError

PAIRS = (
    ("flux", "torch-eager-injected"),
    ("flux-native", "torch-eager"),
    ("flux-threaded", "torch-eager-injected"),
    ("flux-tuned", "torch-eager-injected"),
    ("torch-eager", "torch-tuned"),
    ("torch-eager-injected", "torch-tuned"),
    ("flux-threaded", "torch-tuned"),
    ("flux-tuned", "torch-tuned"),
    ("flux-tuned", "flux-threaded"),
    ("torch-eager-injected", "torch-eager"),
    ("flux-cuda", "torch-eager-cuda"),
    ("torch-eager-cuda", "torch-graph-cuda"),
)
"""Which ratios a group shows: like with like, and best with best."""

NOISE = 0.05
"""Half the width of the control's interval above which the group is noisy, whether or not it straddles 1."""

IDLE_SHARE = 0.02
"""Share of a sample's time that the stopped rows may use the processor (the clock counts in hundredths of a second)."""


@dataclass
class Measured:
    """Everything that is known of a row that ran, before it is decided what may be shown of it."""

    row: Row
    before: Mapping[str, Any]
    after: Mapping[str, Any] = field(default_factory=dict)
    first_step: Verdict = field(default_factory=lambda: Verdict("not run", "no first step was judged"))
    law: Sequence[str] = ()
    first_loss: float | None = None
    """Losses of the judged first step, summed; a keyed row's first timed step must have them too."""
    start_seconds: float = 0.0
    warmup: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    peak_bytes: int = 0
    peak_fault: str = ""
    idle_share: float = 0.0


def make_group(
    name: str,
    measured: Mapping[str, Measured],
    not_run: Mapping[str, str],
    *,
    cores: int,
    about: Mapping[str, Any],
    key: str = "seconds",
    stopped: bool = False,
) -> dict[str, Any]:
    """The group ``name`` for a report. Rows that may not show times are listed with the reason under ``refused``.

    ``key`` picks the part of a sample that is the group's subject. ``about``: what was run (config, images, ...).
    Raises ``ConfigError`` where the rows cannot stand in one group at all.
    """
    if faults := unequal(one.row for one in measured.values()):
        raise ConfigError(f"group {name!r} is refused: {'; '.join(faults)}")
    reference = _reference(measured)
    rows, refused = [], []
    for label, one in measured.items():
        entry, verdict = _entry(label, one, reference, cores, key)
        if verdict.shows_time:
            rows.append(entry)
        else:
            refused.append({"row": label, **to_dict(verdict)})
    shown = {entry["row"]: entry["per_step"] for entry in rows}
    control = _control(shown)
    busy = [entry["row"] for entry in rows if entry["idle_share"] > IDLE_SHARE]
    notes = [f"while {label} was timed, the others were not idle" for label in busy]
    if control is None:
        notes.append("there is no A-against-A control")
    elif not control["straddles_one"]:
        notes.append(
            f"the control ran {control['value']:.3f} times as long as itself ({control['low']:.3f} to "
            f"{control['high']:.3f}): smaller differences than that are noise"
        )
    elif control["high"] - control["low"] > 2 * NOISE:
        notes.append(
            f"the control against itself is only known to lie in {control['low']:.3f} to {control['high']:.3f}"
        )
    return {
        "group": name,
        **about,
        "cores": cores,
        "device": next(iter(measured.values())).row.device if measured else "cpu",
        "precision": next(iter(measured.values())).row.precision if measured else "float32",
        "rows": [entry for entry in rows if not entry["row"].endswith(CONTROL_SUFFIX)],
        "refused": refused,
        "not_run": [{"row": label, "reason": reason} for label, reason in not_run.items()],
        "control": control,
        "noisy": bool(notes),
        "notes": notes,
        "ratios": ratios(shown),
        "stopped": stopped,
    }


def _reference(measured: Mapping[str, Measured]) -> tuple[str, Sequence[float] | None]:
    """Name and first steps' losses of the keyed row that the others are held to."""
    keyed = [(label, one) for label, one in measured.items() if one.row.randomness == "keyed" and one.samples]
    keyed.sort(key=lambda pair: pair[1].row.stack != "torch")
    return (keyed[0][0], keyed[0][1].samples[0].get("losses")) if keyed else ("", None)


def _entry(
    label: str, one: Measured, reference: tuple[str, Sequence[float] | None], cores: int, key: str
) -> tuple[dict[str, Any], Verdict]:
    native = one.row.randomness == "native"
    faults = [*mislabelled(one.row, one.before, cores), *mislabelled(one.row, one.after, cores), *one.law]
    worst = 0.0
    if not one.samples:
        faults.append("no sample was taken")
    elif "losses" in one.samples[0]:
        losses = [sample["losses"] for sample in one.samples]
        worst, wrong = timed_losses(losses, None if native else reference[1], reference[0])
        faults += wrong
        if not native and one.first_loss is not None:
            faults += as_judged([sample["losses"][0] for sample in one.samples], one.first_loss, one.row.precision)
    verdict = combined(one.first_step, list(dict.fromkeys(faults)), native)
    values = per_step(one.samples, key) if one.samples else []
    steps = sum(len(sample["seconds"]) for sample in one.samples)
    entry = {
        "row": label,
        "about": one.row.about,
        "stack": one.row.stack,
        "randomness": one.row.randomness,
        "changes": list(one.row.changes or ()),
        **to_dict(verdict),
        "median": median(values) if values else None,
        "per_step": values,
        "samples": [list(sample[key]) for sample in one.samples],
        "largest_loss_difference": worst,
        "start_seconds": one.start_seconds,
        "warmup": dict(one.warmup),
        "gc_seconds_per_step": sum(sample.get("gc_seconds", 0.0) for sample in one.samples) / max(steps, 1),
        "gc_pauses_per_step": sum(sample.get("gc_pauses", 0) for sample in one.samples) / max(steps, 1),
        "allocated_bytes_per_step": sum(sample.get("bytes", 0) for sample in one.samples) / max(steps, 1),
        "peak_bytes": one.peak_bytes,
        "peak_fault": one.peak_fault,
        "idle_share": one.idle_share,
        "threads": {kind: one.after.get(kind) for kind in THREADS if kind in one.after},
        "versions": one.after.get("versions", {}),
        "device_name": one.after.get("device", ""),
    }
    return entry, verdict


THREADS = ("torch_threads", "julia_threads", "blas_threads", "gc_threads")


def _control(shown: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """The control row against itself, if both of its processes were measured."""
    pair = [label for label in shown if label.removesuffix(CONTROL_SUFFIX) + CONTROL_SUFFIX in shown]
    if CONTROL in pair:
        pair = [CONTROL]
    first = next((label for label in pair if not label.endswith(CONTROL_SUFFIX)), None)
    if first is None:
        return None
    found = ratio(shown[first + CONTROL_SUFFIX], shown[first])
    return {"row": first, **asdict(found), "straddles_one": found.straddles_one}


def ratios(shown: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The ratios of :data:`PAIRS` whose rows are both there, paired by round."""
    return [
        {"row": row, "against": against, **asdict(ratio(shown[row], shown[against]))}
        for row, against in PAIRS
        if row in shown and against in shown
    ]
