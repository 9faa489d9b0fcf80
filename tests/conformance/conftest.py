"""Fixtures of the conformance tests."""

from tests.conformance.libvirt_machine import admin, world
from tests.conformance.ssh_world import shared_sshd, ssh

__all__ = ["admin", "shared_sshd", "ssh", "world"]
