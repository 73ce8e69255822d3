import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_julia import bare_machine
from forked_pygan import Server
from hypothesis import HealthCheck, settings
from run_pygan import Pygan, runner

from pygan.data import Dataset, load, registry
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig

ROOT = Path(__file__).parents[1]
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")  # a busy machine makes no test wrong


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


@pytest.fixture
def default_handler() -> Iterator[None]:
    """Ctrl-C raises ``KeyboardInterrupt``, whatever the tests' parent made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Runs the command line in processes that start at once and can be killed anywhere."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Julia (:func:`fake_julia.bare_machine`), under this folder."""
    return bare_machine(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of pygan's own data sets, empty; ``PYGAN_DATA_DIR`` is not set."""
    monkeypatch.setattr(registry, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.delenv(registry.ENV_DIR, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def pygan(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, cache: Path) -> Pygan:
    """Runs the command line in this process, in an empty folder without data: ``(exit code, stdout, stderr)``.

    With ``bare`` beside it, or ``pytestmark = pytest.mark.usefixtures("bare")``, on a machine without Julia.
    """
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd)
