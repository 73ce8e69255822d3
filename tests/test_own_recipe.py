"""A recipe of a user's own: written by ``pygan new``, named by ``--recipe``, and wrong in every way that files are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_pygan import Pygan, refused, runner

from pygan.recipes import CONFIGS
from pygan.recipes.own import FUNCTIONS, load_recipe

pygan = pytest.fixture(runner)
SHORT = ("--steps", 2, "--samples", 14)


@pytest.fixture(autouse=True)
def known_recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test makes known is forgotten after it."""
    before = dict(CONFIGS)
    monkeypatch.chdir(tmp_path)
    yield
    CONFIGS.clear()
    CONFIGS.update(before)


@pytest.fixture
def mine(pygan: Pygan, tmp_path: Path) -> Path:
    assert pygan("new", "mine")[0] == 0
    return tmp_path / "mine"


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_new_recipe_agrees_with_itself_in_both_dtypes(pygan: Pygan, mine: Path) -> None:
    for dtype in ("float64", "float32"):
        code, out, err = pygan("parity", "torch", "torch", "--recipe", "mine", "--dtype", dtype, *SHORT)
        assert (code, err) == (0, ""), out
        assert "mine, narrow twin (width 4, batch 8)" in out


def test_its_flags_are_those_of_its_config_alone(pygan: Pygan, mine: Path) -> None:
    code, out, _ = pygan("parity", "--recipe", "mine", "--help")
    assert code == 0
    assert "--learning-rate" in out and "--latent-dim" not in out and "--semantics" not in out
    code, out, _ = pygan("train", "--recipe=mine", *SHORT, "--width", 3, "--print-config")
    assert code == 0 and 'recipe = "mine"' in out and "width = 3" in out
    (mine / "mine.toml").write_text(out)
    code, again, _ = pygan("train", "--recipe", "mine", "--config", mine / "mine.toml", *SHORT, "--print-config")
    assert (code, again) == (0, out)
    code, out, _ = pygan("recipes", "mine", "--json")
    assert code == 0 and list(json.loads(out)) == ["mine"]


def test_it_trains_and_is_recorded_and_replayed(pygan: Pygan, mine: Path) -> None:
    assert pygan("train", "--recipe", "mine", *SHORT, "--out", "run")[0] == 0
    refused(pygan("gif", "--recipe", "mine", *SHORT, "--out", "gif"), "mine draws no pictures", "pygan train")
    kinds = ("--capture", "state,gradients,logits,patterns", "--capture", "layers@0:2")
    flags = ("--recipe", "mine", "--dtype", "float64", "--width", 3, *SHORT, *kinds, "--out", "trace")
    assert pygan("record", "--stack", "torch", *flags)[0] == 0
    code, out, _ = pygan("parity", "torch", "trace", "--recipe", "mine")
    assert code == 0 and "agree over all 2 steps of the recording" in out
    CONFIGS.pop("mine")
    refused(pygan("parity", "torch", "trace"), "no recipe 'mine'", "--recipe PATH")


def test_a_fault_in_the_port_is_found_where_it_is(pygan: Pygan, mine: Path) -> None:
    """The recording stands for the reference; then the port's dropout and its loss are made wrong."""
    kinds = ("--capture", "state,gradients,logits,patterns", "--capture", "layers@0:2")
    flags = ("--recipe", "mine", "--dtype", "float64", "--width", 4, "--batch", 8, *SHORT, *kinds, "--out", "trace")
    assert pygan("record", "--stack", "torch", *flags)[0] == 0
    change(
        mine / "recipe.py",
        "F.cross_entropy(logits, turned.long())",
        'F.cross_entropy(logits, turned.long(), reduction="sum")',
    )
    code, out, _ = pygan("parity", "torch", "trace", "--recipe", "mine", "--levels", "1,3-7")
    assert code == 1 and "probable cause: sum instead of mean" in out
    assert "--recipe mine --step 0" in out, "the replay names the recipe"
    change(mine / "recipe.py", ', reduction="sum"', "")
    change(mine / "recipe.py", "relu=nn.ReLU()", "relu=nn.LeakyReLU(0.1)")
    code, out, _ = pygan("parity", "torch", "trace", "--recipe", "mine", "--levels", "1,3-7")
    assert code == 1 and "activation/images/classifier.relu" in out
    assert "probable cause: leaky slope" in out


def test_no_file_is_overwritten(pygan: Pygan, mine: Path) -> None:
    text = (mine / "recipe.py").read_bytes()
    refused(pygan("new", "mine"), "recipe.py", "would be overwritten")
    assert (mine / "recipe.py").read_bytes() == text
    refused(pygan("new", "3rd"), "makes no name of a recipe")


def test_a_single_file_is_a_recipe_too(pygan: Pygan, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text((mine / "recipe.py").read_text().replace('"mine"', '"single"'))
    kind = load_recipe(tmp_path / "single.py")
    assert (kind.recipe, kind.julia_files) == ("single", (tmp_path / "single.jl",))
    told = f"there is no {tmp_path / 'single.jl'}: the Flux side of the recipe single"
    refused(pygan("parity", "torch", "flux", "--recipe", tmp_path / "single.py"), told)


WRONG = {
    "syntax": ("def build(config: Config)", "def build(config: Config", "recipe.py, line"),
    "an import": ("import torch\n", "import torch\nimport no_such_module\n", "no_such_module"),
    "a name": ("OURS = ", "OURS = NOBODY\nOTHER = ", "NameError: name 'NOBODY' is not defined"),
    "a base class": ("class Config(RunConfig)", "class Config", "0 config classes"),
    "another's name": ('"mine"', '"flux_tutorial"', "choose another one"),
    "no name": ('recipe: ClassVar[str] = "mine"', 'recipe: ClassVar[str] = ""', "has no name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_one_message_with_its_place(what: str, pygan: Pygan, mine: Path) -> None:
    old, new, told = WRONG[what]
    change(mine / "recipe.py", old, new)
    refused(pygan("parity", "torch", "torch", "--recipe", "mine", *SHORT), "recipe.py", told)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_is_missing_is_named_with_what_it_is_for(name: str, pygan: Pygan, mine: Path) -> None:
    change(mine / "recipe.py", f"def {name}(", f"def other_{name}(")
    refused(pygan("train", "--recipe", "mine", *SHORT, "--out", "run"), f"does not define {FUNCTIONS[name]}")


def test_an_error_in_its_step_is_told_with_its_line(pygan: Pygan, mine: Path) -> None:
    change(mine / "recipe.py", "turned.long())", "turned.long().flip(1))")
    result = pygan("train", "--recipe", "mine", *SHORT, "--out", "run")
    refused(result, "in your recipe", "recipe.py, line", "in train_step", "turned.long().flip(1)")


def test_a_place_without_a_recipe_says_how_to_make_one(pygan: Pygan, tmp_path: Path) -> None:
    refused(pygan("parity", "--recipe", "absent"), "--recipe absent", "flux_tutorial", "pygan new FOLDER")
    refused(pygan("parity", "--recipe", tmp_path), "no such recipe")
