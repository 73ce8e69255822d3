"""A run that was killed at any moment and gone on with leaves the very files of one that never stopped."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from forked_pygan import CHUNKS, SMALL, Kill, Server, hashes

from pygan.data import load
from pygan.pictures.png import write_png
from pygan.recipes import CONFIGS
from pygan.run_folder import LOCK_FILE

TRAIN = ["train", *SMALL, "--steps", 12, "--every", 4, "--checkpoint-every", 3, "--fps", 5, "--out", "run"]
RECORD = ["record", "--stack", "torch", *SMALL, "--steps", 8, "--every", 3, "--checkpoint-every", 3]
RECORD += ["--capture", "state,gradients@0:8:2", "--twin", "gradients@1:8:3", "--exact-pictures-until", 3, "-o", "run"]


def uninterrupted(server: Server, folder: Path, command: list[object]) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    code, told = server.run(folder, *command, **CHUNKS)
    assert code == 0, told
    return hashes(folder / "run")


@pytest.fixture(scope="module")
def trained(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = uninterrupted(server, tmp_path_factory.mktemp("trained"), TRAIN)
    pictures = [f"dcgan_steps_{step:06d}.png" for step in (0, 4, 8, 12)]
    chunks = [f"torch.trace/chunk-{number:06d}.safetensors" for number in range(8)]
    assert {*pictures, *chunks[:4], "run.json", "state.safetensors", "torch.gif"} < found.keys()
    assert "checkpoints/step-000000012/manifest.json" in found
    return found


@pytest.fixture(scope="module")
def recorded(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return uninterrupted(server, tmp_path_factory.mktemp("recorded"), RECORD)


def check_resumed(server: Server, folder: Path, command: str, expected: dict[str, str]) -> str:
    code, told = server.run(folder, command, "--resume", "run", **CHUNKS)
    assert code == 0, told
    assert "Traceback" not in told
    assert hashes(folder / "run") == expected, told
    return told


KILLS: list[Kill] = [
    ("step", 1),  # within the first step
    ("step", 11),  # between the two updates of a step
    ("line", 7),  # half of a line was printed
    ("half:state.safetensors", 2),  # half of a checkpoint's file is there
    ("half:manifest.json", 1),
    ("rename:step-", 3),  # a checkpoint is whole, but has not its name
    ("renamed:step-", 2),  # it has, but an older one is not removed
    ("half:dcgan_steps_000008", 1),
    ("replace:dcgan_steps_000004", 1),
    ("half:.part-", 1),  # an open chunk of the trace
    ("replaced:chunk-000002.safetensors", 1),  # a chunk whose trace.json does not know it
    ("half:trace.json", 4),
    ("half:torch.gif", 1),  # after the last step
    ("sync", 30),
]


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: f"{kill[0]}-{kill[1]}")
def test_a_training_killed_at_a_moment_goes_on_exactly(
    server: Server, tmp_path: Path, trained: dict[str, str], kill: Kill
) -> None:
    code, told = server.run(tmp_path, *TRAIN, kill=kill, **CHUNKS)
    assert code == -9, f"it was never killed: {told}"
    told = check_resumed(server, tmp_path, "train", trained)
    assert ("going on at step" in told) != ("gif" in kill[0])


@pytest.mark.parametrize("kill", [("step", 9), ("half:.part-", 1), ("half:state.safetensors", 2)], ids=str)
def test_a_recording_killed_at_a_moment_goes_on_exactly(
    server: Server, tmp_path: Path, recorded: dict[str, str], kill: Kill
) -> None:
    assert server.run(tmp_path, *RECORD, kill=kill, **CHUNKS)[0] == -9
    check_resumed(server, tmp_path, "record", recorded)


def test_a_run_killed_again_and_again_and_while_it_starts_again_goes_on_exactly(
    server: Server, tmp_path: Path, trained: dict[str, str]
) -> None:
    assert server.run(tmp_path, *TRAIN, kill=("step", 10), **CHUNKS)[0] == -9
    for kill in [("half:.part-", 1), ("replace:trace.json", 1), ("half:run.json", 1), ("step", 9), ("half:state", 2)]:
        assert server.run(tmp_path, "train", "--resume", "run", kill=kill, **CHUNKS)[0] == -9
    check_resumed(server, tmp_path, "train", trained)


def narrow(recipe: str) -> list[object]:
    """Flags of a recipe's narrow twin."""
    flags = [("recipe", recipe), ("samples", 40), ("threads", 1), *CONFIGS[recipe].narrow.items()]
    return [part for name, value in flags for part in (f"--{name.replace('_', '-')}", value)]


