from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pygan.data import Dataset, load
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def narrow() -> FluxTutorialConfig:
    """The narrow recipe: 4,079 parameters, batches of 8."""
    return FluxTutorialConfig(**NARROW, threads=1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """22 images: in batches of 8 the last has 6."""
    return load("digits", limit=22)


@pytest.fixture
def a_batch(digits: Dataset) -> np.ndarray:
    """The first 8 images as a stack sees them."""
    from pygan.data import scale

    return scale(digits.images[:8])


@pytest.fixture
def same_arrays() -> Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], None]:
    """Assert that two flat records are equal bit for bit, dtype and shape included."""

    def check(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert (got[key].dtype, got[key].shape) == (value.dtype, value.shape), key
            assert got[key].tobytes() == value.tobytes(), key

    return check
