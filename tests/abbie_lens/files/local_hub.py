"""A hub on this machine: the few addresses that fetching a model asks for, and the ways in which it can fail."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c" * 40
ERROR_CODES = {"absent": (404, "RepoNotFound"), "gated": (403, "GatedRepo"), "down": (503, "")}


class LocalHub:
    """Serves the folders `root`/organisation/model; `mode` says how: `well`, `absent`, `gated`, `down` or `cut`.

    `cut` ends the connection in the middle of every file whose name ends with `cut_file`.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.mode, self.cut_file = root, "well", ".safetensors"
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        path = request.path.partition("?")[0].strip("/")
        self.asked.append(path)
        api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        folder = self.root.joinpath(*parts[:2])
        if self.mode in ERROR_CODES and not (self.mode == "gated" and api):
            self._send(request, ERROR_CODES[self.mode][0], b"{}", code=ERROR_CODES[self.mode][1])
        elif not folder.is_dir():
            self._send(request, 404, b"{}", code="RepoNotFound")
        elif api and "tree" in parts:
            files = [self._entry(file) for file in sorted(folder.iterdir())]
            self._send(request, 200, json.dumps(files).encode())
        elif api:
            told = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": [], "private": False}
            self._send(request, 200, json.dumps(told).encode())
        elif (file := folder / parts[-1]).is_file():
            self._send(request, 200, file.read_bytes(), file)
        else:
            self._send(request, 404, b"{}", code="EntryNotFound")

    @staticmethod
    def _entry(file: Path) -> dict[str, object]:
        oid = hashlib.sha1(file.read_bytes()).hexdigest()
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid}

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, file: Path | None = None, code: str = "") -> None:  # fmt: skip
        whole, sent = body, body
        asked = request.headers.get("Range")
        if asked and file is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            status, whole = 206, body[int(first) : int(last) + 1 if last else None]
            sent = whole
        if self.mode == "cut" and file is not None and file.name.endswith(self.cut_file):
            sent = whole[: len(whole) // 2]
        request.send_response(status)
        request.send_header("Content-Length", str(len(whole)))
        request.send_header("X-Repo-Commit", COMMIT)
        if file is not None:
            request.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if code:
            request.send_header("X-Error-Code", code)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(sent)
        if len(sent) < len(whole):
            request.close_connection = True

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