OTHERS = {
    "mlp_gan": narrow("mlp_gan"),
    "flux_model_zoo": narrow("flux_model_zoo"),
    "native": [*SMALL, "--randomness", "native"],
    "idiomatic": [*SMALL, "--step", "idiomatic", "--dtype", "float64"],
    "own": ["--recipe", "mine", "--samples", 40, "--threads", 1],
}
OWN_OPTIMISER = """
def optimisers(networks, config):
    return {name: torch.optim.RMSprop(net.parameters(), lr=1e-3, momentum=0.5) for name, net in networks.items()}
"""


@pytest.mark.parametrize("name", OTHERS)
def test_every_recipe_goes_on_exactly(server: Server, tmp_path: Path, name: str) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    for folder in (whole, part):
        folder.mkdir()
        if name == "own":
            assert server.run(folder, "new", "mine")[0] == 0
            with open(folder / "mine" / "recipe.py", "a") as recipe:
                recipe.write(OWN_OPTIMISER)
    flags = [*OTHERS[name], "--steps", 5, "--checkpoint-every", 2, "--out", "run"]
    expected = uninterrupted(server, whole, ["train", *flags])
    assert server.run(part, "train", *flags, kill=("renamed:step-", 1), **CHUNKS)[0] == -9
    if name == "own":  # its place is another one
        expected.pop("run.json")
        code, told = server.run(part, "train", "--resume", "run", **CHUNKS)
        assert code == 0 and "going on at step 3 of 5" in told, told
        got = hashes(part / "run")
        got.pop("run.json")
        assert got == expected
    else:
        assert "going on at step 3 of 5" in check_resumed(server, part, "train", expected)


def test_more_steps_continue_a_finished_run_as_if_it_had_been_asked_for_them(
    server: Server, tmp_path: Path, trained: dict[str, str]
) -> None:
    shorter = [10 if one == 12 else one for one in TRAIN]
    assert server.run(tmp_path, *shorter, **CHUNKS)[0] == 0
    assert (tmp_path / "run" / "dcgan_steps_000010.png").exists(), "the closing pictures of the shorter run"
    code, told = server.run(tmp_path, "train", "--resume", "run", **CHUNKS)
    assert code == 0 and "all 10 steps were taken before" in told
    code, told = server.run(tmp_path, "train", "--resume", "run", "--steps", 12, **CHUNKS)
    assert code == 0 and "going on at step 11 of 12" in told
    assert hashes(tmp_path / "run") == trained
    code, told = server.run(tmp_path, "train", "--resume", "run", "--steps", 11)
    assert code == 2 and "--steps 11: the run in run has taken 12 steps already" in told


def test_a_torn_checkpoint_is_told_and_the_one_before_taken(
    server: Server, tmp_path: Path, trained: dict[str, str]
) -> None:
    assert server.run(tmp_path, *TRAIN, kill=("step", 20), **CHUNKS)[0] == -9
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-000000006", "step-000000009"]
    torn = kept[1] / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1] + b"\0")
    copy = shutil.copytree(tmp_path / "run", tmp_path / "both" / "run")
    told = check_resumed(server, tmp_path, "train", trained)
    assert "state.safetensors is damaged: its SHA-256 is not the one in manifest.json; an older" in told
    assert "going on at step 7 of 12" in told

    (copy / "checkpoints" / kept[0].name / "manifest.json").write_text("{")
    (copy / LOCK_FILE).unlink()  # of the killed process, which took its lock with it
    before = hashes(copy)
    code, told = server.run(copy.parent, "train", "--resume", "run", **CHUNKS)
    assert code == 2 and "none of the checkpoints in run/checkpoints is whole" in told
    assert hashes(copy) == before, "what is left is not touched"


