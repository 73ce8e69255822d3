"""``pygan data``: nothing is downloaded unasked, and only pygan's own folder is ever cleared."""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from run_pygan import Pygan, refused

from pygan.cli import data as command
from pygan.data import digits, fetch, idx, registry

IMAGES = np.random.Generator(np.random.Philox(7)).integers(0, 256, (5, 28, 28), dtype=np.uint8)
NAMES = tuple(f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``mnist`` becomes a set of five pictures a split whose files are served from the folder that this returns."""
    folder = tmp_path / "mirror"
    arrays = (IMAGES, np.arange(5, dtype=np.uint8)) * 2
    files = []
    for name, array in zip(NAMES, arrays, strict=True):
        idx.write(folder / name, array)
        packed = (folder / name).read_bytes()
        content = idx.content_sha256(array)
        files.append(registry.SetFile(name, len(packed), hashlib.sha256(packed).hexdigest(), content))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "fetch", partial(fetch.fetch, _allow_http=True))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        published = registry.PublishedSet("mnist", "five digits", "a licence", (address,), tuple(files))
        monkeypatch.setitem(registry.PUBLISHED, "mnist", published)
        yield folder
        server.shutdown()
        thread.join()


def test_list_says_what_is_where_and_what_fetching_would_bring(pygan: Pygan, cache: Path) -> None:
    code, out, err = pygan("data", "list")
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines.count("train    not here") == lines.count("test     not here") == 3
    assert f"`pygan data fetch mnist` downloads 11.6 MB in {cache / 'mnist'}" in lines
    assert f"`pygan data fetch digits` makes 55.0 MB in {cache / 'digits'}" in lines
    assert "licence  MIT" in lines
    assert not cache.exists()


def test_list_answers_machines_with_json(pygan: Pygan, tmp_path: Path) -> None:
    code, out, err = pygan("data", "list", "--json", "--data-dir", tmp_path)
    sets = {one["name"]: one for one in json.loads(out)}
    assert (code, err, tuple(sets)) == (0, "", registry.NAMES)
    assert sets["mnist"]["found"] == {"train": None, "test": None}
    assert sets["mnist"]["fetch_to"] == str(tmp_path / "mnist")
    assert sets["mnist"]["fetch_bytes"] == 9912422 + 28881 + 1648877 + 4542


def test_the_size_told_for_digits_is_the_size_written(tmp_path: Path) -> None:
    idx.write(tmp_path / "images", np.ones((3, 28, 28), np.uint8))
    idx.write(tmp_path / "labels", np.ones(3, np.uint8))
    header = sum((tmp_path / name).stat().st_size for name in ("images", "labels")) - 3 * 785
    assert command._size("digits") == sum(digits.COUNTS.values()) * 785 + 2 * header


def test_fetch_says_size_and_place_first_then_verify_and_remove_work_on_it(pygan: Pygan, mirror: Path, cache: Path):
    code, out, err = pygan("data", "fetch", "mnist")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    size = sum((mirror / name).stat().st_size for name in NAMES)
    assert lines[0] == "fetching five digits (licence: a licence)"
    assert lines[1].startswith(f"4 of 4 files, {size / 1e3:.1f} kB, from http://127.0.0.1:")
    assert lines[1].endswith(f" to {cache / 'mnist'}")
    assert [line.split(":")[0] for line in lines[2:6]] == [f"fetching {name}" for name in NAMES]
    assert lines[6] == f"mnist is complete in {cache / 'mnist'}"

    assert pygan("data", "fetch", "mnist") == (0, f"mnist is complete in {cache / 'mnist'}\n", "")
    code, out, _ = pygan("data", "verify", "mnist")
    assert (code, out.splitlines()) == (0, [f"ok  {cache / 'mnist' / name}" for name in NAMES])
    code, out, _ = pygan("data", "remove", "mnist")
    assert (code, out.splitlines()) == (0, [f"removed {cache / 'mnist' / name}" for name in NAMES])
    assert not (cache / "mnist").exists()
    assert pygan("data", "remove", "mnist") == (0, f"nothing of mnist is in {cache / 'mnist'}\n", "")


def test_a_damaged_file_is_fetched_anew_and_the_good_one_is_not(pygan: Pygan, mirror: Path, tmp_path: Path) -> None:
    there = tmp_path / "sets" / "mnist"
    shutil.copytree(mirror, there)
    (there / NAMES[1]).write_bytes(b"damaged")
    code, out, _ = pygan("data", "fetch", "mnist", "--data-dir", tmp_path / "sets")
    assert code == 0
    assert "1 of 4 files" in out and f"fetching {NAMES[0]}" not in out
    assert (there / NAMES[1]).read_bytes() == (mirror / NAMES[1]).read_bytes()


def test_a_mirror_with_wrong_files_is_one_message_and_leaves_nothing(pygan: Pygan, mirror: Path, cache: Path) -> None:
    content = bytearray((mirror / NAMES[0]).read_bytes())
    content[-1] ^= 1
    (mirror / NAMES[0]).write_bytes(content)
    refused(pygan("data", "fetch", "mnist"), "could not be fetched from any mirror", "SHA-256 is ")
    assert list((cache / "mnist").iterdir()) == []


def test_verify_names_the_file_that_is_wrong(pygan: Pygan, mirror: Path, tmp_path: Path) -> None:
    there = tmp_path / "sets" / "mnist"
    shutil.copytree(mirror, there)
    idx.write(there / NAMES[0], IMAGES[::-1])
    refused(pygan("data", "verify", "mnist", "--data-dir", tmp_path / "sets"), str(there / NAMES[0]), "is not mnist's")


@pytest.mark.parametrize("verb", ["fetch", "verify", "remove"])
def test_an_unknown_set_is_one_message_that_lists_the_known(pygan: Pygan, verb: str, cache: Path) -> None:
    refused(pygan("data", verb, "mnits"), "unknown data set 'mnits'; expected one of: mnist, fashion-mnist, digits")
    assert not cache.exists()


def test_verify_without_files_says_how_to_get_them(pygan: Pygan, cache: Path) -> None:
    refused(pygan("data", "verify", "mnist"), str(cache / "mnist"), "pygan data fetch mnist")


def test_a_folder_that_cannot_be_written_is_one_message(pygan: Pygan, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(pygan("data", "fetch", "mnist", "--data-dir", tmp_path / "file"), "cannot write", "Choose a folder")


def test_remove_leaves_the_users_own_folder_and_says_so(
    pygan: Pygan, mirror: Path, tmp_path: Path, monkeypatch
) -> None:
    own = tmp_path / "own" / "mnist"
    shutil.copytree(mirror, own)
    monkeypatch.setenv(registry.ENV_DIR, str(own.parent))
    before = sorted(own.iterdir())
    code, out, _ = pygan("data", "remove", "mnist")
    assert code == 0
    assert out.splitlines()[-1] == f"the files in {own} stay"
    assert sorted(own.iterdir()) == before


def test_digits_are_made_not_downloaded(pygan: Pygan, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, data_dir: Path | None, progress: registry.Progress) -> list[Path]:
        progress("making digits (train)", 1, 2)
        progress("making digits (train)", 2, 2)
        return [cache / name / "file"]

    monkeypatch.setattr(fetch, "fetch", make)
    code, out, _ = pygan("data", "fetch", "digits")
    assert code == 0
    assert out.splitlines()[0] == f"making digits: 55.0 MB in {cache / 'digits'}, nothing is downloaded"
    assert out.splitlines()[1].startswith("making digits (train): done in ")


def test_a_terminal_gets_bars_with_amount_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(command.console, "_force_terminal", True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for of_bytes, words in ((True, ("3.0/4.0 kB", "B/s")), (False, ("3000/4000",))):
        with command._progress(of_bytes) as progress:
            for done in (1000, 2000, 3000):
                progress("fetching something", done, 4000)
                time.sleep(0.01)
        out = capsys.readouterr().out
        assert "fetching something" in out and all(word in out for word in words), out


def test_ctrl_c_says_how_to_go_on(pygan: Pygan, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch", stop)
    code, out, err = pygan("data", "fetch", "mnist")
    assert (code, err) == (130, "stopped; every file written so far is valid\n")
    assert out.splitlines()[-1] == "the same command goes on where this download broke off"
