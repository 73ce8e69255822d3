"""The torch stack: PyTorch in this process."""

from __future__ import annotations

import math
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
from pygan.layouts import table
from pygan.pictures.grid import grid
from pygan.recipes import torch_recipe
from pygan.records import KINDS, Arrays, StepRecord
from pygan.schedule import Schedule
from pygan.sketches import sketch
from pygan.stacks import LayerSpec, TimedSteps
from pygan.stacks.exact import PREFIX, exact_arrays, make_slots, restore_exact
from pygan.stacks.optimiser_state import beta_powers, numbers_of, prepare, set_beta_powers, slots_of
from pygan.stacks.settings import under_own_settings
from pygan.stacks.torch_run import Run, to_numpy
from pygan.state import State, check_same_layout

_RULE_OF_LAYER: dict[type[nn.Module], str] = {
    nn.Linear: "dense",
    nn.Conv2d: "conv",
    nn.ConvTranspose2d: "conv_transpose",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.LayerNorm: "layer_norm",
    nn.GroupNorm: "group_norm",
}
_KIND_OF_LAYER: dict[type[nn.Module], str] = {
    nn.Dropout: "dropout",
    nn.Upsample: "upsample",
    nn.ConstantPad2d: "zeropad2d",
}
"""Kinds of layers without parameters that are not told by their class's name alone: it has sub-classes."""