CONTRADICTIONS = [
    (["--width", 3], "--width is 2 there, 3 here"),
    (["--stack", "flux"], "--stack is 'torch' there, 'flux' here"),
    (["--out", "other"], "--out is 'run' there, 'other' here"),
    (["--samples", 30, "--seed", 1], "--samples is 38 there, 30 here; --seed is 0 there, 1 here"),
    (["--recipe", "mlp_gan"], "--recipe is 'flux_tutorial' there, 'mlp_gan' here"),
]


def test_an_option_that_contradicts_the_run_is_refused(server: Server, tmp_path: Path) -> None:
    assert server.run(tmp_path, *TRAIN, kill=("step", 20))[0] == -9
    before = hashes(tmp_path / "run")
    for flags, words in CONTRADICTIONS:
        code, told = server.run(tmp_path, "train", "--resume", "run", *flags)
        assert (code, "Traceback" in told) == (2, False)
        assert f"error: --resume run goes on with the run as it was: {words}. Leave these options out" in told
    assert hashes(tmp_path / "run") == before
    same = [*SMALL, "--stack", "torch", "--out", "run"]
    assert server.run(tmp_path, "train", "--resume", "run", *same)[0] == 0, "options that say the same are none"


def test_what_cannot_be_gone_on_with_is_told(server: Server, tmp_path: Path) -> None:
    def refused(command: str, words: str) -> None:
        code, told = server.run(tmp_path, command, "--resume", "run")
        assert (code, "Traceback" in told) == (2, False), told
        assert words in told

    refused("train", "--resume run: there is no run.json, so no run that could be gone on with")
    assert server.run(tmp_path, *TRAIN)[0] == 0
    refused("record", "--resume run: that run is of pygan train, not of pygan record")
    stored = tmp_path / "run" / "run.json"
    content = json.loads(stored.read_text())
    stored.write_text(json.dumps({**content, "data": {**content["data"], "sha256": "0" * 64}}))
    refused("train", "the images of digits are not those that the run has seen")
    for text in ("{", "[]", '{"schema": 7}', '{"schema": 1, "command": "train"}'):
        stored.write_text(text)
        refused("train", "cannot read run/run.json")


def test_a_folder_of_images_is_found_from_anywhere(server: Server, tmp_path: Path) -> None:
    digits = load("digits", limit=20)
    (tmp_path / "mine").mkdir()
    for number, image in enumerate(digits.images):
        write_png(tmp_path / "mine" / f"{number:02d}.png", image)
    flags = ["train", *SMALL[:-4], "--threads", 1, "--data", "mine", "--out", "run"]
    assert server.run(tmp_path, *flags, "--steps", 2)[0] == 0
    other = tmp_path / "other"
    other.mkdir()
    code, told = server.run(other, "train", "--resume", "../run", "--steps", 3)
    assert code == 0 and "going on at step 3 of 3" in told, told


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_lose_nothing(
    server: Server, tmp_path: Path, trained: dict[str, str], recorded: dict[str, str]
) -> None:
    """``make soak``: each run is killed at random moments until it comes to its end."""
    chosen, kills = random.Random(0), 0
    names = ["step", "line", "sync", "half:", "replace:", "replaced:", "rename:", "renamed:"]
    for number in range(1000):
        folder = tmp_path / str(number)
        folder.mkdir()
        command, expected = [(TRAIN, trained), (RECORD, recorded)][number % 2]
        resumed = [command[0], "--resume", "run"]
        while True:
            begun = (folder / "run" / "run.json").exists()
            arguments = resumed if begun else command
            if chosen.random() < 0.3:
                code, told = server.run_for(chosen.uniform(0.05, 0.8), folder, *arguments, **CHUNKS)
            else:
                kill = (chosen.choice(names), chosen.randrange(1, 40))
                code, told = server.run(folder, *arguments, kill=kill, **CHUNKS)
            assert code in (0, -9), told
            kills += code == -9
            if code == 0:
                break
        assert hashes(folder / "run") == expected, (number, told)
        shutil.rmtree(folder)
        if kills >= 200:
            break
    assert kills >= 200
    print(f"{kills} kills in {number + 1} runs, nothing lost")
