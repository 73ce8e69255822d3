"""What ``pygan parity --explain`` says: plain sentences for every level, claim and word of its table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pygan.parity.claims import CORRECTNESS, EVERY, FLIPS, GRIDS, LEVELS, PARTIAL
from pygan.parity.tolerances import (
    ENSEMBLE_FACTOR,
    FLOAT64_STEP,
    FREE_FACTOR,
    FREE_LEAST,
    FREE_MOST,
    KINK_FACTOR,
    LOCAL_FACTOR,
    PIXEL,
    REFERENCE_FACTOR,
)

FED = ", .*, fed the referee's values"
OWN = ", .*, from its own gradients"
_STEP = f"In Float64 the tolerance is {FLOAT64_STEP:g}, far above rounding and far below any slip; in Float32 it is "
_STEP += f"{ENSEMBLE_FACTOR:g} times the noise level."


@dataclass(frozen=True)
class Claim:
    """A claim's name for a list, what its rows are called (a pattern), and the sentences."""

    level: int
    name: str
    pattern: str
    text: str


CLAIMS = (
    Claim(1, "names, shapes and dtypes of the state", "names, shapes and dtypes of the state",
          "All tensors of both states by name: parameters, buffers, moments, step counts. They must be the same ones, "
          "with the same shape and number type. A difference is a layer that is missing, extra or of another size; "
          "nothing else is compared until it is mended."),
    Claim(1, "parameter counts", "parameter counts",
          "How many trained numbers each network has, on both sides and in the publication. They must be equal. A "
          "difference is a layer of another width, or a bias too many or too few."),
    Claim(1, "layout rules of both stacks", "layout rules of both stacks",
          "Each live stack names the rule by which each tensor is turned from Julia's order of axes to PyTorch's. The "
          "rules must be the same. Where they differ, the layer is of another kind on one side."),
    Claim(1, "calls, layers and modes", "calls(, layers and modes| and their layers in order)",
          "Which networks one step calls, and through which layers each call goes, in order. Both sides must do the "
          "same; an activation may be one with its layer. A difference is a call too many, or layers in another "
          "order."),
    Claim(1, "train or eval mode", "train or eval mode .*",
          "BatchNorm and dropout work otherwise in train mode than in eval mode. Each of them must be in the same mode "
          "at each call on both sides. Where it differs, look for train(), eval(), or Flux's automatic switch."),
    Claim(2, "initial state, bit by bit", "initial state, bit by bit",
          "The state before the first step, made on both sides from the same random numbers. Every bit must be the "
          "same. A difference is another order of filling, another scale, or another random stream; mend it first, "
          "because everything after it starts from there."),
    Claim(2, "native initial weights, dropout and noise", "native initial weights, dropout and noise of .*",
          "Left to its own random numbers, does a stack draw from the published laws? Initial weights, dropout and "
          "noise are tested by Kolmogorov-Smirnov tests and moments, with one false alarm in a million. A difference "
          "is a wrong spread or rate; the row names the tensor. A recording cannot be asked this."),
    Claim(3, "outputs of every layer", "outputs of every layer( in (train|eval) mode|" + FED + ")",
          "What leaves every layer at every call, on steps that were recorded layer by layer, from the same state. "
          + _STEP + " The first layer that differs is usually the wrong one, all later ones inherit its error: read "
          "the diagnosis and replay that spot."),
    Claim(4, "batches as scaled", "batches as scaled",
          "The images that entered each step, after scaling to [-1, 1], by SHA-256. They must have the same bits. A "
          "difference is another order of the images, another scaling, or another data set."),
    Claim(4, "batches of two epochs", "batches of two epochs, by each stack's own order and scaling",
          "Each live stack orders and scales the images of two epochs by its own code. Each batch must have the same "
          "SHA-256. A difference is a shuffle of another epoch, or a last batch that is dropped or filled up."),
    Claim(4, "logits", "logits(" + FED + ")?",
          "What the discriminator says of each image, from the same state. " + _STEP + " If the outputs of its layers "
          "agree and these differ, the last layer is wrong; else look at level 3."),
    Claim(4, "losses", "losses(" + FED + ")?",
          "The losses that are minimised, from the same state. " + _STEP + " Where logits agree and a loss differs, "
          "the loss itself is another one: labels, sum for mean, a missing term."),
    Claim(5, "gradients of every parameter", "gradients of (the update .*|every parameter" + FED + ")",
          "The gradient of every parameter, for each update of an optimiser, from the same state. " + _STEP + " Sums "
          "that cancel get what rounding leaves of them. If losses agree and these differ, a backward pass is wrong, "
          "or gradients were kept from before."),
    Claim(5, "gradients with respect to every layer's output",
          "gradients with respect to every layer's output(" + FED + ")?",
          "The gradient that comes back to every layer. " + _STEP + " The last layer of the network that differs is "
          "usually the wrong one, for gradients run backwards. Replay that spot."),
    Claim(6, "first and second moments", "(first|second) moments",
          "Adam's two running means of each gradient after the step. " + _STEP + " If gradients agree and these "
          "differ, beta1, beta2 or the order of the update is another one."),
    Claim(6, "parameters", "parameters",
          "Every trained number after the step. " + _STEP + " If moments agree and these differ, look at the learning "
          "rate, at eps and at where it is added, and at the correction for the first steps."),
    Claim(6, "BatchNorm running statistics", "BatchNorm running statistics(" + FED + ")?",
          "Running mean and variance of every BatchNorm after the step. " + _STEP + " A difference is the momentum, a "
          "variance over n for one over n - 1, or a call that updates them on one side only."),
    Claim(6, "step counts and beta powers", "step counts and beta powers(" + FED + ")?",
          "How many steps each optimiser has counted, and the powers of its betas. They must be equal, the powers to "
          "rounding. A difference is an update too many or too few, or a count that starts at another number."),
    Claim(6, "moments, parameters and beta powers", "moments, parameters and beta powers(" + FED + "|" + OWN + ")",
          "Float32: one run's update by itself, from the gradient that this run computed, against the same update in "
          f"Float64. The tolerance is {LOCAL_FACTOR:g} times the noise level of this one operation. A difference is "
          "in the optimiser's code or in its precision, and in nothing before it."),
    Claim(7, FLIPS, FLIPS,
          "Units before a ReLU or leaky ReLU that are on in one run and off in the other. In Float64 there must be "
          "none. In Float32 a unit may flip only where its input is so near to zero that rounding can move it across: "
          f"at most {KINK_FACTOR:g} noise levels. Further away another number was computed; look at level 3."),
    Claim(7, "modes at every detailed step", "train or eval mode at every detailed step",
          "BatchNorm and dropout at every step that was recorded layer by layer, not only at the first. Each must be "
          "in the same mode on both sides. A difference is a switch between the modes at some later step."),
    Claim(7, EVERY, EVERY,
          "All tensors of levels 3 to 6 at all steps, each step from the reference's state, so that no difference can "
          "grow. The row shows the one that is nearest to its tolerance. It differs where any of them does; the rows "
          "above say which."),
    Claim(7, PARTIAL, PARTIAL,
          "The same for the steps whose batch has fewer images than the others, at the end of an epoch. A difference "
          "here alone is a mean over the wrong number, or noise drawn for a full batch. Not run: no such step was "
          "among those compared."),
    Claim(7, "correctness", CORRECTNESS,
          f"Of a Float32 run: both sides' Float64 steps from the same Float32 state, within {FLOAT64_STEP:g}. This "
          "decides whether the port is right; Float32 then is judged for rounding alone. Not run: the recording holds "
          "no Float64 steps, and must be made anew with pygan record --twin."),
    Claim(8, "tensors over steps", "tensors over steps",
          "Both runs on their own ways from the same start, their states compared at chosen steps. The tolerance is "
          f"{FREE_FACTOR:g} times what three runs of the referee part when they start one last digit apart, at least "
          f"{FREE_LEAST:g}. If single steps agree and this differs, something is carried from step to step outside "
          "the state. Float32 runs are shown and not judged."),
    Claim(9, "pictures from the same state", "pictures from the same state",
          "What both generators draw from the same weights and noise. " + _STEP + " A difference is the mode of "
          "BatchNorm while drawing, or another noise."),
    Claim(9, "pictures of both free runs", "pictures of both free runs",
          "What both generators draw after training on their own ways, in Float64. The tolerance is that of level 8. "
          "If level 8 agrees and this differs, it is in the drawing."),
    Claim(9, GRIDS, GRIDS + ", .*",
          f"The grids as written to PNG. A pixel may be off by {PIXEL} grey level, where rounding to 8 bits falls "
          "between two values that agree, and by no more. A difference is another order of pictures, another "
          "rounding, or rows and columns exchanged."),
    Claim(10, "learned", ".* learned",
          "Did this run train at all? Every network must move, get gradients and change its loss; pictures must not be "
          "grey or all alike. No run is compared with another. A difference is an optimiser that holds other tensors, "
          "or a loss cut off from the network."),
)  # fmt: skip

