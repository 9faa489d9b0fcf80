"""Where a ring is; known without loading the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of PEM: whom the nodes must be certified by, and who we are if they ask."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Variables:
    """Names of the environment's variables that have the user's name and the password."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class CassandraSettings:
    """Where the ring is.

    Attributes:
        contact_points: addresses of some nodes; the others are found through them.
        datacenter: the one whose nodes are asked.
        credentials: file with the user's name and the password, a line each, or where they are in the environment; None
            where the ring wants none.
    """

    contact_points: tuple[str, ...]
    datacenter: str
    keyspace: str = "salvus"
    port: int = 9042
    credentials: Path | Variables | None = None
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"in Cassandra ({', '.join(self.contact_points)}; keyspace {self.keyspace})"
