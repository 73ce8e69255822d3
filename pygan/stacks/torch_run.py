"""What a recipe's step is written in on the torch side: the ``StepContext``, and everything that can be kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.draws import Draws
from pygan.recipes.dropout import Dropout
from pygan.records import Arrays
from pygan.stacks.optimiser_state import beta_powers

if TYPE_CHECKING:
    from pygan.stacks.torch_stack import TorchStack

KINKS = (nn.ReLU, nn.LeakyReLU)
MODED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout)


class Run:
    """The ``StepContext`` of one step: runs calls with keyed dropout patterns and keeps what is to be recorded.

    ``impose`` forces on/off patterns by ``call/network.layer``; ``look`` keeps what enters a kink at the given places
    ``(count, rank)``. ``force`` takes the flat arrays of another run's
    record of the same step: whatever was computed is kept, and then the other run's value goes on in its place,
    forwards, backwards and through the updates, so that what is kept shows each layer's own difference and no other's.
    """

    def __init__(
        self,
        stack: TorchStack,
        draws: Draws,
        capture: Iterable[str] = (),
        impose: Mapping[str, np.ndarray] | None = None,
        force: Mapping[str, np.ndarray] | None = None,
        look: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.config, self.draws = stack.config, draws
        self._stack, self._capture = stack, frozenset(capture)
        self._impose, self._force, self._look = impose or {}, force or {}, look or {}
        self.kept: dict[str, Tensor] = {}
        self.order: list[str] = []
        self.sources: dict[str, str] = {}
        self._made: dict[int, tuple[str, Tensor]] = {}  # the tensor is held, so that its id stays its own
        self._updated: dict[str, str] = {}

    # --- the StepContext -------------------------------------------------------------------------------------

    def network(self, name: str) -> nn.Module:
        """A network of the recipe."""
        return self._stack.networks[name]

    def tensor(self, array: np.ndarray) -> Tensor:
        """A drawn array on the stack's device in its dtype."""
        return torch.from_numpy(array).to(self._stack.device, self._stack.dtype)

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        """``network(x)`` in train or eval mode, with taps and kinks hooked for its duration."""
        module = self.network(network).train(train)
        hooks = []
        tapped = not self._capture.isdisjoint(("layers", "layer_sketches"))
        for path, layer in module.named_modules():
            key = f"{name}/{network}.{path}"
            if isinstance(layer, Dropout):
                layer.source = self._source(f"mask/{key}") if self.config.randomness == "keyed" else None
            elif isinstance(layer, nn.Dropout) and train and self.config.randomness == "keyed":
                hooks.append(layer.register_forward_hook(self._keyed_dropout(f"mask/{key}")))
            if train and isinstance(layer, KINKS):
                if self._capture & {"patterns", f"patterns:{name}"}:  # what the layer did, before anything is imposed
                    hooks.append(self._keep_pattern(module, layer, key))
                if key in self._impose:
                    hooks.append(layer.register_forward_hook(self._imposed_kink(key)))
                if key in self._look:
                    hooks.append(layer.register_forward_hook(self._look_hook(key)))
            if tapped and not list(layer.children()):
                hooks.append(layer.register_forward_pre_hook(self._source_hook(key)))
                hooks.append(layer.register_forward_hook(self._tap_hook(key)))
        try:
            if tapped:
                entered = f"{name}/{network}.input"
                self.sources[entered] = self._made.get(id(x), ("",))[0]
                x = self._tap(entered, x)
            result: Tensor = module(x)
        finally:
            for hook in hooks:
                hook.remove()
        if train and not self._capture.isdisjoint(("state", "sketches")):
            buffers = [(path, value) for path, value in module.named_buffers() if is_statistic(path)]
            self._happened(f"state/buffer/{network}.{path}" for path, _ in buffers)
            for path, value in buffers if "state" in self._capture else ():
                self._keep(f"buffer/{name}/{network}.{path}", value.clone())
        return result

    def update(self, name: str, loss: Tensor) -> None:
        """Gradient of ``loss`` for a network and one step of its optimiser. The update is called after the network, or
        ``network/what`` where a step has several of it."""
        network = name.partition("/")[0]
        optimiser = self._stack.optimisers[network]
        self._before_update(network)
        optimiser.zero_grad()
        self._gradients(network, loss)
        wanted = self._capture & {"gradients", "sketches"}
        for path, parameter in self.network(network).named_parameters():
            key = f"gradient/{name}/{network}.{path}"
            if parameter.grad is not None and wanted:
                self._keep(key, parameter.grad.clone())
            if parameter.grad is not None and self._fits(key, parameter):
                parameter.grad.copy_(self._given(key))
        optimiser.step()
        self._updated[network] = name
        if not self._capture.isdisjoint(("state", "sketches")):
            self._after_update(name, network)

    def _gradients(self, network: str, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def record(self, kind: str, name: str, value: Tensor) -> None:
        """Keep a ``loss`` or ``logits`` for the StepRecord."""
        self._keep(f"{kind}/{name}", value)

    # --- keeping ---------------------------------------------------------------------------------------------

    def _keep(self, key: str, value: Tensor) -> None:
        self.kept[key] = value.detach()
        self._happened([key])

    def _happened(self, keys: Iterable[str]) -> None:
        self.order += keys

    def _fits(self, key: str, value: Tensor) -> bool:
        """Is there another run's value to go on with? One of another shape is a finding, not a value to force."""
        return key in self._force and self._force[key].shape == tuple(value.shape)

    def _given(self, key: str) -> Tensor:
        return torch.from_numpy(self._force[key]).to(self._stack.device, self._stack.dtype)

    def _before_update(self, network: str) -> None:
        """Keep what an earlier update of this step left in the network, before it is moved again."""
        earlier = self._updated.get(network)
        if earlier is not None and "state" in self._capture:
            for key, tensor in self._moved(network).items():
                self.kept.setdefault(f"updated/{earlier}/{key}", tensor.clone())

    def _moved(self, network: str) -> dict[str, Tensor]:
        """The tensors that an update of ``network`` moves."""
        tensors = self._stack.tensors_of(network)
        return {key: tensor for key, tensor in tensors.items() if not key.startswith("buffer/")}

    def _after_update(self, name: str, network: str) -> None:
        tensors = self._moved(network)
        self._happened(f"updated/{name}/{key}" for key in tensors)
        self._happened(f"state/{key}" for key in tensors)
        if beta_powers(self._stack.optimisers[network]) is not None:
            self._happened([f"state/beta_power/{network}"])
        if self._force:
            for key, tensor in tensors.items():
                middle = f"updated/{name}/{key}"
                kept = middle if middle in self._force else f"state/{key}"
                self.kept[kept] = tensor.clone()
                if key.startswith("parameter/") and self._fits(kept, tensor):
                    tensor.copy_(self._given(kept))

    def _source(self, stream: str) -> Callable[[tuple[int, ...], float], Tensor]:
        return lambda shape, rate: self.tensor(self.draws.keep(stream, shape, rate))

    def _keyed_dropout(self, stream: str) -> Any:
        """A plain ``nn.Dropout`` drops by the keyed pattern: what its own pattern gave is not used."""

        def drop(layer: nn.Dropout, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            keep = self._source(stream)(tuple(inputs[0].shape), layer.p)
            return inputs[0] * (keep / (1 - layer.p))

        return drop

    def _source_hook(self, key: str) -> Any:
        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            made = [self._made.get(id(x), ("",))[0] for x in inputs]
            self.sources[key] = made[0] if len(made) == 1 else ""

        return keep

    def _tap_hook(self, key: str) -> Any:
        def keep(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if isinstance(layer, MODED):
                self._keep(f"mode/{key}", torch.tensor(layer.training))
            return self._tap(key, output)

        return keep

    def _tap(self, key: str, value: Tensor) -> Tensor:
        """Keep ``value`` and the gradient that comes back to it; give what goes on in its place."""
        self._keep(f"activation/{key}", value)
        if self._fits(f"activation/{key}", value):
            value = _Replace.apply(value, self._given(f"activation/{key}"))  # type: ignore[no-untyped-call]
        if value.requires_grad:
            value.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._tap_gradient(f"activation_gradient/{key}", gradient)
            )
        self._made[id(value)] = (key, value)
        return value

    def _tap_gradient(self, key: str, gradient: Tensor) -> Tensor | None:
        self._keep(key, gradient)
        return self._given(key) if self._fits(key, gradient) else None

    def _keep_pattern(self, network: nn.Module, kink: nn.Module, key: str) -> Any:
        """Keep the on/off pattern of ``kink``, a layer of ``network``, until what is returned is removed."""

        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._keep(f"pattern/{key}", output > 0)

        return kink.register_forward_hook(keep)

    def _look_hook(self, key: str) -> Any:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            self._keep(f"kink/{key}", inputs[0].detach()[tuple(torch.from_numpy(self._look[key].T))])

        return keep

    def _imposed_kink(self, key: str) -> Any:
        def bend(layer: nn.Module, inputs: tuple[Tensor, ...], own: Tensor) -> Tensor:
            x, given = inputs[0], torch.from_numpy(self._impose[key]).to(own.device)
            if given.shape != own.shape:
                return own
            slope = getattr(layer, "negative_slope", 0.0)
            return torch.where((own > 0) == given, own, torch.where(given, x, slope * x))

        return bend

    def release(self) -> None:
        """Let go of the step's graph, which this run and the hooks in it would hold for each other."""
        self._made.clear()

    def parts(self, kinds: Sequence[str]) -> dict[str, Arrays]:
        """What was kept of each kind, on the host."""
        found: dict[str, Arrays] = {kind: {} for kind in kinds}
        for key, value in self.kept.items():
            kind, _, name = key.partition("/")
            if kind in found:
                found[kind][name] = to_numpy(value)
        return found


class _Replace(torch.autograd.Function):
    """Another value in place of ``own``; the gradient goes on to ``own`` unchanged."""

    @staticmethod
    def forward(_: Any, own: Tensor, given: Tensor) -> Tensor:
        return given.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def is_statistic(path: str) -> bool:
    """Is the buffer a running statistic, and not torch's count of batches?"""
    return not path.endswith("num_batches_tracked")


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A copy of ``tensor`` on the host."""
    return np.array(tensor.detach().cpu().numpy())
