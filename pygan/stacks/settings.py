"""Global settings of torch belong to the calling program: a stack computes under its own and gives them back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch


class HasThreads(Protocol):
    """What has a number of threads of its own."""

    threads: int


_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S", bound=HasThreads)


@contextlib.contextmanager
def own_settings(threads: int) -> Iterator[None]:
    """Compute on ``threads`` threads with gradients, without autocast, in torch's own default dtype and on its default
    device. What the calling program had set is back afterwards.

    Its choice of kernels (deterministic mode, oneDNN, matmul precision) stays: results name it in their environment.
    """
    dtype, device, count = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    if count != threads:
        torch.set_num_threads(threads)
    if dtype != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        with contextlib.ExitStack() as modes:
            if device.type != "cpu":
                modes.enter_context(torch.device("cpu"))
            if torch.is_inference_mode_enabled():
                modes.enter_context(torch.inference_mode(False))
            if not torch.is_grad_enabled():
                modes.enter_context(torch.enable_grad())
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    modes.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)
        if count != threads:
            torch.set_num_threads(count)


def under_own_settings(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Run a method of a stack under :func:`own_settings`."""

    @functools.wraps(method)
    def run(self: _S, /, *arguments: _P.args, **named: _P.kwargs) -> _R:
        with own_settings(self.threads):
            return method(self, *arguments, **named)

    return run
