"""A recipe outside the package: a classifier that shares nothing with the GANs but the layers it is made of.

Importing this registers its config; ``torch_side.py`` and ``flux_side.jl`` are written independently of each other.
"""

from pygan.recipes import register

from .config import TinyClassifierConfig

register(TinyClassifierConfig)

__all__ = ["TinyClassifierConfig"]