class TorchStack:
    """Runs the PyTorch side of a recipe. See :class:`pygan.stacks.Stack` for the methods."""

    name = "torch"
    step_form = "idiomatic"
    """How the step is computed; :class:`pygan.stacks.fast.stack.FastTorchStack` has the other form."""
    run_class: type[Run] = Run

    def __init__(self, config: RunConfig) -> None:
        if config.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device = cuda, but torch sees no CUDA GPU; use --device cpu or a CUDA build of torch")
        self.config: Any = config
        self._recipe = torch_recipe(config.recipe)
        self.dtype = torch.float64 if config.dtype == "float64" else torch.float32
        self.device = torch.device(config.device)
        if config.device == "cuda":  # Float32 means Float32: torch allows TF32 in cuDNN convolutions by default
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.threads = config.threads or os.cpu_count() or 1
        self.initialise()

    @under_own_settings
    def initialise(self) -> None:
        self.networks = self._recipe.build(self.config)
        for name, network in self.networks.items():
            check_known(name, network)
        if self.config.randomness == "native":
            torch.manual_seed(self.config.seed)
        self._recipe.initialise(self.networks, self.config, self._draws(Draws(self.config.seed)))
        for network in self.networks.values():
            network.to(self.device, self.dtype)
        self.optimisers = self._recipe.optimisers(self.networks, self.config)
        for optimiser in self.optimisers.values():
            prepare(optimiser)
        self._steps = 0

    def _draws(self, keyed: Draws) -> Draws:
        return TorchDraws(keyed.seed, keyed.step) if self.config.randomness == "native" else keyed

    def describe(self) -> dict[str, Any]:
        precision = torch.get_float32_matmul_precision()
        warned = f"torch.set_float32_matmul_precision is {precision}: products of Float32 may be rounded to fewer bits"
        return {
            **({} if precision == "highest" else {"matmul_precision": precision, "warning": warned}),
            "torch": torch.__version__,
            "step": self.step_form,
            "threads": self.threads,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "tf32": torch.backends.cudnn.allow_tf32 if self.device.type == "cuda" else False,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        }

    # --- state -----------------------------------------------------------------------------------------------

    def tensors_of(self, name: str) -> dict[str, Tensor]:
        """Parameters, moments and buffers of one network by canonical key, not copied."""
        network, optimiser = self.networks[name], self.optimisers[name]
        tensors: dict[str, Tensor] = {}
        for path, parameter in network.named_parameters():
            key = f"{name}.{path}"
            tensors |= {f"{slot}/{key}": held for slot, held in slots_of(optimiser, parameter).items()}
            tensors[f"parameter/{key}"] = parameter.data
        return tensors | {
            f"buffer/{name}.{path}": buffer
            for path, buffer in network.named_buffers()
            if not path.endswith("num_batches_tracked")
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {key: tensor for name in self.networks for key, tensor in self.tensors_of(name).items()}

    def state(self) -> State:
        state = {key: to_numpy(tensor) for key, tensor in self._tensors().items()}
        powers = {name: beta_powers(self.optimisers[name]) for name in self.networks}
        state |= {f"beta_power/{name}": each for name, each in powers.items() if each is not None}
        return state | {"step": np.array(self._steps, np.int64)}

    def load_state(self, state: State) -> None:
        check_same_layout(state, self.state())
        for key, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(state[key]))
        for name in self.networks:
            if (key := f"beta_power/{name}") in state:
                set_beta_powers(self.optimisers[name], state[key])
        self._steps = int(state["step"])

    def checkpoint(self) -> Arrays:
        native = self.config.randomness == "native"
        return {**self.state(), **exact_arrays(self.networks, self.optimisers, native, self.device)}

    @under_own_settings
    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        state = {key: value for key, value in arrays.items() if not key.startswith(PREFIX)}
        make_slots(self.networks, self.optimisers, state)
        self.load_state(state)
        exact = {key: value for key, value in arrays.items() if key.startswith(PREFIX)}
        restore_exact(self.networks, self.optimisers, exact)

    def rules(self) -> dict[str, str]:
        return {
            f"{name}.{path}.{tensor}": f"{row}.{tensor}"
            for name, network in self.networks.items()
            for path, layer in network.named_modules()
            if (row := _row(layer))
            for tensor in ("weight", "bias", "running_mean", "running_var")
            if getattr(layer, tensor, None) is not None
        }

    def layers(self) -> dict[str, LayerSpec]:
        """What every layer is, by path ``network.layer``, in the order of application."""
        return {
            f"{name}.{path}": _spec(layer)
            for name, network in self.networks.items()
            for path, layer in network.named_modules()
            if not list(layer.children())
        }

    def update_numbers(self) -> dict[str, Mapping[str, float]]:
        """The numbers of each network's optimiser (:func:`~pygan.stacks.optimiser_state.numbers_of`)."""
        return {name: numbers_of(optimiser) for name, optimiser in self.optimisers.items()}

    # --- running ---------------------------------------------------------------------------------------------

    @under_own_settings
    def step(
        self,
        batch: np.ndarray,
        draws: Draws,
        capture: Sequence[str] = (),
        impose: Mapping[str, np.ndarray] | None = None,
        force: StepRecord | None = None,
        look: Mapping[str, np.ndarray] | None = None,
    ) -> StepRecord:
        """One step. ``impose`` forces on/off patterns of relus and leaky relus, by ``call/network.layer``; ``look``
        gives places ``(count, rank)`` in them whose inputs are wanted (record's ``kink``).

        With ``force``, a record of the same step by another run with full ``layers``, ``gradients`` and ``state``,
        every layer starts from that run's values (see :class:`~pygan.stacks.torch_run.Run`). Such a step is for
        looking at: the stack's own state afterwards is of no use and must be loaded anew.
        """
        given = {} if force is None else force.to_arrays()
        run = self.run_class(self, self._draws(draws), capture, impose, given, look)
        self._recipe.train_step(run, run.tensor(batch))
        run.release()
        self._steps += 1
        parts = run.parts(KINDS)
        if "state" in capture or "sketches" in capture:
            state = {**self.state(), **parts["state"]}
            parts["state"] = state if "state" in capture else {}
        if "sketches" in capture:
            full = {f"state/{key}": value for key, value in state.items() if value.ndim and key[:5] != "beta_"}
            full |= {f"gradient/{key}": value for key, value in parts["gradient"].items()}
            parts["sketch"] = {key: sketch(value) for key, value in full.items()}
        if "layer_sketches" in capture:
            for kind in ("activation", "activation_gradient"):
                parts["sketch"] |= {f"{kind}/{key}": sketch(value) for key, value in parts[kind].items()}
        wanted = {"gradient": "gradients", "logits": "logits", "activation": "layers", "activation_gradient": "layers"}
        for kind, word in wanted.items():
            if word not in capture:
                parts[kind] = {}
        parts["batch"] = {"images": batch} if "batch" in capture else {}
        batch_sha256 = sha256(batch.tobytes())
        return StepRecord(self._steps - 1, batch_sha256, tuple(run.order), run.sources, **parts)

    @under_own_settings
    def generate(self, latent: np.ndarray) -> np.ndarray:
        run = self.run_class(self, self._draws(Draws(self.config.seed)))
        drawn = to_numpy(self._recipe.pictures(run, run.tensor(latent)))
        run.release()
        return drawn

    def grid(self, pictures: np.ndarray) -> np.ndarray:
        return grid(pictures, math.isqrt(len(pictures)))

    def batch_hashes(self, images: np.ndarray, steps: Sequence[int]) -> list[str]:
        schedule = Schedule.of(self.config, images)
        return [sha256(schedule[step].tobytes()) for step in steps]

    @under_own_settings
    def time_steps(self, batches: Sequence[np.ndarray], draws: Draws) -> TimedSteps:
        seconds, losses = [], []
        for batch in batches:
            start = self._clock()
            run = self.run_class(self, self._draws(draws.at(self._steps)))
            self._recipe.train_step(run, run.tensor(batch))
            seconds.append(self._clock() - start)
            self._steps += 1
            losses.append(sum(float(value) for value in run.parts(("loss",))["loss"].values()))
        return TimedSteps(seconds, losses)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def close(self) -> None:
        """Nothing to release."""


