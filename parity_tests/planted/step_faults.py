"""Planted bugs in a torch step: losses, labels, noise, masks, order, modes of whole calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from planted.fault import PARTIAL, Context, Fault, Planted, catalogue, pick, through
from pygan.draws import Draws
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []
LABELS = {"real": 1.0, "fake": 0.0, "generator": 1.0}
"""The published label of each call's logits."""
TERMS = {"discriminator": ("real", "fake"), "generator": ("generator",)}
"""The calls whose logits enter each loss."""


def loss_of(logits: Tensor, label: float, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of raw logits against one label."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction=reduction)


def other_loss(stack: TorchStack, network: str, loss: Callable[[dict[str, Tensor]], Tensor]) -> None:
    """The loss of ``network`` is ``loss`` of the logits by call."""

    class Lossy(Context):
        made: Tensor | None = None

        def loss(self, name: str, value: Tensor) -> Tensor:
            if name != network:
                return value
            if self.made is None:  # recorded and differentiated: one tensor, made once
                self.made = loss(self.logits)
            return self.made

    through(stack, Lossy)


@catalogue(FAULTS, "sum instead of mean")
def loss_summed(stack: TorchStack, rng: Generator) -> Planted:
    """A loss is the sum over the batch in place of the mean."""
    network = pick(rng, TERMS.keys())
    other_loss(stack, network, lambda logits: sum(loss_of(logits[c], LABELS[c], "sum") for c in TERMS[network]))
    return Planted(network)


@catalogue(FAULTS, "labels swapped")
def labels_swapped(stack: TorchStack, rng: Generator) -> Planted:
    """A loss takes real for fake and fake for real."""
    network = pick(rng, TERMS.keys())
    other_loss(stack, network, lambda logits: sum(loss_of(logits[c], 1 - LABELS[c]) for c in TERMS[network]))
    return Planted(network)


@catalogue(FAULTS, "label smoothing")
def labels_smoothed(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's label of real images is 0.7 to 0.99 in place of 1."""
    label = float(rng.uniform(0.7, 0.99))
    other_loss(stack, "discriminator", lambda logits: loss_of(logits["real"], label) + loss_of(logits["fake"], 0.0))
    return Planted("discriminator", f"{label:.3g}")


@catalogue(FAULTS, "loss term missing")
def loss_term_missing(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's loss lacks the term of the real or of the fake images."""
    kept = pick(rng, TERMS["discriminator"])
    other_loss(stack, "discriminator", lambda logits: loss_of(logits[kept], LABELS[kept]))
    return Planted("discriminator", f"only {kept}")


@catalogue(FAULTS, "loss scaled", "mean instead of sum")
def loss_averaged_over_terms(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator's loss is half the sum of its two terms."""
    other_loss(stack, "discriminator", lambda logits: sum(loss_of(logits[c], LABELS[c]) for c in ("real", "fake")) / 2)
    return Planted("discriminator", "times 0.5")


# --- noise, inputs, masks ------------------------------------------------------------------------------------


def other_input(stack: TorchStack, call: str, network: str, change: Callable[[Context, Tensor], Tensor]) -> None:
    """What enters ``call/network`` is ``change(context, x)``."""

    class Other(Context):
        def call(self, name: str, of: str, x: Tensor, *, train: bool) -> Tensor:
            return self.run.call(name, of, change(self, x) if (name, of) == (call, network) else x, train=train)

    through(stack, Other)


@catalogue(FAULTS, "other draws")
def fresh_noise_for_the_generator(stack: TorchStack, rng: Generator) -> Planted:
    """The generator's update draws noise of its own in place of that of the discriminator's."""
    shift = int(rng.integers(1, 3))

    def change(context: Context, x: Tensor) -> Tensor:
        draws = context.draws.at(context.draws.step + shift)
        return context.tensor(draws.normal("noise", tuple(x.shape)))

    other_input(stack, "generator", "generator", change)
    return Planted("generator/generator", f"draws of step + {shift}")


@catalogue(FAULTS, "other draws")
def uniform_noise(stack: TorchStack, rng: Generator) -> Planted:
    """A call of the generator gets uniform noise in place of normal noise."""
    call = pick(rng, ("sample", "generator"))
    other_input(stack, call, "generator", lambda c, x: c.tensor(c.draws.uniform("noise", tuple(x.shape)) * 2 - 1))
    return Planted(f"{call}/generator")


@catalogue(FAULTS, "images scaled otherwise")
def pictures_in_zero_to_one(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator sees real images in [0, 1] in place of [-1, 1]."""
    other_input(stack, "real", "discriminator", lambda _, x: (x + 1) / 2)
    return Planted("real/discriminator")


@catalogue(FAULTS, "samples permuted")
def real_images_in_another_order(stack: TorchStack, rng: Generator) -> Planted:
    """The discriminator sees the images of the batch in reverse order: the loss can hardly tell."""
    other_input(stack, "real", "discriminator", lambda _, x: x.flip(0))
    return Planted("real/discriminator")


@catalogue(FAULTS, "images transposed", "pixels permuted")
def pictures_transposed(stack: TorchStack, rng: Generator) -> Planted:
    """A call of the discriminator sees its images with x and y exchanged."""
    call = pick(rng, ("real", "fake"))
    other_input(stack, call, "discriminator", lambda _, x: x.transpose(-2, -1))
    return Planted(f"{call}/discriminator")


@catalogue(FAULTS, "last batch wrong", shows=PARTIAL)
def noise_as_wide_as_the_last_batch(stack: TorchStack, rng: Generator) -> Planted:
    """In the last, partial batch the noise is as wide as the batch, not as wide as all others."""

    class Narrow(Context):
        def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
            x = x[: len(self.real)] if network == "generator" else x
            return self.run.call(name, network, x, train=train)

    through(stack, Narrow)
    return Planted("sample/generator")


@catalogue(FAULTS, "loss scaled", "last batch wrong", shows=PARTIAL)
def last_batch_weighed_as_a_full_one(stack: TorchStack, rng: Generator) -> Planted:
    """The mean over the last, partial batch divides by the size of a full one."""
    size = stack.config.batch

    def loss(logits: dict[str, Tensor]) -> Tensor:
        return loss_of(logits["real"], 1.0, "sum") / size + loss_of(logits["fake"], 0.0, "sum") / size

    other_loss(stack, "discriminator", loss)
    return Planted("discriminator")


class Streams:
    """Draws whose streams are taken from another name, and at another step."""

    def __init__(self, draws: Draws, names: dict[str, str], shift: int = 0) -> None:
        self._draws, self._names, self._shift = draws, names, shift

    def __getattr__(self, name: str) -> Any:
        return getattr(self._draws, name)

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> Any:
        for mine, other in self._names.items():
            if stream.startswith(f"mask/{mine}/"):
                step = self._draws.step + self._shift
                return self._draws.at(step).keep(stream.replace(f"/{mine}/", f"/{other}/", 1), shape, rate)
        return self._draws.keep(stream, shape, rate)


def other_masks(stack: TorchStack, names: dict[str, str], shift: int = 0) -> None:
    """Dropout patterns of the calls in ``names`` are those of other calls, ``shift`` steps away."""

    def context(run: Any, real: Tensor) -> Context:
        run.draws = Streams(run.draws, names, shift)
        return Context(run, real)

    through(stack, context)


@catalogue(FAULTS, "mask order")
def masks_of_real_and_fake_swapped(stack: TorchStack, rng: Generator) -> Planted:
    """The real images get the dropout patterns of the fake ones and the other way round."""
    other_masks(stack, {"real": "fake", "fake": "real"})
    return Planted("discriminator")


@catalogue(FAULTS, "mask order")
def masks_used_again(stack: TorchStack, rng: Generator) -> Planted:
    """A call of the discriminator uses the dropout patterns of another call of the same step."""
    call, other = [("fake", "real"), ("generator", "fake"), ("generator", "real")][int(rng.integers(3))]
    other_masks(stack, {call: other})
    return Planted(f"{call}/discriminator", f"those of {other}")


@catalogue(FAULTS, "other draws", "mask order")
def masks_of_another_step(stack: TorchStack, rng: Generator) -> Planted:
    """A call's dropout patterns are those of the next step."""
    call = pick(rng, ("real", "fake", "generator"))
    other_masks(stack, {call: call}, 1)
    return Planted(f"{call}/discriminator")


# --- order and flow ------------------------------------------------------------------------------------------


@catalogue(FAULTS, "train or eval mode")
def call_in_the_wrong_mode(stack: TorchStack, rng: Generator) -> Planted:
    """A whole call runs in train mode where it should run in eval mode, or the other way round."""
    call, network = [
        ("sample", "generator"),
        ("generator", "generator"),
        ("real", "discriminator"),
        ("fake", "discriminator"),
        ("generator", "discriminator"),
    ][int(rng.integers(5))]

    class Moded(Context):
        def call(self, name: str, of: str, x: Tensor, *, train: bool) -> Tensor:
            return self.run.call(name, of, x, train=train != ((name, of) == (call, network)))

    through(stack, Moded)
    return Planted(f"{call}/{network}")


@catalogue(FAULTS, "gradient missing")
def generator_never_updated(stack: TorchStack, rng: Generator) -> Planted:
    """The images are detached on their way to the discriminator, so the generator gets no gradient."""
    other_input(stack, "generator", "discriminator", lambda _, x: x.detach())
    return Planted("generator/discriminator")


@catalogue(FAULTS, "gradient missing")
def gradient_blocked_inside(stack: TorchStack, rng: Generator) -> Planted:
    """The gradient does not pass one layer of the generator: what lies before it never trains."""
    network = stack.networks["generator"]
    path = pick(rng, ("norm1", "conv1", "norm2", "conv2", "norm3"))
    getattr(network, path).register_forward_pre_hook(lambda _, inputs: (inputs[0].detach(),))
    return Planted(f"generator.{path}")


@catalogue(FAULTS, "gradients not reset", "carried over from earlier steps", shows=1)
def gradients_not_reset(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients are added to those of the steps before: nothing shows at the first step."""
    network = pick(rng, TERMS.keys())
    stack.optimisers[network].zero_grad = lambda *_, **__: None  # type: ignore[method-assign]
    return Planted(network)
