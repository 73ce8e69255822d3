"""A small server of files on 127.0.0.1 whose faults are chosen by the first folder of the address."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``content`` for every name; ``asked`` lists (path, Range header) of all requests."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.asked: list[tuple[str, str | None]] = []

    def url(self, kind: str, name: str = "file.gz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{kind}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.0"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        content, kind, asked = self.server.content, self.path.split("/")[1], self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and kind != "norange" else 0
        if kind == "missing":
            return self.send_error(404)
        if kind == "unsatisfiable" and asked:
            return self.send_error(416)
        if kind in ("redirect", "tofile"):
            scheme = {"redirect": self.server.url("good"), "tofile": "file:///nowhere"}
            self.send_response(302)
            self.send_header("Location", scheme[kind])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if kind == "wrong":
            content = bytes(byte ^ 255 for byte in content)
        if kind == "longer":
            content += b"more"
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            shift = 1 if kind == "badrange" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if kind == "page":
            body = b"<html>please log in</html>"
        if kind not in ("nolength", "longer", "truncated"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind in ("broken", "truncated"):
            body = body[: len(body) // 2]
        self.wfile.write(body)
        return None


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
