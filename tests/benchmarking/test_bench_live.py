"""Flux rows on real Julia: several Julia threads, and each change of the tuned row, compute the recipe's step."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from pygan.benchmarking.process import RowProcess
from pygan.benchmarking.rows import ROWS, TUNED, available_cores
from pygan.benchmarking.verdicts import judged, timed_losses
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig

pytestmark = [pytest.mark.live, pytest.mark.slow]
CORES = min(2, available_cores())


@pytest.fixture(scope="module")
def tuned() -> Iterator[RowProcess]:
    """The tuned row on two Julia threads, if there are two cores."""
    row = asdict(ROWS["flux-tuned"].replace(julia_threads=CORES))
    process = RowProcess("flux-tuned", {"row": row, "cores": CORES, "data": "digits", "blas_threads": 1}, CORES)
    yield process
    process.close()


def test_every_change_of_the_tuned_row_leaves_the_losses_in_the_band(
    tuned: RowProcess, narrow: FluxTutorialConfig
) -> None:
    facts = tuned.ask("configure", config=narrow.to_dict(), images=narrow.batch, phases=False)
    assert (facts["julia_threads"], facts["blas_threads"], facts["gc_threads"]) == (CORES, 1, CORES)
    tuned.ask("changes", changes=[])
    plain = tuned.ask("steps", count=4)["losses"]
    for count in range(len(TUNED)):
        tuned.ask("changes", changes=TUNED[: count + 1])
        sample = tuned.ask("steps", count=4)
        _, faults = timed_losses([sample["losses"]], plain, "the idiomatic step")
        assert not faults, f"{TUNED[count]}: {faults}"
        assert len(sample["seconds"]) == 4
        assert sample["bytes"] > 0


@pytest.mark.parametrize("images", [8, 6])
def test_its_first_step_agrees_also_on_a_partial_batch(
    tuned: RowProcess, narrow: FluxTutorialConfig, tmp_path: Path, images: int
) -> None:
    tuned.ask("configure", config=narrow.to_dict(), images=images, phases=False)
    tuned.ask("changes", changes=list(TUNED))
    tuned.ask("first_step", folder=str(tmp_path / "first.trace"))
    verdict = judged(tmp_path / "first.trace", images, CORES)
    assert verdict.shows_time, verdict.reason
