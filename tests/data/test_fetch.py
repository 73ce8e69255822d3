import hashlib
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import Server, serving

from pygan.data import digits, fetch, idx, load, registry
from pygan.errors import DataError

IMAGES = np.random.Generator(np.random.Philox(6)).integers(0, 256, (5, 28, 28), dtype=np.uint8)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """``mnist`` becomes a set of one images file and, with the same bytes in it, no more; served on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    idx.write(tmp_path / "source.gz", IMAGES)
    packed = (tmp_path / "source.gz").read_bytes()
    with serving(packed) as one:
        file = registry.SetFile(
            "train-images-idx3-ubyte.gz", len(packed), hashlib.sha256(packed).hexdigest(), idx.content_sha256(IMAGES)
        )
        mirrors = (one.url("missing", ""), one.url("good", ""))
        monkeypatch.setitem(registry.PUBLISHED, "mnist", registry.PublishedSet("mnist", "t", "l", mirrors, (file,)))
        yield one


def test_fetch_fills_the_cache_from_the_first_mirror_that_works(server: Server, cache: Path) -> None:
    (path,) = fetch.fetch("mnist", _allow_http=True)
    assert path == cache / "mnist" / "train-images-idx3-ubyte.gz"
    np.testing.assert_array_equal(idx.read_images(path), IMAGES)
    assert len(server.asked) == 2
    fetch.fetch("mnist", _allow_http=True)
    assert len(server.asked) == 2  # the right file is there: nothing is asked
    path.write_bytes(b"damaged")
    fetch.fetch("mnist", _allow_http=True)
    np.testing.assert_array_equal(idx.read_images(path), IMAGES)


def test_fetch_into_a_folder_and_remove_from_it_only(server: Server, tmp_path: Path, cache: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYGAN_DATA_DIR", str(tmp_path / "env"))
    shutil.copytree(fetch.fetch("mnist", _allow_http=True)[0].parent, tmp_path / "env" / "mnist")
    (path,) = fetch.fetch("mnist", tmp_path / "given", _allow_http=True)
    assert path.parent == tmp_path / "given" / "mnist"
    path.with_name(path.name + ".part").write_bytes(b"half")
    assert fetch.remove("mnist", tmp_path / "given") == [path, path.with_name(path.name + ".part")]
    assert not path.parent.exists()
    assert (cache / "mnist" / path.name).exists()
    fetch.remove("mnist")
    assert not (cache / "mnist").exists()
    assert (tmp_path / "env" / "mnist" / path.name).exists()
    assert fetch.remove("mnist") == []


def test_fetch_refuses_plain_http_by_default(server: Server) -> None:
    with pytest.raises(DataError, match="only https"):
        fetch.fetch("mnist")
    assert server.asked == []


def test_all_mirrors_are_https_folders_of_known_hosts() -> None:
    for one in registry.PUBLISHED.values():
        assert len(one.mirrors) >= 2
        assert len(one.files) == 4
        for mirror in one.mirrors:
            parts = urllib.parse.urlsplit(mirror)
            assert parts.scheme == "https" and parts.path.endswith("/") and not parts.query


def test_loading_never_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", connect)
    with pytest.raises(DataError, match="not found"):
        load("mnist")


def test_digits_are_made_listed_verified_and_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SPLITS", {"test": "t10k"})
    for module in (digits, fetch):
        monkeypatch.setattr(module, "SPLITS", {"test": "t10k"})
    paths = fetch.fetch("digits")
    assert paths == list(digits.file_paths(cache / "digits", "test"))
    info = {one.name: one for one in fetch.list_sets()}
    assert tuple(info) == registry.NAMES
    assert info["digits"].found == {"test": tuple(paths)}
    assert info["mnist"].found == {"test": None}
    assert fetch.verify("digits") == paths
    assert fetch.remove("digits") == paths
    assert fetch.list_sets()[2].found == {"test": None}


def test_verify_of_an_absent_set_says_how_to_get_it(cache: Path) -> None:
    for name in registry.NAMES:
        with pytest.raises(DataError, match=f"(?s)no files of {name}.*{cache}.*pygan data fetch {name}"):
            fetch.verify(name)


@pytest.mark.parametrize("action", [fetch.fetch, fetch.verify, fetch.remove])
def test_an_unknown_name_lists_the_known_ones(action) -> None:
    with pytest.raises(DataError, match="unknown data set 'cifar'; expected one of: mnist, fashion-mnist, digits"):
        action("cifar")


@pytest.mark.parametrize("name", list(registry.PUBLISHED))
def test_verify_reads_the_published_files(real_dir: Path, name: str) -> None:
    paths = fetch.verify(name, real_dir)
    assert len(paths) == 4
    for path, file in zip(paths, registry.PUBLISHED[name].files, strict=True):
        packed = path.with_name(file.name)
        if packed == path:
            assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (file.size, file.sha256)


def test_verify_names_a_damaged_published_file(real_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(real_dir / "mnist", tmp_path / "mnist", copy_function=shutil.copyfile)
    wrong = np.ones(10_000, dtype=np.uint8)
    target = next((tmp_path / "mnist").glob("t10k-labels*"))
    target.unlink()
    idx.write(target, wrong)
    with pytest.raises(DataError, match=f"{target.name} is not mnist's: SHA-256.*{idx.content_sha256(wrong)}"):
        fetch.verify("mnist", tmp_path)
