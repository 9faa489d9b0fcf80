"""Fixtures of the conformance tests."""

from tests.conformance.libvirt_machine import admin, world

__all__ = ["admin", "world"]
