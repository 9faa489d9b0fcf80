"""A git repository that somebody pushes manifests to, and the ways it is served: file, https with a password, ssh."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

USER, PASSWORD = "fleet", "it's a secret"
ALLOWED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_ALONE: Final = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


class Repository:
    """A bare repository, and a clone of it in which files are changed and pushed."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work, self.home = folder / "fleet.git", folder / "work", folder
        self.git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        self.git(folder, "clone", "-q", str(self.bare), str(self.work))
        self.git(self.work, "checkout", "-q", "-B", "main")

    @property
    def url(self) -> str:
        """For ``file``."""
        return f"file://{self.bare}"

    def git(self, where: Path, *words: str, code: int = 0, **more: str) -> str:
        environment = {**_ALONE, "HOME": str(self.home), **more}
        done = subprocess.run(["git", *words], cwd=where, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None], *options: str) -> str:
        """Writes files (None: removes them) and commits; returns the commit's ID."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.git(self.work, "add", "-A")
        self.git(self.work, "commit", "-q", "--allow-empty", "-m", "a change", *options)
        return self.git(self.work, "rev-parse", "HEAD")

    def put_many(self, files: Mapping[str, str]) -> None:
        """A commit on main with these files and no others, straight into the repository (git-fast-import(1))."""
        lines = ["commit refs/heads/main", "committer a <a@example.org> 0 +0000", "data 4", "many"]
        for name, text in files.items():
            lines += [f"M 100644 inline {name}", f"data {len(text.encode())}", text]
        text = "\n".join([*lines, ""])
        command = ["git", "fast-import", "--quiet", "--force"]
        subprocess.run(command, cwd=self.bare, env=_ALONE, input=text, text=True, check=True)

    def push(self, files: Mapping[str, str | None], *options: str, ref: str = "main") -> str:
        """Commits and pushes; whatever was there is replaced."""
        commit = self.commit(files, *options)
        self.git(self.work, "push", "-q", "--force", "origin", f"HEAD:refs/heads/{ref}")
        return commit


class GitHttps:
    """git-http-backend(1) behind TLS and a password, on loopback. ``requests`` are the paths that were asked for."""

    def __init__(self, folder: Path, repositories: Path) -> None:
        self.certificate, key = folder / "server.pem", folder / "server.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
             "-keyout", str(key), "-out", str(self.certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        self.requests: list[str] = []
        self.redirect = ""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Request, self, repositories))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Request(BaseHTTPRequestHandler):
    """One request: CGI (RFC 3875)."""

    def __init__(self, https: GitHttps, repositories: Path, *more: Any) -> None:
        self._https = https
        self._repositories = repositories
        super().__init__(*more)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _serve(self) -> None:
        self._https.requests.append(self.path)
        if self._https.redirect:
            return self._refuse(HTTPStatus.FOUND, ("Location", self._https.redirect + self.path))
        if self.headers.get("Authorization") != ALLOWED:
            return self._refuse(HTTPStatus.UNAUTHORIZED, ("WWW-Authenticate", "Basic realm=git"))
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            input=self._body(),
            capture_output=True,
            check=True,
            env={
                **_ALONE,
                "GIT_PROJECT_ROOT": str(self._repositories),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "REMOTE_USER": USER,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            },
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        return found

    def _refuse(self, status: HTTPStatus, header: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()
