import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import Server, serving

from pygan.data.download import download
from pygan.errors import DataError, OutputError

CONTENT = np.random.Generator(np.random.Philox(1)).bytes(300_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as one:
        yield one


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "set" / "file.gz"


def get(server: Server, target: Path, *kinds: str, **options) -> None:
    urls = [server.url(kind) for kind in kinds]
    download(urls, target, len(CONTENT), SHA256, timeout=5, _allow_http=True, **options)


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("kind", ["good", "nolength", "redirect", "norange"])
def test_a_whole_download(server: Server, target: Path, kind: str) -> None:
    told = []
    get(server, target, kind, progress=lambda *what: told.append(what))
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.gz"]
    assert told[-1] == ("fetching file.gz", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


@pytest.mark.parametrize("kind", ["broken", "truncated"])
def test_a_broken_download_is_resumed(server: Server, target: Path, kind: str) -> None:
    with pytest.raises(DataError, match="broke off after 150000 of 300001 bytes"):
        get(server, target, kind)
    assert left(target) == ["file.gz.part"]
    get(server, target, "good")
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.gz"]
    assert server.asked[-1] == ("/good/file.gz", "bytes=150000-")


def test_a_broken_download_goes_on_at_the_next_mirror(server: Server, target: Path) -> None:
    get(server, target, "broken", "good")
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/broken/file.gz", None), ("/good/file.gz", "bytes=150000-")]


@pytest.mark.parametrize(("kind", "requests"), [("norange", 1), ("badrange", 2), ("unsatisfiable", 2)])
def test_a_server_without_ranges_sends_it_all_again(server: Server, target: Path, kind: str, requests: int) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT[:1000])
    get(server, target, kind)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == requests


def test_a_part_that_proves_wrong_is_given_up_and_the_file_fetched_anew(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(b"from another file")
    get(server, target, "good")
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["bytes=17-", None]


@pytest.mark.parametrize("extra", [b"", b"and more"])
def test_a_whole_part_needs_no_transfer_and_an_overlong_one_is_replaced(
    server: Server, target: Path, extra: bytes
) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT + extra)
    get(server, target, "good")
    assert target.read_bytes() == CONTENT
    assert server.asked == ([("/good/file.gz", None)] if extra else [])


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server: Server, target: Path) -> None:
    found = hashlib.sha256(bytes(byte ^ 255 for byte in CONTENT)).hexdigest()
    with pytest.raises(DataError, match=f"/wrong/file.gz: SHA-256 is {found}, expected {SHA256}"):
        get(server, target, "wrong")
    assert left(target) == []


def test_a_mirror_of_another_size_is_refused(server: Server, target: Path) -> None:
    with pytest.raises(DataError, match="offers 26 bytes, expected 300001"):
        get(server, target, "page")
    with pytest.raises(DataError, match="sent more than 300001 bytes"):
        get(server, target, "longer")
    assert left(target) == []


def test_the_next_mirror_is_taken_when_one_fails(server: Server, target: Path) -> None:
    get(server, target, "missing", "page", "wrong", "good")
    assert target.read_bytes() == CONTENT


def test_the_error_lists_each_mirror_with_its_reason(server: Server, target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/file.gz"
        urls = [server.url("missing"), nobody, server.url("page")]
        with pytest.raises(DataError) as caught:
            download(urls, target, len(CONTENT), SHA256, timeout=5, _allow_http=True)
    first, *reasons, last = str(caught.value).splitlines()
    assert first == "file.gz could not be fetched from any mirror:"
    for url, reason, words in zip(urls, reasons, ["answered 404", "refused", "offers 26 bytes"], strict=True):
        assert reason.startswith(f"  {url}: ") and words in reason
    assert str(target) in last and "Try again later" in last


def test_a_silent_server_is_given_up(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.gz"
        with pytest.raises(DataError, match="timed out"):
            download([url], target, 10, SHA256, timeout=0.2, _allow_http=True)


def test_plain_http_is_refused_without_asking(server: Server, target: Path) -> None:
    with pytest.raises(DataError, match="only https is allowed"):
        download([server.url("good")], target, len(CONTENT), SHA256)
    assert server.asked == []


def test_a_redirect_away_from_https_is_refused(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"file:///nowhere' is not allowed"):
        get(server, target, "tofile")
    from pygan.data import download as module

    seen = []
    real = module._check_scheme

    def first_address_passes(url: str, allow_http: bool) -> None:
        seen.append(url)
        real(url, allow_http=len(seen) == 1)

    monkeypatch.setattr(module, "_check_scheme", first_address_passes)
    with pytest.raises(DataError, match=r"refused http://127\.0\.0\.1:\d+/good/file.gz: only https"):
        get(server, target, "redirect")
    assert server.asked[-1][0] == "/redirect/file.gz"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///nowhere", "no address"])
def test_other_addresses_are_refused(target: Path, url: str) -> None:
    with pytest.raises(DataError, match="only https is allowed"):
        download([url], target, 10, SHA256, _allow_http=True)


def test_a_folder_that_cannot_be_written_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(OutputError, match="Choose a folder you may write to"):
        get(server, tmp_path / "blocked" / "file.gz", "good")


def test_ctrl_c_leaves_only_a_part_to_resume(server: Server, target: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, target, "good", progress=interrupt)
    assert left(target) == ["file.gz.part"]
    get(server, target, "good")
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][1] is not None