WORDS = {
    "agree": "Every compared number is within its tolerance. The last line says of how much: which steps, pictures and "
    "levels. What was not compared is not proved.",
    "differs": "At least one number is outside its tolerance, or a bit differs where all must be equal. The row says "
    "where. Below the table are the first place in the order of the computation, a probable cause, and a command that "
    "shows that spot again. Mend that first: the rest may follow from it.",
    "not run": "Nothing was compared, so nothing is said: neither agree nor differs. The reason stands below the table "
    "with what to record or to ask for.",
    "beyond horizon": "Two free runs were followed for so long that rounding alone may have parted them. Nothing can "
    "be claimed there. Compare fewer steps, or each step from the same state (level 7).",
    "horizon": "The step from which free runs prove nothing, because runs of the referee that start one last digit "
    f"apart have parted by more than {FREE_MOST / FREE_FACTOR:g}. Smaller networks and shorter runs have a later one.",
    "measured": "How far the two sides are apart, at the tensor that came nearest to its tolerance or went furthest "
    "over it. In Float64 it is the relative difference of the two runs. In Float32 it is the run's relative distance "
    "from the referee. A row with a unit counts both numbers in that unit.",
    "tolerance": "How large the measured number may be; on the same scale. Fixed in Float64; in Float32 it follows "
    "from the noise level of the very step. None was measured on one run to judge another. equal: no difference at "
    "all.",
    "compared": "How many tensors, over all steps, the row stands for. At levels 1 and 10 these are checks, at level 9 "
    "pictures.",
    "worst place": "The tensor that is nearest to its tolerance or furthest over it, as kind/name, and its step, "
    "counted from 0. With --step and --tensor it can be looked at closely.",
    "relative difference": "Norm of the difference of two tensors over the norm of the reference's. 1e-16 is rounding "
    "in Float64, 1e-7 in Float32, 1 is another tensor altogether.",
    "noise level": "How far rounding alone moves a number, measured on the referee: its own Float64 step with every "
    f"result rounded as Float32 does. A Float32 run may be off by {ENSEMBLE_FACTOR:g} noise levels, or by "
    f"{REFERENCE_FACTOR:g} times what the reference is; one operation by itself by {LOCAL_FACTOR:g}.",
    "teacher-forced": "Every compared step starts from the state that the other run had. So each step is judged by "
    "itself, and a small difference cannot grow into a large one.",
    "free run": "Both runs start alike once and then go their own ways, as in real training. Rounding parts them, "
    "sooner or later.",
    "referee": "A third run that decides what is rounding: the same step in Float64 from the Float32 state, with the "
    "Float32 run's constants and on/off pattern. It is torch code, and must itself agree with the reference's Float64 "
    "step.",
    "fed the referee's values": "The step once more, every single layer, backward pass and update given the referee's "
    "exact inputs. So each operation is judged alone. A difference names the operation that is wrong or imprecise.",
    "from its own gradients": "An update is repeated in Float64 from the gradient that the run itself computed. So the "
    "optimiser is judged apart from what comes before it.",
    "twin": "Narrow twin: the same recipe with few channels and small batches, for quick tests; every line of code is "
    "the same. --full compares the published sizes. Float64 twin: a step taken in Float64 beside a recorded Float32 "
    "step (pygan record --twin).",
    "sign flip": "A ReLU passes a positive input and stops a negative one. Where an input is nearly zero, rounding can "
    "put it on the other side, and gradients change visibly though nothing is wrong. So each run is held to a referee "
    "with its own on/off pattern, and each flip to the noise level of its input.",
    "probable cause": "A known slip whose formula gives the candidate's numbers from the reference's inputs, at two "
    "steps where there are two. It is a hint, no proof. unknown cause: no known slip explains the numbers; compare the "
    "code of that place on both sides.",
    "first difference": "The first tensor, in the order of the computation, that differs although its inputs agree. "
    "Tensors that inherit it agree once they start from equal inputs; they need no looking at.",
    "recording": "A run that was stored step by step (pygan record), most often of real Flux on a machine with Julia. "
    "It is compared like a live run, but holds only what was recorded.",
}  # fmt: skip


