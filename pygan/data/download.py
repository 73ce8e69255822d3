"""Downloading one file of known size and SHA-256 over https, from the first mirror that has it.

A transfer grows ``NAME.part`` beside the target; a later call goes on where it broke off (HTTP Range). Only a
part with the right SHA-256 is renamed to the target, so no wrong or half file ever bears its name.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pygan.data.registry import Progress
from pygan.errors import DataError, OutputError
from pygan.files import sha256_file

_CHUNK = 1 << 16


class _MirrorFailed(Exception):
    """A mirror could not give the file; the next one is tried."""


class _RangeRefused(_MirrorFailed):
    """A mirror would not go on where the part ends; it is asked once more from the beginning."""


def download(
    urls: Sequence[str],
    target: Path,
    size: int,
    sha256: str,
    progress: Progress | None = None,
    timeout: float = 30.0,
    _allow_http: bool = False,
) -> None:
    """Bring the file of ``size`` bytes and hex ``sha256`` to ``target``; ``urls`` are tried in order.

    ``timeout``: seconds that a mirror may stay silent. Plain http is refused, also behind a redirect
    (``_allow_http`` is for tests). If all mirrors fail, ``DataError`` lists the reason of each, and at most
    ``target.part`` is left, to be resumed; ``OutputError`` if the target's folder cannot be written.
    """
    part = target.with_name(target.name + ".part")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                _from_mirror(url, part, size, sha256, progress, timeout, _allow_http)
            except _MirrorFailed as failure:
                failures.append(f"{url}: {failure}")
                continue
            os.replace(part, target)
            return
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}. Choose a folder you may write to."
        ) from error
    if part.exists() and part.stat().st_size == 0:
        part.unlink()
    reasons = "\n  ".join(failures)
    raise DataError(
        f"{target.name} could not be fetched from any mirror:\n  {reasons}\n"
        f"Try again later (a download goes on where it broke off), or put the file at {target} yourself."
    )


def _from_mirror(
    url: str, part: Path, size: int, sha256: str, progress: Progress | None, timeout: float, allow_http: bool
) -> None:
    """Complete ``part`` from one mirror and check it; what an earlier try left is given up if it proves wrong."""
    have = part.stat().st_size if part.exists() else 0
    start = have if have <= size else 0
    while True:
        wrong = ""
        try:
            if start < size:
                _transfer(url, part, start, size, progress, timeout, allow_http)
            found = sha256_file(part)
            if found == sha256:
                return
            part.unlink()
            wrong = f"SHA-256 is {found}, expected {sha256}"
        except _RangeRefused as refusal:
            wrong = str(refusal)
        if start == 0:
            raise _MirrorFailed(wrong)
        start = 0


def _transfer(
    url: str, part: Path, start: int, size: int, progress: Progress | None, timeout: float, allow_http: bool
) -> None:
    """Append bytes ``start .. size - 1`` to ``part``; leaves what came if the connection breaks."""
    try:
        with _open(url, start, timeout, allow_http) as response:
            done = _first_byte(response, start, size)
            with open(part, "r+b" if done else "wb", buffering=0) as stream:
                stream.truncate(done)
                stream.seek(done)
                while chunk := _receive(response):
                    if done + len(chunk) > size:
                        stream.truncate(0)
                        raise _MirrorFailed(f"sent more than {size} bytes")
                    stream.write(chunk)
                    done += len(chunk)
                    if progress:
                        progress(f"fetching {part.name.removesuffix('.part')}", done, size)
                os.fsync(stream.fileno())
    except _Broken as broken:
        raise _MirrorFailed(f"broke off after {part.stat().st_size} of {size} bytes: {broken}") from broken
    if done < size:
        raise _MirrorFailed(f"broke off after {done} of {size} bytes")


class _Broken(Exception):
    """The connection failed while bytes were coming: not to be taken for a failure to write them."""


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from error


def _open(url: str, start: int, timeout: float, allow_http: bool) -> http.client.HTTPResponse:
    _check_scheme(url, allow_http)
    request = urllib.request.Request(url, headers={"User-Agent": "pygan"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.build_opener(_Redirects(allow_http)).open(request, timeout=timeout)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        error.close()
        kind = (
            _RangeRefused if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE else _MirrorFailed
        )
        raise kind(f"answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorFailed(_reason(error)) from error


def _first_byte(response: http.client.HTTPResponse, start: int, size: int) -> int:
    """The position that the answer's first byte has in the file; refuses an answer about another size."""
    length = response.headers.get("Content-Length", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        expected = f"bytes {start}-{size - 1}/{size}"
        found = response.headers.get("Content-Range", "nothing")
        if found != expected:
            raise (_RangeRefused if start else _MirrorFailed)(f"answered with range {found!r}, expected {expected!r}")
        return start
    if response.status != http.HTTPStatus.OK:
        raise _MirrorFailed(f"answered {response.status} {response.reason}")
    if length and length != str(size):
        raise _MirrorFailed(f"offers {length} bytes, expected {size}")
    return 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allow_http: bool) -> None:
        self._allow_http = allow_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_scheme(newurl, self._allow_http)
        except _MirrorFailed:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, allow_http: bool) -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise _MirrorFailed(f"refused {url}: only https is allowed")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(reason).__name__
