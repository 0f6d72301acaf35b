"""A Hub that answers as the real one does for ids that cannot be loaded, and serves a folder; for processes of their own."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# By id: status, and the code by which huggingface_hub knows the reason.
REFUSED = {
    "owner/gated": (401, "GatedRepo"),
    "owner/not-yet-granted": (403, "GatedRepo"),
    "owner/missing": (401, "RepoNotFound"),
    "owner/data": (404, "RepoNotFound"),
    "owner/forbidden": (403, ""),
    "owner/gone": (410, ""),
}


@contextmanager
def hub_stub(models: dict[str, dict[str, bytes]]) -> Iterator[str]:
    """The address of a Hub with these models (their files by name) and the dataset `owner/data`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            if parts[:2] == ["api", "datasets"]:
                found = "/".join(parts[2:4]) == "owner/data"
                self.answer(200, b'{"id": "owner/data"}') if found else self.answer(404, code="RepoNotFound")
            elif parts[0] == "api":
                name = "/".join(parts[2:4])
                files = models.get(name)
                if parts[1] != "models" or files is None:
                    self.answer(404, code="RepoNotFound")
                elif len(parts) > 4:
                    tree = [{"type": "file", "path": file, "size": 1, "oid": "0" * 40} for file in files]
                    self.answer(200, json.dumps(tree).encode())
                else:
                    self.answer(200, json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode())
            else:
                name, file = "/".join(parts[:2]), "/".join(parts[4:])
                if name in REFUSED:
                    status, code = REFUSED[name]
                    self.answer(status, code=code)
                elif name not in models:
                    self.answer(404, code="RepoNotFound")
                elif file not in models[name]:
                    self.answer(404, code="EntryNotFound")
                else:
                    self.answer(200, models[name][file])

        def answer(self, status: int, body: bytes = b"{}", code: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