def claim_named(level: int, claim: str) -> Claim | None:
    """The explanation of a row's claim; a level's title stands for a level of which nothing was run."""
    found = (one for one in CLAIMS if one.level == level and re.fullmatch(one.pattern, claim))
    return next(found, next((one for one in CLAIMS if one.level == level and claim == LEVELS[level]), None))


def explained(word: str) -> Iterator[tuple[str, str]]:
    """Titles and sentences for a level's number, a word or a claim; all that names it where none is it exactly."""
    asked = word.strip().lower()
    if asked.isdecimal() and int(asked) in LEVELS:
        level = int(asked)
        yield f"level {level}: {LEVELS[level]}", ""
        yield from ((one.name, one.text) for one in CLAIMS if one.level == level)
        return
    every = {**WORDS, **{one.name: one.text for one in CLAIMS}}
    rows = [one.name for one in CLAIMS if re.fullmatch(one.pattern.lower(), asked)]
    exact = [name for name in every if name.lower() == asked] or rows
    yield from ((name, every[name]) for name in exact or [name for name in every if asked in name.lower()])


def names() -> Iterator[tuple[str, str]]:
    """Everything that can be asked for: the words, and each level with its claims."""
    yield "words", ", ".join(WORDS)
    for level, title in LEVELS.items():
        yield f"{level:>2} {title}", "; ".join(one.name for one in CLAIMS if one.level == level)
