"""Is a tensor that a report names where the fault was planted?"""

from __future__ import annotations

from collections.abc import Collection, Sequence

OF_LAYERS = ("activation", "activation_gradient", "pattern", "mode", "buffer")
"""Kinds whose names begin with a call."""
ORDER = {
    "discriminator": ("input", "conv1", "leaky1", "drop1", "conv2", "leaky2", "drop2", "flatten", "dense"),
    "generator": (
        *("input", "dense", "norm1", "relu1", "unflatten", "conv1", "norm2", "relu2", "conv2", "norm3", "relu3"),
        *("conv3", "tanh"),
    ),
}
"""The recipe's layers."""
FUSED = ("norm1", "norm2", "norm3", "conv3")
"""Layers of the generator that Flux fuses with the activation after them: they have no tap of their own."""


def right_place(place: str, key: str) -> bool:
    """Does ``key``, ``kind/name``, lie in what was planted at ``place``?

    ``place`` is a network (its losses, gradients and updates), a call ``call/network``, a layer ``network.layer``, a
    parameter ``network.layer.tensor``, or a word that is in what the report says. A layer's own differences show in
    what leaves it, in the gradient that it hands back, in its parameters' gradients and in its statistics.
    """
    kind, _, name = key.partition("/")
    last = name.rpartition("/")[2]
    network, _, rest = place.rpartition("/")[2].partition(".")
    if network not in ORDER:
        return place in key
    if "/" in place:
        return f"{name}.".startswith(f"{place}.") or name == place.partition("/")[0]
    if not rest:
        return last.partition(".")[0] == network or name == network
    layer, _, tensor = rest.partition(".")
    if tensor:
        return last == place
    if kind in ("activation", "pattern", "mode", "activation_gradient"):
        return last in near(network, layer, backward=kind == "activation_gradient")
    return f"{last}.".startswith(f"{place}.") or place in key


def within(place: str, span: str) -> bool:
    """Does the ``span`` of calls, told where no layers were recorded, hold the layer, network or call ``place``?"""
    call = place.partition(".")[0]
    return "the calls " in span and any(f"{one.rstrip(',')}".endswith(call) for one in span.split())


def near(network: str, layer: str, backward: bool) -> Collection[str]:
    """The layer and, forwards, the first tap that shows it; backwards, the tap that gets its gradient."""
    order = ORDER[network]
    at = order.index(layer)
    found = [layer]
    if backward:
        found += _taps(network, order[:at][::-1])[:1]
        found += _taps(network, order[at:])[:1]
    else:
        found += _taps(network, order[at:])[:1]
    return {f"{network}.{one}" for one in found}


def _taps(network: str, layers: Sequence[str]) -> list[str]:
    return [one for one in layers if network != "generator" or one not in FUSED]
