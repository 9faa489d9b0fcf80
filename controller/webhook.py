"""``POST /sync``: whoever has the manifests' repository tells of a push, and proves that it may (HMAC, RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.store.base import StoreError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# The longest that GitHub sends; it is digested as it comes, and not kept.
MOST: Final = 25 * 2**20
CHUNK: Final = 2**16
# Bytes: what is shorter can be guessed.
SHORTEST: Final = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: nothing of it depends on how near a wrong secret was."""

    status: HTTPStatus
    text: str


class _Refused(Exception):
    """What is asked for cannot be done."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, text)


def answer(environ: WSGIEnvironment, secret: Path | None, call: Callable[[], None]) -> Answer:
    """Calls when the request has the secret: as GitHub and Gitea sign with it, or as GitLab sends it.

    ``secret`` is the file with it, read each time; None where no webhook is configured.
    """
    try:
        if secret is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "webhookSecretFile is not configured for manifests in git")
        if environ["REQUEST_METHOD"] != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "POST it")
        key = _key(secret)
        signed = "sha256=" + _digest(environ, key)
        right = hmac.compare_digest(_header(environ, "HTTP_X_HUB_SIGNATURE_256"), signed.encode())
        right |= hmac.compare_digest(_header(environ, "HTTP_X_GITLAB_TOKEN"), key)
        if not right:
            raise _Refused(HTTPStatus.FORBIDDEN, "X-Hub-Signature-256 or X-Gitlab-Token is missing, or is not ours")
        call()
    except _Refused as refused:
        return refused.answer
    except StoreError as error:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"the store cannot be used: {error}")
    return Answer(HTTPStatus.ACCEPTED, "the manifests are read at once")


def _header(environ: WSGIEnvironment, name: str) -> bytes:
    return str(environ.get(name, "")).encode("latin-1", "replace")


def _key(secret: Path) -> bytes:
    try:
        key = secret.read_bytes().strip()
    except OSError as error:
        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"webhookSecretFile cannot be read: {error.strerror}") from error
    if len(key) < SHORTEST:
        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"webhookSecretFile is too short: {SHORTEST} characters or more")
    return key


def _digest(environ: WSGIEnvironment, key: bytes) -> str:
    length = str(environ.get("CONTENT_LENGTH") or "")
    if not length.isascii() or not length.isdigit():
        raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
    if len(length) > len(str(MOST)) or (left := int(length)) > MOST:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST} bytes")
    digest = hmac.new(key, digestmod=hashlib.sha256)
    while left:
        try:
            data = environ["wsgi.input"].read(min(left, CHUNK))
        except OSError as error:  # a time-out too
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "it did not come to its end") from error
        if not data:
            raise _Refused(HTTPStatus.BAD_REQUEST, "it is shorter than its Content-Length")
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()
