"""A store that speaks HTTP with ranges and as much of S3 as reading needs, and answers 500 now and
then. No test in here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import fsspec


@contextmanager
def fake_store(
    objects: dict[str, bytes], every: int, ranges: bool = True
) -> Iterator[tuple[str, list[int]]]:
    """Serves the bucket `box`; each request number that `every` divides gets a 500.

    Yields its address by HTTP, and the status of each answer so far. As long as it lives s3://box
    is the same.
    """
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(
            self, status: int, content: bytes = b"", kind: str = "application/xml", **more: str
        ) -> None:
            answers.append(status)
            self.send_response(status)
            size = more.pop("size", str(len(content)))
            for name, value in {"Content-Length": size, "Content-Type": kind, **more}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if (len(answers) + 1) % every == 0:
                return self.answer(500)
            address = urlsplit(self.path)
            key = address.path.removeprefix("/box").strip("/")
            if "list-type" in parse_qs(address.query):
                prefix = parse_qs(address.query).get("prefix", [""])[0]
                return self.answer(200, self.listed(prefix))
            if key not in objects:
                return self.answer(200 if not key else 404)
            content, dates = objects[key], {"Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT"}
            if not ranges or not (wanted := self.headers.get("Range")):
                return self.answer(200, content, "image/jpeg", **dates)
            first, last = wanted.removeprefix("bytes=").split("-")
            part = content[int(first) : int(last) + 1]
            dates["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            return self.answer(206, part, "image/jpeg", **dates)

        def listed(self, prefix: str) -> bytes:
            entries = "".join(
                f"<Contents><Key>{key}</Key><Size>{len(content)}</Size>"
                "<LastModified>2026-11-28T00:00:00.000Z</LastModified></Contents>"
                for key, content in objects.items()
                if key.startswith(prefix)
            )
            return (
                '<?xml version="1.0"?><ListBucketResult><Name>box</Name>'
                f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            ).encode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_address[1]}"
        signed = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody"}
        more = {"AWS_ENDPOINT_URL": place, "AWS_DEFAULT_REGION": "none", "AWS_MAX_ATTEMPTS": "2"}
        with patch.dict(os.environ, {"AWS_EC2_METADATA_DISABLED": "true", **signed, **more}):
            yield f"{place}/box", answers
    finally:
        server.shutdown()
        server.server_close()
        # the next one has another port
        fsspec.get_filesystem_class("s3").clear_instance_cache()
