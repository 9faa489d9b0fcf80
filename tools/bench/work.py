"""What every tool has to bring about: the same files and units, whoever does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = "/srv/bench"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One sshd. All of them are on one host with one file system: each has its own paths and its own unit."""

    name: str
    address: str
    port: int

    @property
    def folder(self) -> str:
        """Where its files are; it is there already."""
        return f"{ROOT}/{self.name}"

    @property
    def unit(self) -> str:
        """A unit that is installed, and stopped at first."""
        return f"bench@{self.name}.service"


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in everywhere: as root, with one key, into one network namespace."""

    namespace: str
    identity_file: Path
    known_hosts: Path
    host_key: str


@dataclass(frozen=True, slots=True)
class Work:
    """``items`` on each endpoint: one unit that is to run, and files."""

    endpoints: tuple[Endpoint, ...]
    items: int
    access: Access

    def files(self, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
        """Path and content (about 1 KiB) of each file of the endpoint."""
        for number in range(self.items - 1):
            yield f"{endpoint.folder}/file{number:02}", f"file {number} of {endpoint.name}\n" * 48

    @property
    def shape(self) -> str:
        """As in ``64 x 2``."""
        return f"{len(self.endpoints)} x {self.items}"
