"""Configs: every field is checked, sourced and stored, and the counts of the published and narrow recipe hold."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygan.cli.options import asked_recipe, make_config, read_config
from pygan.config import Range, RunConfig, float32
from pygan.errors import ConfigError
from pygan.recipes import CONFIGS, config_class, config_from_dict
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.resources import julia_dir

FIELDS = {item.name: item for item in dataclasses.fields(FluxTutorialConfig)}
NAN, INF = float("nan"), float("inf")

OUT_OF_RANGE = {
    "seed": [-1, 2**63],
    "device": ["gpu", ""],
    "dtype": ["float16", "Float32"],
    "constants": ["float64"],
    "randomness": ["random"],
    "threads": [-1, 1025],
    "order": ["sorted"],
    "shuffle_buffer": [0],
    "last_batch": ["padded"],
    "scaling": ["x"],
    "semantics": ["as printed"],
    "width": [0, -2],
    "latent_dim": [0],
    "batch": [0, 1],
    "epochs": [0],
    "picture_every": [0],
    "grid": [0, 33],
    "discriminator_lr": [0.0, -1e-4, NAN, INF],
    "generator_lr": [0.0, -1e-4, NAN, INF],
    "beta1": [-0.1, 1.0, NAN],
    "beta2": [-0.1, 1.0, NAN],
    "adam_eps": [0.0, NAN, INF],
    "dropout": [-0.1, 1.0, NAN],
    "leaky_slope": [-0.1, 1.0, NAN],
    "init_std": [0.0, NAN, INF],
    "bn_eps": [0.0, NAN, INF],
    "bn_momentum": [0.0, 1.1, NAN],
}
AT_THE_EDGE = {
    "seed": [0, 2**63 - 1],
    "device": ["cpu", "cuda"],
    "dtype": ["float32", "float64"],
    "constants": ["float32", "native"],
    "randomness": ["keyed", "native"],
    "threads": [0, 1024],
    "order": ["shuffled", "in_order", "buffer_shuffled", "with_replacement"],
    "shuffle_buffer": [1],
    "last_batch": ["kept", "dropped"],
    "scaling": ["2*x/255-1", "x/127.5-1", "x/255-0.5", "x/255"],
    "semantics": ["fixed", "as_printed"],
    "width": [1],
    "latent_dim": [1],
    "batch": [2],
    "epochs": [1],
    "picture_every": [1],
    "grid": [1, 32],
    "discriminator_lr": [1e-30, 1],
    "generator_lr": [1e-30, 1],
    "beta1": [0, 0.999999],
    "beta2": [0, 0.999999],
    "adam_eps": [1e-30],
    "dropout": [0, 0.99],
    "leaky_slope": [0, 0.99],
    "init_std": [1e-30],
    "bn_eps": [1e-30],
    "bn_momentum": [1e-30, 1],
}
WRONG_TYPES = {
    int: ["3", 3.0, True, None, np.int64(3)],
    float: ["0.5", True, None, np.float32(0.5)],
    str: [3, None, b"cpu"],
}


def pairs(table: dict[str, list]) -> list[tuple[str, object]]:
    return [(name, value) for name, values in table.items() for value in values]


def test_the_lists_of_this_test_cover_every_field() -> None:
    assert OUT_OF_RANGE.keys() == AT_THE_EDGE.keys() == FIELDS.keys()


@pytest.mark.parametrize(("name", "value"), pairs(OUT_OF_RANGE), ids=str)
def test_a_value_out_of_range_is_an_error_that_names_field_value_and_range(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        FluxTutorialConfig(**{name: value})
    assert str(caught.value).startswith(
        (f"{name} = {value!r} is out of range: expected ", f"{name} = {value!r} is not one of ")
    )
    assert not str(caught.value).endswith("expected ")


@pytest.mark.parametrize(("name", "value"), pairs(AT_THE_EDGE), ids=str)
def test_a_value_at_the_edge_of_the_range_is_taken_in_the_fields_type(name: str, value: object) -> None:
    taken = getattr(FluxTutorialConfig(**{name: value}), name)
    assert taken == value
    assert type(taken) is type(FIELDS[name].default)


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_the_wrong_type_is_an_error_that_names_field_and_type(name: str) -> None:
    kind = type(FIELDS[name].default)
    for value in WRONG_TYPES[kind]:
        with pytest.raises(ConfigError, match=f"{name} must be of type {kind.__name__}, got "):
            FluxTutorialConfig(**{name: value})


def test_a_config_cannot_be_changed_but_replaced() -> None:
    config = FluxTutorialConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.width = 3  # type: ignore[misc]
    assert config.replace(width=3) == FluxTutorialConfig(width=3) != config
    with pytest.raises(ConfigError, match="width = 0"):
        config.replace(width=0)


@pytest.mark.parametrize("changes", [{}, NARROW, {"seed": 2**63 - 1, "semantics": "as_printed", "dropout": 0}])
def test_a_config_comes_back_from_its_dictionary(changes: dict) -> None:
    config = FluxTutorialConfig(**changes)
    stored = config.to_dict()
    assert stored["recipe"] == "flux_tutorial"
    assert stored.keys() == {"recipe", *FIELDS}
    assert FluxTutorialConfig.from_dict(stored) == config_from_dict(stored) == config


def test_unknown_keys_are_an_error_that_names_all_of_them_and_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        FluxTutorialConfig.from_dict({"witdh": 2, "bach": 3, "batch": 4})
    assert str(caught.value).startswith("unknown config keys: bach, witdh; known: adam_eps, batch, ")


@pytest.mark.parametrize("values", [{"recipe": "dcgan"}, {}])
def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones(values: dict) -> None:
    with pytest.raises(ConfigError, match=rf"no recipe '{values.get('recipe')}'; known: {', '.join(sorted(CONFIGS))}"):
        config_from_dict(values)
    assert config_class("flux_tutorial") is FluxTutorialConfig


@pytest.mark.parametrize("kind", [RunConfig, *CONFIGS.values()])
def test_every_field_says_where_its_default_comes_from_and_what_is_allowed(kind: type[RunConfig]) -> None:
    assert kind.sources().keys() == {item.name for item in dataclasses.fields(kind)}
    for item in dataclasses.fields(kind):
        assert len(item.metadata["source"]) > 10, item.name
        assert item.metadata["range"] != Range(), item.name
        assert item.default in item.metadata["range"], item.name


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (Range(above=0), (1e-300, 5), (0, -1, math.inf, math.nan), "above 0"),
        (Range(at_least=2, note="BatchNorm"), (2, 9), (1, 1.5), "at least 2 (BatchNorm)"),
        (Range(at_least=0, below=1), (0, 0.999), (1, -0.1), "0 <= value < 1"),
        (Range(above=0, at_most=1), (1, 0.1), (0, 1.1), "0 < value <= 1"),
        (Range(below=0), (-1,), (0,), "below 0"),
        (Range(at_most=3), (3, -5), (4,), "at most 3"),
        (Range(), (0, -1e300), (math.inf, -math.inf, math.nan), "a finite number"),
        (Range(choices=("a", "b")), ("a",), ("", "ab", "A"), "a | b"),
    ],
    ids=str,
)
def test_a_range_holds_what_its_words_say(
    allowed: Range, inside: tuple[Any, ...], outside: tuple[Any, ...], words: str
) -> None:
    assert str(allowed) == words
    assert all(value in allowed for value in inside) and not any(value in allowed for value in outside)


def test_julia_reads_the_same_defaults_and_ranges() -> None:
    """``train.jl`` has no Python: ``julia/share/recipes.toml`` is written by ``python tools/recipe_share.py``."""
    stored = tomllib.loads((julia_dir() / "share" / "recipes.toml").read_text(encoding="utf-8"))
    published = {name: kind for name, kind in CONFIGS.items() if kind.__module__.startswith("pygan.")}
    assert stored.keys() == published.keys()
    for name, kind in published.items():
        assert stored[name].keys() == {item.name for item in dataclasses.fields(kind)}
        for item in dataclasses.fields(kind):
            facts, allowed = stored[name][item.name], item.metadata["range"]
            assert facts["default"] == item.default and type(facts["default"]) is type(item.default)
            held = {key: tuple(value) if key == "choices" else value for key, value in facts.items()}
            assert Range(**{key: value for key, value in held.items() if key not in ("default", "expected")}) == allowed
            assert facts["expected"] == str(allowed)


def test_the_published_numbers_are_the_articles() -> None:
    config = FluxTutorialConfig()
    published = {
        "semantics": "fixed", "width": 64, "latent_dim": 100, "batch": 128, "epochs": 25, "picture_every": 1000,
        "grid": 5, "discriminator_lr": 2e-4, "generator_lr": 2e-4, "beta1": 0.9, "beta2": 0.999, "adam_eps": 1e-8,
        "dropout": 0.3, "leaky_slope": 0.2, "init_std": 0.02, "bn_eps": 1e-5, "bn_momentum": 0.1,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in published} == published
    assert config.pictures == 25


@pytest.mark.parametrize("name", ["leaky_slope", "dropout_scale", "beta1", "discriminator_lr"])
def test_constants_are_rounded_to_float32_unless_a_float64_run_asks_for_its_own(name: str) -> None:
    value = {"dropout_scale": 1 / (1 - 0.3)}.get(name, getattr(FluxTutorialConfig(), name))

    def constant(**changes: str) -> float:
        config = FluxTutorialConfig(**changes)
        return config.dropout_scale if name == "dropout_scale" else config.constant(getattr(config, name))

    assert float32(value) != value
    assert float32(value) == np.float32(value)
    assert constant() == constant(dtype="float64") == constant(constants="native") == float32(value)
    assert constant(dtype="float64", constants="native") == value


def test_only_the_defect_that_was_printed_carries_a_warning() -> None:
    assert FluxTutorialConfig().caveats == ()
    [caveat] = FluxTutorialConfig(semantics="as_printed").caveats
    assert "generator never receives a gradient" in caveat


@pytest.mark.parametrize(
    ("changes", "discriminator", "generator"),
    [(NARROW, 363, 3_716), ({}, 138_561, 2_231_168)],
    ids=["narrow", "published"],
)
def test_the_networks_have_the_published_numbers_of_parameters(changes, discriminator: int, generator: int) -> None:
    from pygan.recipes import torch_recipe

    networks = torch_recipe("flux_tutorial").build(FluxTutorialConfig(**changes))
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert counts == {"discriminator": discriminator, "generator": generator}
    assert sum(counts.values()) == (4_079 if changes else 2_369_729)
    assert FluxTutorialConfig.networks == tuple(networks)


# --- files and flags ---------------------------------------------------------------------------------------------


def test_flags_override_the_file_which_overrides_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('recipe = "flux_tutorial"\nwidth = 3\nbatch = 16\nbeta1 = 0\n')
    config = make_config(FluxTutorialConfig, read_config(file), {"batch": 32, "width": None, "seed": None})
    assert config == FluxTutorialConfig(width=3, batch=32, beta1=0.0)
    assert make_config(FluxTutorialConfig, read_config(None), {"seed": 0}) == FluxTutorialConfig()


def test_a_flag_of_0_or_an_empty_string_is_a_value_not_the_absence_of_one(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("seed = 7\ndropout = 0.5\n")
    config = make_config(FluxTutorialConfig, read_config(file), {"seed": 0, "dropout": 0.0})
    assert (config.seed, config.dropout) == (0, 0.0)
    with pytest.raises(ConfigError, match="device = ''"):
        make_config(FluxTutorialConfig, read_config(file), {"device": ""})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"width = ", "is not valid TOML"),
        (b"\xff\xfe\x00", "is not valid TOML"),
        (b"widht = 3", "unknown config keys: widht"),
        (b"[flux_tutorial]\nwidth = 3", "unknown config keys: flux_tutorial"),
        (b"width = 3.5", "width must be of type int, got 3.5"),
        (b'recipe = "pix2pix"', "--recipe pix2pix: no such recipe"),
        (b"recipe = 3", "--recipe 3: no such recipe"),
    ],
)
def test_a_bad_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        make_config(asked_recipe(["--config", str(file)]), read_config(file), {})


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            make_config(FluxTutorialConfig, read_config(path), {})