class TorchDraws(Draws):
    """Draws from torch's own generator, for runs with ``randomness = native``; stream names have no effect."""

    def normal(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normals, Float32."""
        return to_numpy(torch.randn(shape))

    def uniform(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform in [0, 1), Float32."""
        return to_numpy(torch.rand(shape))

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """Dropout pattern: True where the unit stays."""
        return to_numpy(torch.rand(shape) >= rate)

    def permutation(self, stream: str, count: int) -> np.ndarray:
        """A random order of ``range(count)``."""
        return to_numpy(torch.randperm(count))


def _kind(layer: nn.Module, kinds: Mapping[type[nn.Module], str]) -> str:
    return next((name for kind, name in kinds.items() if isinstance(layer, kind)), "")


def _row(layer: nn.Module) -> str:
    """The rows of ``layer`` in the layout table; empty for one without parameters. A LayerNorm over several axes has
    rows of its own."""
    axes = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    return _kind(layer, _RULE_OF_LAYER) + (f"_{axes}d" if axes > 1 else "")


def check_known(name: str, network: nn.Module) -> None:
    """Raise ``ConfigError`` for parameters of ``network`` that no row of the layout table covers."""
    for path, layer in network.named_modules():
        row = _row(layer)
        own = [tensor for tensor, _ in layer.named_parameters(recurse=False)]
        if unknown := [tensor for tensor in own if f"{row}.{tensor}" not in table()]:
            raise ConfigError(
                f"{f'{name}.{path}'.rstrip('.')}: pygan does not know the parameter {unknown[0]!r} of a "
                f"{type(layer).__name__}, so it could not be compared. Use layers that it knows "
                f"({', '.join(kind.__name__ for kind in _RULE_OF_LAYER)}), or add the kind: a row [kind.tensor] in "
                "julia/share/layouts.toml, the class in _RULE_OF_LAYER of pygan/stacks/torch_stack.py, and methods of "
                "layer_kind and parameter_fields in julia/src/layers.jl"
            )


_NUMBERS = (
    *("eps", "momentum", "negative_slope", "p", "scale", "stride", "padding", "dilation", "output_padding", "groups"),
    *("kernel_size", "ceil_mode", "count_include_pad", "num_groups", "normalized_shape", "approximate", "beta"),
    *("threshold", "scale_factor", "size", "mode", "align_corners", "value"),
)


def _spec(layer: nn.Module) -> LayerSpec:
    kind = _kind(layer, _RULE_OF_LAYER) or _kind(layer, _KIND_OF_LAYER) or type(layer).__name__.lower()
    numbers = {name: getattr(layer, name) for name in _NUMBERS if hasattr(layer, name)}
    return LayerSpec(kind, numbers)
