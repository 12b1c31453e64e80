"""
The files of a folder as objects of an S3 bucket, over HTTP: listing, GetObject with ranges, and multipart uploads.

moto's server takes as much processor time as what is measured, and shares this machine's cores with it. Here S3 is not
the limit.

    python tests/benchmarks/s3_files.py FOLDER PORT
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

FOLDER = Path()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is sent in two pieces; the second would wait 40 ms for the first to be acknowledged.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        _, _, key = unquote(address.path).lstrip("/").partition("/")
        if key:
            self.send_file(FOLDER / key)
        else:
            self.send_list(parse_qs(address.query).get("prefix", [""])[0])

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploads" in query:
            upload = tempfile.mkdtemp(prefix=".upload-", dir=FOLDER)
            result = f"<UploadId>{Path(upload).name}</UploadId>"
            self.send_xml(f"<InitiateMultipartUploadResult>{result}</InitiateMultipartUploadResult>")
            return
        parts = sorted((FOLDER / query["uploadId"][0]).iterdir())
        target = FOLDER / unquote(address.path).lstrip("/").partition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    os.sendfile(whole.fileno(), file.fileno(), 0, part.stat().st_size)
        self.send_xml("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")

    def do_PUT(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploadId" in query:
            (FOLDER / query["uploadId"][0] / f"{int(query['partNumber'][0]):05}").write_bytes(body)
        self.send_response(200)
        self.send_header("ETag", '"part"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self) -> None:
        shutil.rmtree(FOLDER / parse_qs(urlsplit(self.path).query)["uploadId"][0])
        self.send_response(204)
        self.end_headers()

    def send_list(self, prefix: str) -> None:
        entries = "".join(
            f"<Contents><Key>{escape(path.relative_to(FOLDER).as_posix())}</Key><Size>{path.stat().st_size}</Size><ETag>{etag(path)}</ETag></Contents>"
            for path in sorted(FOLDER.glob(f"{prefix}*"))
        )
        self.send_xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")

    def send_xml(self, body: str) -> None:
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
