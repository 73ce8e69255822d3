"""What ``docs/parity.md`` says of flips, free runs, planted bugs, an example, and the cost of comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity_plots import worst_tensor
from parity_rows import number

from pygan.parity.bands import FORWARD_NOISE, picture_band, tensor_bands

RIGHT, UNKNOWN, WRONG, MISSED = VERDICTS = ("named right", "unknown cause", "WRONG NAME", "MISSED")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns of numbers are the ones whose title starts with a space."""
    lines = [f"| {' | '.join(title.strip() for title in head)} |"]
    lines.append("|" + "|".join("--:" if title.startswith(" ") else "---" for title in head) + "|")
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def machine(report: Mapping[str, Any]) -> str:
    """Machine and versions in one line."""
    facts = report["environment"]
    parts = [f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, torch {facts['packages']['torch']}"]
    for role in ("candidate", "reference"):
        side = facts.get(role, {})
        if "julia" in side:
            packages = ", ".join(f"{name} {version}" for name, version in side["packages"].items())
            source = f" (recorded: `{side['trace']}`)" if "trace" in side else ""
            parts.append(f"Julia {side['julia']}, {packages}{source}")
    return "Machine: " + "; ".join(parts) + "."


# --- kinks ---------------------------------------------------------------------------------------------------------


def flips_text(report: Mapping[str, Any]) -> str:
    """Units whose relu or leaky relu had another sign: how many, where, how far from zero."""
    kinks = report["kinks"]
    steps = int(report["seconds"]["steps"])
    if not kinks:
        return f"No unit of a relu or leaky relu had another sign in the {steps} steps.\n"
    units = sum(one["units"] for one in kinks)
    at = len({one["step"] for one in kinks})
    inside = [one for one in kinks if one["largest"] is not None and one["largest"] <= FORWARD_NOISE]
    largest = max((one["largest"] for one in kinks if one["largest"] is not None), default=None)
    told = (
        f"### Kinks\n\nA unit whose input is within rounding of zero may be on in one run and off in the other; the "
        f"candidate is re-run with the reference's pattern and then held to full tightness. {units:,} units had "
        f"another sign, in {at} of {steps} steps. A flip is admitted where the referee's input of that unit is at most "
        f"{number(FORWARD_NOISE)} of its layer's root mean square; the furthest was {number(largest)}. "
        f"{len(inside)} of {len(kinks)} entries (a layer at a step) are inside.\n"
    )
    layers: dict[str, list[Mapping[str, Any]]] = {}
    for one in kinks:
        layers.setdefault(one["where"].removeprefix("pattern/"), []).append(one)
    rows = [
        (
            f"`{where}`",
            len(found),
            sum(one["units"] for one in found),
            number(max((one["largest"] for one in found if one["largest"] is not None), default=None)),
        )
        for where, found in sorted(layers.items())
    ]
    plot = "![How far from zero the flipped units lay](parity/kinks.png)\n"
    return f"{told}\n{plot}\n{table(('call/layer', ' steps', ' units', ' furthest'), rows)}"


# --- free runs -------------------------------------------------------------------------------------------------------


def free_text(report: Mapping[str, Any]) -> str:
    """The plots of a free run, and what came closest to its band in each network."""
    curves, config = report["curves"], report["config"]
    bands = tensor_bands(config) if config["dtype"] == "float32" else None
    band = picture_band(config) if config["dtype"] == "float32" else None
    networks = sorted({key.rpartition("/")[2].partition(".")[0] for key in curves if key.startswith("state/parameter")})
    last = max((step for curve in curves.values() for step in curve["steps"]), default=0)
    parts = [
        f"Compared up to step {last}: {len(curves)} curves. Each run goes on from its own state, so rounding grows."
    ]
    for network in networks:
        worst = worst_tensor(curves, network, config)
        if worst is None:
            continue
        key, share = worst
        told = f"closest to its band, at {share:.2f} of it" if bands else f"largest, {number(share)} relative"
        parts.append(f"Of the {network}, `{key}` is {told}.")
    if bands is not None:
        parts.append(f"A tensor's band is {bands.factor:g} times the measured spread of one stack's own runs.")
    else:
        parts.append("No noise floor of single tensors is committed for such runs, so these curves are not judged.")
    if band is not None:
        parts.append(f"Pictures are judged up to the horizon, step {band.horizon}.")
    text = " ".join(parts) + "\n\n![Tensors of both free runs](parity/free-run-tensors.png)\n"
    if "pictures" in curves:
        text += "\n![Pictures of both free runs](parity/free-run-pictures.png)\n"
    return text


# --- planted bugs ----------------------------------------------------------------------------------------------------


def planted_section(stored: Mapping[str, Any]) -> str:
    """Score, clean runs, and every fault that was not named right every time."""
    parts = [
        "Bugs are put in by chance (which layer, how strong), and the comparison has to find them and name them. "
        "`unknown cause` is found but not named. A wrong name counts against it more than none.\n"
    ]
    counts = (" planted", " named right", " unknown cause", " wrong name", " missed")
    score = [
        (side, total["faults"], total["planted"], *(total[verdict] for verdict in VERDICTS))
        for side, total in stored["totals"].items()
    ]
    parts.append(table(("planted in", " faults", *counts), score))
    if clean := stored["clean"]:
        parts.append("Clean runs, in which nothing is planted:\n")
        runs = [(what, one["runs"], one["steps"], one["false alarms"]) for what, one in clean.items()]
        parts.append(table(("what", " runs", " steps", " false alarms"), runs))
    right = [one for one in stored["faults"] if one[RIGHT] == one["planted"]]
    for side in stored["totals"]:
        if names := [one["fault"] for one in right if one["side"] == side]:
            parts.append(f"Named right every time, in {side}: {', '.join(names)}.\n")
    rows = [
        (
            one["side"],
            f"{one['fault']}: {one['what']}",
            one["planted"],
            *(one[verdict] or "" for verdict in VERDICTS),
            ", ".join(f"{name} ({count})" for name, count in one["causes"].items()),
        )
        for one in stored["faults"]
        if one not in right
    ]
    if rows:
        parts += ["The others:\n", table(("planted in", "fault", *counts, "called"), rows)]
    return "\n".join(parts)


# --- an example ------------------------------------------------------------------------------------------------------


def example_section(stored: Mapping[str, Any]) -> str:
    """How to read culprit, victims, cause and replay, on one planted bug."""
    report = stored["reports"][0]
    found = report["diagnosis"]
    outside = [row for row in report["rows"] if row["verdict"] == "differs" and row["level"] < 7]
    others = [key for key in found["culprits"] if key != found["culprit"]]
    size = found["difference"]
    names = [f"`{key}`" for key in others]
    sides = f"{report['candidate']} against {report['reference']}, {report['config']['dtype']}"
    lines = [
        f"An example: {stored['bug']}. {sides}; {len(outside)} claims of levels 3 to 6 differ. The comparison says:\n",
        f"```\n{stored['says']}\nreplay this spot: {report['replay']}\n```\n",
        f"- **Step {found['step']}** is the first at which anything is outside.",
        f"- **Culprit** `{found['culprit']}`: the candidate took the step again with every layer, gradient and update "
        "fed the reference's recorded values. What still differs then, differs by itself: its inputs agree, its output "
        f"does not, here by a relative {number(size['relative'])}.",
        f"- **{len(others)} more culprits** are the same layer at other calls, its own gradients, and what it hands "
        f"back to the layer before it: {', '.join(names)}.",
        f"- **{len(found['victims'])} victims** differed too, and agree once they start from equal values: "
        f"{', '.join(f'`{key}`' for key in found['victims'][:3])} and so on. They need no looking at.",
        f"- **Cause** `{found['cause']}`: a hint. Known mistakes are recomputed from the culprit's recorded inputs, "
        "and the one that explains the candidate's values to rounding is named; `unknown cause` where none does.",
        "- **Replay** takes the run to that step and shows this one tensor, its worst elements in both layouts.",
        f"- **Smallest tolerance**: nothing below {number(report['minimum_tolerance'])} would have let all pass.",
    ]
    return "\n".join(lines) + "\n"


# --- cost ------------------------------------------------------------------------------------------------------------


def cost_section(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """What comparing costs beside plain steps of both runs."""
    text = (
        "## What the comparison costs\n\nSeconds of all compared steps: *leading* and *following* record what is "
        "compared, *judging* includes the referee's step in Float32. *Plain* are steps that record nothing, the median "
        "of a few times as many. The factor is all that was spent over the plain steps of the sides that are live.\n\n"
    )
    rows = []
    for title, one in stored.items():
        for report in one["reports"][:1]:
            spent = report["seconds"]
            whole = sum(spent.get(part, 0.0) for part in ("lead", "follow", "judge"))
            plain = sum(spent.get(part, 0.0) for part in ("plain lead", "plain follow"))
            if not whole or not plain:
                continue
            cells = [
                f"{spent[part]:.1f}" if part in spent else "recorded" for part in ("plain lead", "plain follow")
            ] + [f"{spent[part]:.1f}" for part in ("lead", "follow", "judge")]
            rows.append((title, int(spent["steps"]), *cells, f"{whole / plain:.1f}"))
    if not rows:
        return text + "Not measured yet: the commands above measure it.\n"
    head = (
        "comparison",
        " steps",
        " plain, leader",
        " plain, follower",
        " leading",
        " following",
        " judging",
        " factor",
    )
    return text + table(head, rows)
