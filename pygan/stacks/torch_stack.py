"""The torch stack: PyTorch in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.files import sha256
from pygan.recipes import torch_recipe
from pygan.recipes.dropout import Dropout
from pygan.records import Arrays, StepRecord
from pygan.sketches import sketch
from pygan.stacks import TimedSteps
from pygan.state import State, check_same_layout

_RULE_OF_LAYER: dict[type[nn.Module], str] = {
    nn.Linear: "dense",
    nn.Conv2d: "conv",
    nn.ConvTranspose2d: "conv_transpose",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
}
_KINKS = (nn.ReLU, nn.LeakyReLU)


class TorchStack:
    """Runs the PyTorch side of a recipe. See :class:`pygan.stacks.Stack` for the methods."""

    name = "torch"

    def __init__(self, config: RunConfig) -> None:
        if config.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device = cuda, but torch sees no CUDA GPU; use --device cpu or a CUDA build of torch")
        self.config: Any = config
        self._recipe = torch_recipe(config.recipe)
        self._dtype = torch.float64 if config.dtype == "float64" else torch.float32
        self._device = torch.device(config.device)
        if config.device == "cuda":  # Float32 means Float32: torch allows TF32 in cuDNN convolutions by default
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.set_num_threads(config.threads or os.cpu_count() or 1)
        self.initialise()

    def initialise(self) -> None:
        self._networks = self._recipe.build(self.config)
        if self.config.randomness == "native":
            torch.manual_seed(self.config.seed)
        self._recipe.initialise(self._networks, self.config, self._draws(Draws(self.config.seed)))
        for network in self._networks.values():
            network.to(self._device, self._dtype)
        self._optimisers = self._recipe.optimisers(self._networks, self.config)
        self._steps = 0

    def _draws(self, keyed: Draws) -> Draws:
        return TorchDraws(keyed.seed, keyed.step) if self.config.randomness == "native" else keyed

    def describe(self) -> dict[str, Any]:
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu",
            "tf32": torch.backends.cudnn.allow_tf32 if self._device.type == "cuda" else False,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        }

    # --- state -----------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        """Every float tensor of the state by canonical key, not copied."""
        tensors: dict[str, Tensor] = {}
        for name, network in self._networks.items():
            slots = self._optimisers[name].state
            for path, parameter in network.named_parameters():
                key = f"{name}.{path}"
                tensors[f"parameter/{key}"] = parameter.data
                tensors[f"exp_avg/{key}"] = slots[parameter]["exp_avg"]
                tensors[f"exp_avg_sq/{key}"] = slots[parameter]["exp_avg_sq"]
            tensors |= {
                f"buffer/{name}.{path}": buffer
                for path, buffer in network.named_buffers()
                if not path.endswith("num_batches_tracked")
            }
        return tensors

    def _beta_powers(self, network: str) -> list[Tensor]:
        return [slot["beta_power"] for slot in self._optimisers[network].state.values()]

    def state(self) -> State:
        state = {key: _numpy(tensor) for key, tensor in self._tensors().items()}
        state |= {f"beta_power/{name}": _numpy(self._beta_powers(name)[0]) for name in self._networks}
        return state | {"step": np.array(self._steps, np.int64)}

    def load_state(self, state: State) -> None:
        check_same_layout(state, self.state())
        for key, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(state[key]))
        for name in self._networks:
            for power in self._beta_powers(name):
                power.copy_(torch.from_numpy(state[f"beta_power/{name}"]))
        self._steps = int(state["step"])

    def rules(self) -> dict[str, str]:
        return {
            f"{name}.{path}.{tensor}": f"{_RULE_OF_LAYER[type(layer)]}.{tensor}"
            for name, network in self._networks.items()
            for path, layer in network.named_modules()
            if type(layer) in _RULE_OF_LAYER
            for tensor in ("weight", "bias", "running_mean", "running_var")
            if getattr(layer, tensor, None) is not None
        }

    # --- running ---------------------------------------------------------------------------------------------

    def step(
        self,
        batch: np.ndarray,
        draws: Draws,
        capture: Sequence[str] = (),
        impose: Mapping[str, np.ndarray] | None = None,
    ) -> StepRecord:
        """One step. ``impose`` forces the on/off pattern of every relu and leaky relu that it names."""
        run = _Run(self, draws, frozenset(capture), impose)
        self._recipe.train_step(run, run.tensor(batch))
        self._steps += 1
        parts = run.parts()
        if "sketches" in capture:
            full = {f"state/{key}": value for key, value in self.state().items() if value.ndim and key[:5] != "beta_"}
            full |= {f"gradient/{key}": value for key, value in parts["gradient"].items()}
            parts["sketch"] = {key: sketch(value) for key, value in full.items()}
        for kind, word in (("gradient", "gradients"), ("logits", "logits")):
            if word not in capture:
                parts[kind] = {}
        state = self.state() if "state" in capture else {}
        return StepRecord(step=self._steps - 1, batch_sha256=sha256(batch.tobytes()), state=state, **parts)

    def generate(self, latent: np.ndarray) -> np.ndarray:
        run = _Run(self, Draws(self.config.seed), frozenset())
        return _numpy(self._recipe.pictures(run, run.tensor(latent)))

    def time_steps(self, batches: Sequence[np.ndarray], draws: Draws) -> TimedSteps:
        seconds, losses = [], []
        for batch in batches:
            start = self._clock()
            run = _Run(self, draws.at(self._steps), frozenset())
            self._recipe.train_step(run, run.tensor(batch))
            seconds.append(self._clock() - start)
            self._steps += 1
            losses.append(sum(float(value) for value in run.parts()["loss"].values()))
        return TimedSteps(seconds, losses)

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def close(self) -> None:
        """Nothing to release."""


class TorchDraws(Draws):
    """Draws from torch's own generator, for runs with ``randomness = native``; stream names have no effect."""

    def normal(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normals, Float32."""
        return _numpy(torch.randn(shape))

    def uniform(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform in [0, 1), Float32."""
        return _numpy(torch.rand(shape))


class _Run:
    """The ``StepContext`` of one step: runs calls with keyed dropout patterns and keeps what is to be recorded."""

    def __init__(
        self, stack: TorchStack, draws: Draws, capture: frozenset[str], impose: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.config, self.draws = stack.config, stack._draws(draws)
        self._impose = impose or {}
        self._stack, self._capture = stack, capture
        self._kept: dict[str, dict[str, Tensor]] = {"loss": {}, "logits": {}, "gradient": {}, "pattern": {}}

    def network(self, name: str) -> nn.Module:
        return self._stack._networks[name]

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._stack._device, self._stack._dtype)

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        module = self.network(network).train(train)
        hooks = []
        for path, layer in module.named_modules():
            if isinstance(layer, Dropout):
                layer.source = (
                    self._source(f"mask/{name}/{network}.{path}") if self.config.randomness == "keyed" else None
                )
            if train and isinstance(layer, _KINKS):
                key = f"{name}/{network}.{path}"
                if key in self._impose:
                    hooks.append(layer.register_forward_hook(self._imposed_kink(key)))
                if self._capture & {"patterns", f"patterns:{name}"}:
                    hooks.append(layer.register_forward_hook(self._pattern_hook(key)))
        try:
            result: Tensor = module(x)
        finally:
            for hook in hooks:
                hook.remove()
        return result

    def _source(self, stream: str) -> Any:
        return lambda shape, rate: self.tensor(self.draws.keep(stream, shape, rate))

    def _pattern_hook(self, key: str) -> Any:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            self._kept["pattern"][key] = inputs[0].detach() > 0

        return keep

    def _imposed_kink(self, key: str) -> Any:
        def bend(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            x = inputs[0]
            slope = getattr(layer, "negative_slope", 0.0)
            return torch.where(torch.from_numpy(self._impose[key]).to(x.device), x, slope * x)

        return bend

    def update(self, network: str, loss: Tensor) -> None:
        optimiser = self._stack._optimisers[network]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._capture & {"gradients", "sketches"}:
            for path, parameter in self.network(network).named_parameters():
                if parameter.grad is not None:
                    self._kept["gradient"][f"{network}.{path}"] = parameter.grad.clone()
        optimiser.step()

    def record(self, kind: str, name: str, value: Tensor) -> None:
        self._kept[kind][name] = value.detach()

    def parts(self) -> dict[str, Arrays]:
        """What was kept, on the host."""
        return {kind: {name: _numpy(v) for name, v in values.items()} for kind, values in self._kept.items()}


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy())
