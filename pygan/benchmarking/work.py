"""The work of one training step, counted from the recipe: which products and layers it needs, on which shapes.

The recipe's own ``train_step`` is run once on shapes without values (torch's meta device), and the autograd graph
says which layers each update reaches. Counted is what a step needs: no gradient by weights of a network that is not
updated, and none by an input that nothing trained leads to. A convolution's multiplications with padding are not
counted (valid taps).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.draws import Draws
from pygan.recipes import torch_recipe
from pygan.recipes.dropout import Dropout

FORWARD, BY_INPUT, BY_WEIGHT, BOTH = "forward", "input", "weight", "both"
PRODUCTS = ("dense", "conv", "conv_transpose")
BYTES = 4

_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Linear, "dense"),
    (nn.Conv2d, "conv"),
    (nn.ConvTranspose2d, "conv_transpose"),
    (nn.BatchNorm1d, "batch_norm"),
    (nn.BatchNorm2d, "batch_norm"),
    (nn.LeakyReLU, "leaky"),
    (nn.Dropout, "dropout"),
)


@dataclass(frozen=True)
class Operation:
    """One operation on one layer's shapes (PyTorch's), done ``count`` times a step.

    ``kind``: ``dense``, ``conv``, ``conv_transpose``, ``batch_norm``, ``leaky``, ``dropout``, ``masks``, ``noise`` or
    ``optimiser``. ``pass_``: of a product ``forward``, by ``input`` or by ``weight``; of another layer ``forward``
    (alone) or ``both`` (forwards and backwards).
    """

    layer: str
    kind: str
    pass_: str
    input: tuple[int, ...]
    weight: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    stride: int = 1
    padding: int = 0
    count: int = 1

    @property
    def flop(self) -> int:
        """Floating-point operations of doing it once, a multiplication and an addition being two; products only."""
        if self.kind == "dense":
            return 2 * self.input[0] * prod(self.weight)
        if self.kind not in PRODUCTS:
            return 0
        wide, narrow = (self.input, self.output) if self.kind == "conv" else (self.output, self.input)
        taps = prod(
            valid_taps(w, n, k, self.stride, self.padding)
            for w, n, k in zip(wide[2:], narrow[2:], self.weight[2:], strict=True)
        )
        return 2 * self.input[0] * self.weight[0] * self.weight[1] * taps

    @property
    def bytes(self) -> int:
        """Float32 bytes that doing it once must at least move: each operand and the result once."""
        if self.kind == "optimiser":  # parameter, gradient and both moments in, parameter and both moments out
            return 7 * BYTES * prod(self.input)
        return BYTES * (prod(self.input) + prod(self.weight) + prod(self.output)) if self.kind in PRODUCTS else 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        entry = {key.rstrip("_"): value for key, value in asdict(self).items()}
        return entry | {"flop": self.flop, "bytes": self.bytes}


def valid_taps(wide: int, narrow: int, kernel: int, stride: int, padding: int) -> int:
    """Along one axis: pairs of a place on the narrow side and a kernel element that meet no padding."""
    return sum(0 <= at * stride - padding + k < wide for at in range(narrow) for k in range(kernel))


def step_operations(config: Any, images: int | None = None) -> list[Operation]:
    """Every operation of one step on ``images`` images (the config's batch), equal ones counted."""
    return _counted(_run(config, images).found)


def unused_operations(config: Any, images: int | None = None, *, by_input: bool) -> list[Operation]:
    """Gradients that a stack computes in a step and nobody uses: by weights of a network that is not updated, and
    ``by_input`` also those by inputs that nothing trained leads to (Zygote computes them, autograd does not).
    """
    found = _run(config, images).unused
    return _counted({key: count for key, count in found.items() if by_input or key[2] == BY_WEIGHT})


def _counted(found: Mapping[tuple[Any, ...], int]) -> list[Operation]:
    return [replace(Operation(*key), count=count) for key, count in found.items()]


def _run(config: Any, images: int | None) -> _Shapes:
    context = _Shapes(config)
    real = torch.empty((images or config.batch, 1, config.image_size, config.image_size), device="meta")
    torch_recipe(config.recipe).train_step(context, real)
    return context


def step_flop(operations: list[Operation]) -> int:
    """Floating-point operations of one step."""
    return sum(operation.flop * operation.count for operation in operations)


class _Shapes:
    """The ``StepContext`` that runs a recipe's step on shapes alone and counts operations."""

    def __init__(self, config: Any) -> None:
        self.config, self.draws = config, Draws(config.seed)
        self._networks = torch_recipe(config.recipe).build(config)
        for network in self._networks.values():
            network.to("meta")
        self._owner = {
            id(parameter): name for name, network in self._networks.items() for parameter in network.parameters()
        }
        self._waiting: list[tuple[str, str, tuple[Any, ...], Any, frozenset[str]]] = []
        self.found: Counter[tuple[Any, ...]] = Counter()
        self.unused: Counter[tuple[Any, ...]] = Counter()

    def network(self, name: str) -> nn.Module:
        return self._networks[name]

    def tensor(self, array: np.ndarray) -> Tensor:
        self.found[("draws", "noise", FORWARD, tuple(array.shape))] += 1
        return torch.empty(array.shape, device="meta")

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        module = self._networks[network].train(train)
        hooks = []
        for path, layer in module.named_modules():
            kind = next((kind for type_, kind in _KINDS if isinstance(layer, type_)), "")
            if isinstance(layer, Dropout):
                layer.source = None
            if kind and not list(layer.children()):
                hooks.append(layer.register_forward_hook(self._hook(network, f"{network}.{path}", kind)))
        try:
            result: Tensor = module(x)
        finally:
            for hook in hooks:
                hook.remove()
        return result

    def _hook(self, network: str, layer: str, kind: str) -> Any:
        def note(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shape = tuple(inputs[0].shape)
            if kind == "dropout" and module.training:
                self.found[(layer, "masks", FORWARD, shape)] += 1
            if kind not in PRODUCTS:
                training = output.grad_fn is not None
                if kind != "dropout" or module.training:
                    self.found[(layer, kind, BOTH if training else FORWARD, shape)] += 1
                return
            places = () if kind == "dense" else (module.stride[0], module.padding[0])
            shapes = (shape, tuple(module.weight.shape), tuple(output.shape), *places)
            self.found[(layer, kind, FORWARD, *shapes)] += 1
            if output.grad_fn is not None:
                leads = frozenset(self._owner[leaf] for leaf in _leaves(inputs[0]) if leaf in self._owner)
                self._waiting.append((network, layer, (kind, shapes), output.grad_fn, leads))

        return note

    def update(self, network: str, loss: Tensor) -> None:
        reached = _graph(loss.grad_fn)
        left = []
        for entry in self._waiting:
            owner, layer, (kind, shapes), node, leads = entry
            if node not in reached:
                left.append(entry)
                continue
            by_weight = self.found if owner == network else self.unused
            by_weight[(layer, kind, BY_WEIGHT, *shapes)] += 1
            by_input = self.found if network in leads else self.unused
            by_input[(layer, kind, BY_INPUT, *shapes)] += 1
        self._waiting = left
        for path, parameter in self._networks[network].named_parameters():
            self.found[(f"{network}.{path}", "optimiser", FORWARD, tuple(parameter.shape))] += 1

    def record(self, kind: str, name: str, value: Tensor) -> None:
        """Nothing is kept."""


def _graph(node: Any) -> set[Any]:
    """Every autograd node that leads to ``node``."""
    seen, todo = set(), [node]
    while todo:
        one = todo.pop()
        if one is not None and one not in seen:
            seen.add(one)
            todo += [upstream for upstream, _ in one.next_functions]
    return seen


def _leaves(tensor: Tensor) -> set[int]:
    """Ids of the parameters that ``tensor`` was computed from under autograd."""
    if tensor.grad_fn is None:
        return set()
    return {id(node.variable) for node in _graph(tensor.grad_fn) if hasattr(node, "variable")}


def table_line(operation: Operation) -> str:
    """The line of the reports' tables on which ``operation`` is counted."""
    passes = {FORWARD: "forward", BY_INPUT: "gradient by input", BY_WEIGHT: "gradient by weight"}
    if operation.kind in ("conv", "conv_transpose"):
        return f"convolutions, {passes[operation.pass_]}"
    lines = {"dense": "dense layers", "batch_norm": "BatchNorm", "leaky": "activations", "dropout": "dropout and draws"}
    lines |= {"masks": "dropout and draws", "noise": "dropout and draws", "optimiser": "optimiser"}
    return lines[operation.kind]
