"""Fixtures of the conformance tests."""

from tests.cassandra_ring import keyspace, lasting_keyspace, ring
from tests.conformance.libvirt_machine import admin, world
from tests.conformance.nft_world import box
from tests.conformance.ssh_world import shared_sshd, ssh
from tests.conformance.ufw_world import ufw_box

__all__ = ["admin", "box", "keyspace", "lasting_keyspace", "ring", "shared_sshd", "ssh", "ufw_box", "world"]
