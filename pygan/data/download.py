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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pygan.data.registry import Progress
from pygan.errors import DataError, OutputError
from pygan.files import sha256_file

_CHUNK = 1 << 16


class _MirrorError(Exception):
    """A mirror could not give the file; the next one is tried."""


class _RangeError(_MirrorError):
    """A mirror would not go on where the part ends; it is asked once more from the beginning."""


class _BrokenError(Exception):
    """The connection failed while bytes were coming: not to be taken for a failure to write them."""


def download(
    urls: Sequence[str],
    target: Path,
    size: int,
    sha256: str,
    *,
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
    transfer = _Transfer(part, size, sha256, progress, timeout, _allow_http)
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                transfer.complete(url)
            except _MirrorError as failure:
                failures.append(f"{url}: {failure}")
                continue
            part.replace(target)
            return
        if part.exists() and part.stat().st_size == 0:
            part.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}. Choose a folder you may write to."
        ) from error
    reasons = "\n  ".join(failures)
    raise DataError(
        f"{target.name} could not be fetched from any mirror:\n  {reasons}\n"
        f"Try again later (a download goes on where it broke off), or put the file at {target} yourself."
    )


@dataclass(frozen=True)
class _Transfer:
    part: Path
    size: int
    sha256: str
    progress: Progress | None
    timeout: float
    allow_http: bool

    def complete(self, url: str) -> None:
        """Complete the part from one mirror and check it; what an earlier try left is given up if it proves wrong."""
        have = self.part.stat().st_size if self.part.exists() else 0
        start = have if have <= self.size else 0
        while True:
            try:
                if start < self.size:
                    self._grow(url, start)
                found = sha256_file(self.part)
                if found == self.sha256:
                    return
                self.part.unlink()
                wrong = f"SHA-256 is {found}, expected {self.sha256}"
            except _RangeError as refusal:
                wrong = str(refusal)
            if start == 0:
                raise _MirrorError(wrong)
            start = 0

    def _grow(self, url: str, start: int) -> None:
        """Append bytes ``start .. size - 1`` to the part; leaves what came if the connection breaks."""
        why = "the connection was closed"
        with self._open(url, start) as response:
            done = self._first_byte(response, start)
            with open(self.part, "r+b" if done else "wb", buffering=0) as stream:
                stream.truncate(done)
                stream.seek(done)
                try:
                    while chunk := _receive(response):
                        if done + len(chunk) > self.size:
                            stream.truncate(0)
                            raise _MirrorError(f"sent more than {self.size} bytes")
                        stream.write(chunk)
                        done += len(chunk)
                        if self.progress:
                            self.progress(f"fetching {self.part.stem}", done, self.size)
                except _BrokenError as broken:
                    why = str(broken)
                os.fsync(stream.fileno())
        if done < self.size:
            raise _MirrorError(f"broke off after {done} of {self.size} bytes: {why}")

    def _open(self, url: str, start: int) -> http.client.HTTPResponse:
        _check_scheme(url, self.allow_http)
        request = urllib.request.Request(url, headers={"User-Agent": "pygan"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        opener = urllib.request.build_opener(_Redirects(self.allow_http))
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            refused = start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            raise (_RangeError if refused else _MirrorError)(f"answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _MirrorError(_reason(error)) from error
        return response

    def _first_byte(self, response: http.client.HTTPResponse, start: int) -> int:
        """The position that the answer's first byte has in the file; refuses an answer about another size."""
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and start:
            expected = f"bytes {start}-{self.size - 1}/{self.size}"
            found = response.headers.get("Content-Range", "nothing")
            if found != expected:
                raise _RangeError(f"answered with range {found!r}, expected {expected!r}")
            return start
        if response.status != http.HTTPStatus.OK:
            raise _MirrorError(f"answered {response.status} {response.reason}")
        length = response.headers.get("Content-Length", str(self.size))
        if length != str(self.size):
            raise _MirrorError(f"offers {length} bytes, expected {self.size}")
        return 0


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allow_http: bool) -> None:
        self._allow_http = allow_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_scheme(newurl, self._allow_http)
        except _MirrorError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, allow_http: bool) -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise _MirrorError(f"refused {url}: only https is allowed")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(reason).__name__
