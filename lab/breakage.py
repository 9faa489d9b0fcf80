"""What goes wrong in a machine room, on demand.

Each verb has its undoing here, but for the killed VM: bringing that back is somebody's job.
"""

import subprocess
import time

from lab import cassandra, cgroup, network
from lab.model import Lab, LabError, LabHost, Node
from lab.reach import exec_in, leader

_BALLOON = "/var/lib/lab-balloon"
# Halves the piece until not even 4 KiB fit. fallocate(2) gives out blocks without writing them: the disk below, a
# sparse file, does not grow.
_FILL = """
mkdir -p "$1"
left=$(df --output=avail -k "$1" | tail -n 1)
number=0
while [ "$left" -ge 4 ]; do
    if fallocate -l "${left}K" "$1/$number" 2>/dev/null; then
        number=$((number + 1))
    else
        rm -f "$1/$number"
        left=$((left / 2))
    fi
done
"""
_KILL_VM = """
pid=$(cat "/run/libvirt/qemu/$1.pid" 2>/dev/null) || { echo "no virtual machine $1 runs here" >&2; exit 1; }
kill -KILL "$pid"
"""


def kill_vm(lab: Lab, host: LabHost, domain: str) -> None:
    """SIGKILLs the domain's qemu: for libvirt the guest crashed."""
    if "/" in domain:
        raise LabError(f"{domain!r} is no name of a domain")
    _in(lab, host, ["sh", "-eu", "-c", _KILL_VM, "sh", domain])


def freeze(lab: Lab, part: LabHost | Node) -> None:
    """Stops every process of the host or Cassandra node, a host's init, sshd and guests included, as if it hung: the
    network's kernel part still answers, nobody else does.
    """
    cgroup.group(lab.namespace, part.name).freeze(True)


def thaw(lab: Lab, part: LabHost | Node) -> None:
    """Lets what is frozen go on."""
    cgroup.group(lab.namespace, part.name).freeze(False)


def kill_node(lab: Lab, node: Node) -> None:
    """SIGKILLs a Cassandra node, frozen or not; what it has written stays."""
    cassandra.kill(*lab.node(node.name))


def start_node(lab: Lab, node: Node) -> None:
    """Starts a killed Cassandra node again, and waits until it takes clients; one that runs is left alone."""
    ring, node = lab.node(node.name)
    if not cassandra.running(ring, node):
        cassandra.start(ring, node)
    cassandra.wait(ring, node)


def cut(lab: Lab, host: LabHost) -> None:
    """Pulls the host's cable: it and its guests are alone. It stays pulled until `mend` or the host's next boot."""
    network.plug(lab.namespace, host.name, False)


def mend(lab: Lab, host: LabHost) -> None:
    """Puts the cable in again."""
    network.plug(lab.namespace, host.name, True)


def fill(lab: Lab, host: LabHost) -> None:
    """Fills the host's disk to the last block, for root too.

    Only the host's own disk: this machine's does not grow by it.
    """
    _in(lab, host, ["sh", "-eu", "-c", _FILL, "sh", _BALLOON])


def free(lab: Lab, host: LabHost) -> None:
    """Takes away what `fill` put there."""
    _in(lab, host, ["rm", "-rf", _BALLOON])


def reboot(lab: Lab, host: LabHost, timeout: float = 120) -> None:
    """Reboots the host in good order and waits until its old init has gone; hosts.wait waits until it is back.

    LabError after `timeout` seconds.
    """
    before = _boot_id(lab, host)
    _in(lab, host, ["systemctl", "--no-block", "reboot"])
    deadline = time.monotonic() + timeout
    while _boot_id(lab, host) == before:
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} of lab {lab.name} still runs {timeout:g} s after it was told to reboot")
        time.sleep(0.1)


def stop_sshd(lab: Lab, host: LabHost) -> None:
    """Stops sshd, and ends the sessions it has."""
    _in(lab, host, ["sh", "-c", "systemctl stop ssh.service; pkill -KILL sshd || true"])


def start_sshd(lab: Lab, host: LabHost) -> None:
    """Starts sshd again."""
    _in(lab, host, ["systemctl", "start", "ssh.service"])


def _boot_id(lab: Lab, host: LabHost) -> int:
    """The host's init process as numbered outside, 0 while there is none: a new one is a new boot (the kernel's
    boot id is this machine's).
    """
    try:
        return leader(lab, host)
    except LabError:
        return 0


def _in(lab: Lab, host: LabHost, argv: list[str]) -> None:
    name = f"{host.name} of lab {lab.name}"
    if cgroup.group(lab.namespace, host.name).frozen():
        raise LabError(f"{name} is frozen: thaw it first")
    try:
        done = exec_in(lab, host, argv)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{name} has not done it within {error.timeout:g} s: {' '.join(argv)}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()
        raise LabError(f"{name}: {said or f'exit {done.returncode}'}")
