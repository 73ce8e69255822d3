"""What ``docs/parity.md`` says of steps, free runs, Float32, an example, and the cost of comparing.

Every function takes the stored files of its section by label; those that are not there are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from parity_free import PICTURES, FreeRun
from parity_rows import Report, machine, merged, number, rows_table, share, size_of, steps_of, summary, table

from pygan.parity.claims import CORRECTNESS, EVERY
from pygan.parity.free import horizon
from pygan.parity.tolerances import KINK_FACTOR

Stored = Mapping[str, Mapping[str, Any]]
FAR = 1e9
"""Steps beyond which a predicted horizon is not told as a number."""


def steps_text(stored: Stored) -> str:
    """The rows of each comparison, over its seeds."""
    parts = []
    for label, one in stored.items():
        reports = one["reports"]
        parts.append(f"### {label[0].upper()}{label[1:]}\n\n{summary(reports)}\n{rows_table(merged(reports))}")
        if reports[0]["config"]["dtype"] == "float32":
            parts.append(f"ReLU sign flips against the referee: {flips(reports)}.\n")
    return "\n".join(parts)


# --- flips and Float32 -------------------------------------------------------------------------------------------


def flips(reports: Sequence[Report]) -> str:
    """Units whose sign was not the referee's, and how far from zero the furthest input lay."""
    kinks = [one for report in reports for one in report["kinks"]]
    if not kinks:
        return "none"
    furthest, where = max((_noise_units(one), one["where"]) for one in kinks)
    units = sum(one["units"] for one in kinks)
    name = where.removeprefix("pattern/")
    return f"{units:,} units; furthest at {furthest:.1f} times the noise level, tolerance {KINK_FACTOR:g}, `{name}`"


def _noise_units(kink: Mapping[str, Any]) -> float:
    """Input of a flipped unit over the noise level of its channel; the report holds the tolerance."""
    return math.inf if not kink["noise"] or kink["largest"] is None else KINK_FACTOR * kink["largest"] / kink["noise"]


def _worst(rows: Sequence[Mapping[str, Any]]) -> str:
    """The largest share of a limit among the rows, and where."""
    held = [row for row in rows if share(row) >= 0]
    if not held:
        return "not run"
    row = max(held, key=share)
    return f"{share(row):.2f} `{row['where']}`"


ROUNDING = """\
The numbers are shares of the tolerance: 1 is the limit. *Float64 step*: the candidate's against the reference's, \
from the same state. *Whole step*: distances of gradients, losses, logits and buffers from the referee. *One \
operation*: layers, backward passes and updates by themselves.
"""


def float32_text(stored: Stored) -> str:
    """A line for every seed and data set."""
    lines = []
    for label, one in stored.items():
        for report in one["reports"]:
            rows = report["rows"]
            alone = [row for row in rows if row["claim"].endswith(("the referee's values", "its own gradients"))]
            drawn = [row for row in rows if row["claim"] == "pictures from the same state"]
            lines.append(
                (
                    label,
                    report["config"]["seed"],
                    report["verdict"],
                    _worst([row for row in rows if row["claim"] == CORRECTNESS]),
                    _worst([row for row in rows if row["claim"] == EVERY]),
                    _worst(alone),
                    _worst(drawn),
                    flips([report]),
                )
            )
    head = ("data", " seed", "verdict", "Float64 step", "whole step", "one operation", "pictures", "ReLU sign flips")
    first = next(iter(stored.values()))["reports"][0]
    told = (
        f"{first['candidate']} against {first['reference']}, {size_of(first).rpartition(',')[0]}, {steps_of([first])}"
    )
    return f"{ROUNDING}\n{table(head, lines)}\n{told} steps. {machine(first)}\n"


# --- free runs ---------------------------------------------------------------------------------------------------


def free_plot(label: str) -> str:
    """File name of the plot of a free run."""
    return f"free-{label.lower().replace(' ', '-')}.png"


def free_text(stored: Stored) -> str:
    """A column for every free run, and its plot."""
    runs = {label: FreeRun(one["reports"][0]) for label, one in stored.items()}
    columns = [_free_facts(run) for run in runs.values()]
    rows = [(title, *(facts[title] for facts in columns)) for title in columns[0]]
    plots = [f"![Free runs, {label}](parity/{free_plot(label)})\n" for label in runs]
    told = (
        "Grey lines are all tensors of the state; the ones that used most of their limit are named. The horizon is the "
        "step at which the referee's own runs are predicted to be so far apart that nothing can be claimed, from their "
        "growth over the latter half of the known steps.\n"
    )
    return "\n".join([table(("", *runs), rows), told, *plots, machine(next(iter(runs.values())).report)])


