"""What a configuration says of a source in git; known without loading what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controller.store.source_records import git_source


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may sign: the ``file`` is one of ssh's allowed signers (ssh-keygen(1)), or of public keys for gpg."""

    kind: Literal["ssh", "gpg"]
    file: Path


@dataclass(frozen=True, slots=True)
class GitSettings:
    """A folder of manifests in a branch or tag of a git repository.

    Attributes:
        url: ``https``, ``ssh`` (also as ``user@host:path``) or ``file``; without a password.
        ref: as git writes it: ``refs/heads/main``, ``refs/tags/v1``.
        path: the folder in the repository; empty for all of it.
        copies: a folder for copies of repositories; one is made for each URL and branch.
        interval: seconds between two readings.
        credentials: file of two lines, the user's name and the password or token, for https.
        authority: file of PEM, whom the server must be certified by, instead of whom the machine trusts.
        ssh_key: private key, for ssh.
        known_hosts: file of ssh's known hosts.
        signers: who must have signed the commit; None where nobody must.
        webhook_secret: file with what is proved by who tells of a push; None where nobody tells.
    """

    url: str
    ref: str
    path: str
    copies: Path
    interval: float = 30.0
    credentials: Path | None = None
    authority: Path | None = None
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    signers: Signers | None = None
    webhook_secret: Path | None = None

    @property
    def branch(self) -> str:
        """As people call the ref: ``main``, ``tag v1``."""
        return self.ref.removeprefix("refs/heads/").replace("refs/tags/", "tag ")

    @property
    def source(self) -> str:
        """How resources name it."""
        return git_source(self.url, self.branch, self.path)

    def __str__(self) -> str:
        return f"{self.url} ({', '.join(filter(None, (self.branch, self.path)))})"
