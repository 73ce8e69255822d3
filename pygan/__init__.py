"""pygan: proves that a PyTorch port of a Flux.jl GAN computes the same thing, and shows both trainings.

Importing this package loads neither torch nor Julia. The way in: a recipe's config (:mod:`pygan.recipes`), a stack
that runs it (:mod:`pygan.stacks`), the loop (:mod:`pygan.training`), the comparison (:mod:`pygan.parity`).
"""

__version__ = "0.1.0"
