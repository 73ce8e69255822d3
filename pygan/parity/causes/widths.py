"""A layer's constant rounded to Float32 on one side only. The two possible values are known, so nothing is solved."""

from __future__ import annotations

from collections.abc import Iterator

from pygan.parity.causes.common import NARROW, Hypothesis, other_widths
from pygan.parity.causes.formula import Formula, numbered

NUMBERS = {
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm"), "eps"),
    "leakyrelu": "negative_slope",
    "dropout": "scale",
}


def constant_width(formula: Formula) -> Iterator[Hypothesis]:
    """eps, slope or dropout scale in the other width."""
    if formula.evidence.tolerance > NARROW:  # a Float32 run does not show the eighth digit
        return
    for layer in formula.of_kind(*NUMBERS):
        name = NUMBERS[layer.kind]
        constant = layer.scale if name == "scale" else layer.numbers.get(name)
        if constant is None:
            continue
        for other in other_widths(float(constant), layer.numbers.get("p") if name == "scale" else None):
            value = formula.value({layer.path: numbered(name, other)})
            label = "slope" if name == "negative_slope" else name
            yield Hypothesis("constant in the wrong width", value, constant=(label, other, float(constant)))
