"""A machine of its own for nftables: network and mount namespaces, a veth to a second network where the test is then.

Packet filter, units and ``/var/lib/salvus`` of this machine are never touched.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from drivers.ssh import Connection, ShellDriver
from lab.namespaces import held
from salvusctl import netns
from tests.conformance import items
from tests.conformance.sshd import Sshd

HERE, THERE = "198.18.255.1", "198.18.255.2"
_INSIDE = """\
ip link set lo up
mkdir -p /var/lib/salvus
mount -t tmpfs none /var/lib/salvus
mount -t tmpfs none /etc/systemd/system
echo ready
exec sleep infinity
"""


class Box:
    """The namespaces, and the ways in: ``machine`` for items, ``sshd`` and ``driver`` for the whole way."""

    def __init__(self, pid: int, stack: ExitStack) -> None:
        self.pid = pid
        self.into = ("nsenter", f"--target={pid}", "--net", "--mount", "--")
        self.machine = items.Machine(self._run)
        self._stack = stack

    def _run(self, shell: Sequence[str], text: str, stdin: bytes) -> items.Done:
        clock = "export SALVUS_NOW=1700000000 SALVUS_WINDOW=60\n"
        return items.here([*self.into, *shell], clock + text, stdin)

    def sh(self, text: str) -> str:
        """Runs it on the machine as root, and answers with what it printed."""
        done = self._run(["sh", "-eu"], text, b"")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def sshd(self) -> Sshd:
        """One on the machine."""
        sshd = Sshd(self.into, THERE)
        self._stack.callback(sshd.close)
        sshd.start()
        return sshd

    def connection(self, sshd: Sshd) -> Connection:
        """A way to the machine from the other network."""
        connection = Connection("web01", sshd.target(connect_timeout=5))
        self._stack.callback(connection.close)
        return connection

    def driver(self, sshd: Sshd, window: int = 30) -> ShellDriver:
        """A controller's, which has done nothing yet."""
        return ShellDriver(self.connection(sshd), state="/var/lib/salvus", window=window)


@contextmanager
def entered(pid: int) -> Iterator[None]:
    """This thread, and what it starts, in the network of that process for a while."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    netns.enter(f"/proc/{pid}/ns/net")
    try:
        yield
    finally:
        assert ctypes.CDLL(None).setns(before, netns.CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture
def box() -> Iterator[Box]:
    """A machine for one test, which is in the network beside it."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: namespaces and packet filters are made")
    with ExitStack() as stack:
        yield made_box(stack)


def made_box(stack: ExitStack) -> Box:
    """A machine; this thread is in the network beside it until the stack ends."""
    outside = stack.enter_context(held("ip link set lo up\necho ready\nexec sleep infinity\n"))
    inside = stack.enter_context(held(_INSIDE))
    stack.enter_context(entered(outside))
    box = Box(inside, stack)
    subprocess.run(
        ["ip", "link", "add", "c0", "type", "veth", "peer", "name", "eth0", "netns", str(inside)], check=True
    )
    subprocess.run(["ip", "address", "add", f"{HERE}/30", "dev", "c0"], check=True)
    subprocess.run(["ip", "link", "set", "c0", "up"], check=True)
    box.sh(f"ip address add {THERE}/30 dev eth0\nip link set eth0 up\n")
    return box


def allowing(*ports: int, members: Sequence[str] = (f"{HERE}/32",)) -> RuleSet:
    """Whoever is in the group may come in at these ports, and nobody elsewhere."""
    rules = (Rule(Action.ALLOW, "Firewall/f", "controllers", Protocol.TCP, tuple(Ports(port, port) for port in ports)),)
    return RuleSet(rules, groups=(Group("controllers", tuple(members)),))