def _free_facts(run: FreeRun) -> dict[str, str]:
    report, rows = run.report, run.report["rows"]
    (tensors,) = [row for row in rows if row["level"] == 8]
    curve, apart, limit = run.curve(PICTURES), run.separation(PICTURES), run.limit(PICTURES)
    last = max(curve, default=None)
    at_end = [points.get(last) for points in (curve, apart, limit)] if last is not None else [None] * 3
    growth = horizon(run.spread)
    drawn = [row for row in rows if row["claim"] == "pictures of both free runs"]
    return {
        "sizes": size_of(report),
        "steps": f"{steps_of([report]):,}",
        "verdict": report["verdict"],
        "tensors at steps": f"{tensors['compared']:,}",
        "largest share of a limit, tensors": _worst([tensors]),
        "largest share of a limit, pictures": _worst(drawn),
        "pictures at the last step": _optional(at_end[0]),
        "referee's separation there": _optional(at_end[1]),
        "limit there": _optional(at_end[2]) if apart else "",
        "growth of the pictures' separation": _growth(growth),
        "horizon of the pictures": _horizon(growth.get("horizon", math.inf)) if growth else "not fitted",
        "horizon of the first tensor": _first(run),
    }


def _growth(growth: Mapping[str, float]) -> str:
    if "doubling" in growth:
        return f"doubles every {growth['doubling']:,.0f} steps"
    return f"as step^{growth['power']:.2f}" if growth else "not fitted"


def _optional(value: float | None) -> str:
    return "beyond the horizon" if value is None else number(value)


def _horizon(step: float) -> str:
    if math.isinf(step):
        return "none: no growth"
    return f"step {step:,.0f}" if step < FAR else f"after step {FAR:.0e}"


def _first(run: FreeRun) -> str:
    step, key = run.first_beyond
    return _horizon(step) + (f" `{key}`" if step < FAR else "")


# --- an example --------------------------------------------------------------------------------------------------

EXAMPLE = """\
{bug}. {sides}; {differing} claims of levels 3 to 6 differ. The comparison says:

```
{says}
replay this spot: {replay}
```

- **Step {step}** is the first at which anything is outside.
- **Culprit** `{culprit}`: the candidate took the step again with every layer, gradient and update fed the reference's \
recorded values. What still differs then, differs by itself: its inputs agree, its output does not, here by a relative \
{relative}.
- **{others} more culprits** are the same layer at other calls, its own gradients, and what it hands back to the layer \
before it: {other_names}.
- **{victims} victims** differed too, and agree once they start from equal values: {victim_names} and so on. They need \
no looking at.
- **Cause** `{cause}`: a hint. Known mistakes are recomputed from the culprit's recorded inputs, and the one that \
explains the candidate's values to rounding is named; `unknown cause` where none does. All of this is done in Float64.
- **Replay** takes the run to that step and shows this one tensor, its worst elements in both layouts.
- **Largest relative difference** of the two runs in one step: {minimum}.
"""


def example_text(stored: Stored) -> str:
    """How to read culprit, victims, cause and replay, on one planted fault."""
    (one,) = stored.values()
    report = one["reports"][0]
    found = report["diagnosis"]
    others = [f"`{key}`" for key in found["culprits"] if key != found["culprit"]]
    return EXAMPLE.format(
        bug=one["bug"][0].upper() + one["bug"][1:],
        sides=f"{report['candidate']} against {report['reference']}, {report['config']['dtype']}",
        differing=sum(row["verdict"] == "differs" and row["level"] < 7 for row in report["rows"]),
        says=one["says"],
        replay=report["replay"],
        step=found["step"],
        culprit=found["culprit"],
        relative=number(found["difference"]["relative"]),
        others=len(others),
        other_names=", ".join(others),
        victims=len(found["victims"]),
        victim_names=", ".join(f"`{key}`" for key in found["victims"][:3]),
        cause=found["cause"],
        minimum=number(report["minimum_tolerance"]),
    )


# --- cost --------------------------------------------------------------------------------------------------------


def cost_table(stored: Stored) -> str:
    """What comparing costs beside plain steps of both runs."""
    rows = []
    for label, one in stored.items():
        spent = one["reports"][0]["seconds"]
        parts = ("lead", "follow", "judge")
        whole = sum(spent.get(part, 0.0) for part in parts)
        plain = sum(spent.get(part, 0.0) for part in ("plain lead", "plain follow"))
        if whole and plain:
            cells = [
                f"{spent[part]:.1f}" if part in spent else "recorded" for part in ("plain lead", "plain follow", *parts)
            ]
            rows.append((label, int(spent["steps"]), *cells, f"{whole / plain:.1f}"))
    head = ("comparison", " steps", " plain, leader", " plain, follower", " leading", " following", " judging")
    return table((*head, " factor"), rows) if rows else "Not measured yet.\n"
