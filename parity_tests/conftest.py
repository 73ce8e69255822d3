"""Live Flux for the parity claims: one worker per config and session, or a skip that says how to get Julia."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from pygan.errors import JuliaNotFound
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.julia_setup import find_julia


@cache
def julia_gap() -> str:
    """Why live Flux cannot run here; empty where it can."""
    try:
        find_julia().check()
    except JuliaNotFound as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("live") and julia_gap():
            item.add_marker(pytest.mark.skip(reason=f"live Flux: {julia_gap()}"))


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
