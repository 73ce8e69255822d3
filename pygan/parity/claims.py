"""Levels and claims: which one a tensor of a step belongs to, and in what a claim's numbers are counted."""

from __future__ import annotations

from collections.abc import Collection

LEVELS = {
    1: "shapes, counts, names, dtypes, modes",
    2: "initial state, laws of the native initialisers",
    3: "forward, layer by layer",
    4: "logits and losses",
    5: "gradients",
    6: "moments, parameters, buffers after the step",
    7: "teacher-forced steps",
    8: "free run",
    9: "pictures",
    10: "learning gate",
}
CORRECTNESS = "correctness: the Float64 step from the same state"
EVERY = "every tensor of every step"
PARTIAL = "steps with a partial batch"
FLIPS = "ReLU sign flips"
GRIDS = "grids as users see them"
RELATIVE, NOISE_LEVELS, GREY_LEVELS = "", "noise levels", "grey levels"
"""What both numbers of a row are counted in. Relative: norm of a difference over that of the tensor it is held to."""
_SLOTS = {
    "exp_avg": "first moments",
    "exp_avg_sq": "second moments",
    "momentum_buffer": "momentum",
    "parameter": "parameters",
    "buffer": "BatchNorm running statistics",
}


def unit_of(claim: str) -> str:
    """In what a claim's measured value and its tolerance are counted."""
    return NOISE_LEVELS if claim == FLIPS else GREY_LEVELS if claim.startswith(GRIDS) else RELATIVE


def claim_of(key: str, trained: Collection[str] = (), of: str = "") -> tuple[int, str]:
    """Level and claim of a tensor ``kind/name``. ``trained`` are the calls ``call/network`` inside a gradient; ``of``
    says what a side was given, where it was not its own state before the step."""
    kind, _, name = key.removeprefix("sketch/").partition("/")
    tail = f", {of}" if of else ""
    if kind == "batch":
        return 4, "batches as scaled"
    if kind in ("pattern", "mode"):
        return 7, FLIPS if kind == "pattern" else "train or eval mode at every detailed step"
    if kind == "activation":
        mode = "train" if name.partition(".")[0] in trained else "eval"
        return 3, f"outputs of every layer{tail}" if of else f"outputs of every layer in {mode} mode"
    if kind in ("logits", "loss"):
        return 4, f"{'logits' if kind == 'logits' else 'losses'}{tail}"
    if kind == "activation_gradient":
        return 5, f"gradients with respect to every layer's output{tail}"
    if kind == "gradient":
        update = name.rpartition("/")[0]
        return 5, f"gradients of every parameter{tail}" if of else f"gradients of the update {update}"
    group = name.rpartition("/")[0].rpartition("/")[2] if kind == "updated" else name.partition("/")[0]
    slot = _SLOTS["buffer"] if kind == "buffer" else _SLOTS.get(group, "step counts and beta powers")
    return 6, f"moments, parameters and beta powers{tail}" if of and slot != _SLOTS["buffer"] else f"{slot}{tail}"


def claims_of(
    key: str, trained: Collection[str], of: str = "", partial: bool = False, every: bool = True
) -> list[tuple[int, str]]:
    """All claims that a tensor counts for: its own, and those about steps as a whole."""
    found = [claim_of(key, trained, of)]
    if every and not key.startswith(("pattern/", "mode/")):
        found.append((7, EVERY))
        if partial:
            found.append((7, PARTIAL))
    return found
