"""Live Flux for the parity claims: one worker per config and session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.flux_stack import FluxStack


@pytest.fixture(scope="session")
def live_flux() -> Iterator[Callable[[FluxTutorialConfig], FluxStack]]:
    """Live Flux stacks by config, each a worker that lives as long as the session; freshly initialised each time."""
    made: dict[FluxTutorialConfig, FluxStack] = {}

    def stack(wanted: FluxTutorialConfig) -> FluxStack:
        if wanted not in made:
            made[wanted] = FluxStack(wanted)
        made[wanted].initialise()
        return made[wanted]

    yield stack
    for one in made.values():
        one.close()
