"""
The files of a folder as objects of an S3 bucket, over HTTP: listing, and GetObject with ranges, sent by the kernel.

moto's server costs more processor time for a gigabyte than a load does, and shares this machine's cores with it. Here
S3 is not the limit, so that what is measured is how we read from it.

    python tests/benchmarks/s3_files.py FOLDER PORT
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

FOLDER = Path()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        _, _, key = unquote(address.path).lstrip("/").partition("/")
        if key:
            self.send_file(FOLDER / key)
        else:
            self.send_list(parse_qs(address.query).get("prefix", [""])[0])

    def send_list(self, prefix: str) -> None:
        entries = "".join(
            f"<Contents><Key>{escape(path.relative_to(FOLDER).as_posix())}</Key><Size>{path.stat().st_size}</Size><ETag>{etag(path)}</ETag></Contents>"
            for path in sorted(FOLDER.glob(f"{prefix}*"))
        )
        body = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def send_file(self, path: Path) -> None:
        size = path.stat().st_size
        start, end = 0, size - 1
        if wanted := self.headers.get("Range"):
            start, end = map(int, wanted.removeprefix("bytes=").split("-"))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("ETag", etag(path))
        self.end_headers()
        with path.open("rb") as file:
            self.connection.sendfile(file, start, end - start + 1)

    def log_message(self, *_: object) -> None:
        pass


def etag(path: Path) -> str:
    return f'"{path.stat().st_mtime_ns:x}"'


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
