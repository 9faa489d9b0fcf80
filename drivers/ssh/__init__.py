"""The only importer of paramiko: one kept connection a machine, probes and changes by shell, tunnels."""

from drivers.ssh.connection import Connection
from drivers.ssh.driver import ShellDriver
from drivers.ssh.tunnel import Tunnel

__all__ = ["Connection", "ShellDriver", "Tunnel"]
