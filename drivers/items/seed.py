"""A cloud-init NoCloud seed: a small ISO image that tells a guest who it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Seed(ShellItem):
    """A NoCloud ISO. The guest's host key is put in on the machine, so that it is nowhere else.

    Attributes:
        host_key: path of the HostKey on the same machine.
        user_data: ``#cloud-config`` in block style, without ``ssh_keys``; empty is allowed.
        network_config: version 2 or 1 as YAML; empty when the guest is to use its defaults.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"user_data", "network_config"})

    path: str
    host_key: str
    instance_id: str
    hostname: str
    user_data: str
    network_config: str

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    @property
    def inputs(self) -> str:
        """Digest of all that the controller puts in."""
        parts = [self.host_key, self.instance_id, self.hostname, self.user_data, self.network_config]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def fields(self) -> Fields:
        """See Item. ``host_key`` is True when the seed has the key that is there now."""
        return {"inputs": self.inputs, "host_key": True, "mode": "0600"}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A guest reads it when it starts: writing it disturbs nothing."""
        return Grade.LIVE
