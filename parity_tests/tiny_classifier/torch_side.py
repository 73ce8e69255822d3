"""The tiny classifier in PyTorch. Images ``(N, 1, 28, 28)`` in [-1, 1], logits ``(N, 2)``: upright, turned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.draws import Draws
from pygan.recipes import StepContext
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.dropout import Dropout

from .config import TinyClassifierConfig


def build(config: TinyClassifierConfig) -> dict[str, nn.Module]:
    """The one network."""
    w = config.width
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(1, w, 5, stride=2, padding=2, bias=False),
        norm1=nn.BatchNorm2d(w, config.constant(config.bn_eps), config.constant(config.bn_momentum)),
        relu1=nn.ReLU(),
        drop1=Dropout(config.dropout, config.dropout_scale),
        conv2=nn.Conv2d(w, 2 * w, 3, stride=2, padding=1),
        tanh=nn.Tanh(),
        flatten=nn.Flatten(),
        dense=nn.Linear(2 * w * 7 * 7, 2),
    )
    return {"classifier": nn.Sequential(layers)}


@torch.no_grad()
def initialise(networks: Mapping[str, nn.Module], config: TinyClassifierConfig, draws: Draws) -> None:
    """Weights Glorot-uniform in Flux's own Float32 arithmetic, biases 0, BatchNorm at its defaults."""
    for name, network in networks.items():
        for path, layer in network.named_children():
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            shape = tuple(layer.weight.shape)
            fans = prod(shape[2:]) * (shape[0] + shape[1])
            half = draws.uniform(f"init/{name}.{path}.weight", shape) - np.float32(0.5)
            layer.weight.copy_(torch.from_numpy(half * np.sqrt(np.float32(24) / np.float32(fans))))
            if layer.bias is not None:
                layer.bias.zero_()


def optimisers(networks: Mapping[str, nn.Module], config: TinyClassifierConfig) -> dict[str, OptimisersAdam]:
    """Adam in Optimisers.jl's arithmetic."""
    rate, eps = config.constant(config.learning_rate), config.constant(config.adam_eps)
    betas = (config.constant(config.beta1), config.constant(config.beta2))
    return {name: OptimisersAdam(network.parameters(), rate, betas, eps) for name, network in networks.items()}


def train_step(run: StepContext, real: Tensor) -> None:
    """Turn the drawn images of ``real`` ``(N, 1, 28, 28)``, then one step of softmax cross-entropy."""
    turned = torch.from_numpy(run.draws.keep("turned", (len(real),), run.config.turned)).to(real.device)
    images = torch.where(turned[:, None, None, None], real.flip(2, 3), real)
    logits = run.call("images", "classifier", images, train=True)
    run.record("logits", "images", logits)
    loss = F.cross_entropy(logits, turned.long())
    run.record("loss", "classifier", loss)
    run.update("classifier", loss)
