"""N real sshds on one host of the lab, which has a real systemd: on N ports, or each in a network of its own."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lab
from lab import cgroup
from lab.progress import Progress
from tools.bench.work import ROOT, Access, Endpoint, Work

NAME = "bench"
_FIRST_PORT = 2200
# In the lab's network, beside its hosts.
_BASE, _PREFIX = ipaddress.ip_address("198.19.0.0"), 15
_UNITS = {
    # As Debian's ssh.service, on a port of its own, for as many connections at once as a tool likes to make.
    "bench-sshd@.service": "[Service]\nExecStart=/usr/sbin/sshd -D -p %i -o MaxStartups=1000\nKillMode=process\n",
    # The same in a network of its own, with a state folder of its own.
    "bench-apart@.service": "[Service]\nNetworkNamespacePath=/run/netns/%i\n"
    "TemporaryFileSystem=/var/lib/salvus /etc/systemd/system\n"
    "ExecStart=/usr/sbin/sshd -D -o MaxStartups=1000\nKillMode=process\n",
    "bench@.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}
_INSTALL = 'cat >"/etc/systemd/system/$1"'
_PORTS = 'systemctl daemon-reload; for port; do systemctl start "bench-sshd@$port.service"; done'
# Arguments: NAME ADDRESS/PREFIX of each. A wipe would take the state folder away from under them.
_NETWORKS = f"""
systemctl daemon-reload
mkdir -p /var/lib/salvus
while [ $# -gt 0 ]; do
    mkdir -p {ROOT}/"$1"
    ip netns add "$1"
    ip link add "v-$1" type veth peer name eth0 netns "$1"
    ip link set "v-$1" master br0 up
    ip -n "$1" link set lo up
    ip -n "$1" link set eth0 up
    ip -n "$1" address add "$2" dev eth0
    systemctl start "bench-apart@$1.service"
    shift 2
done
"""
# What a tool leaves on the machine for itself must not help the next one.
_WIPE = f"""
systemctl stop 'bench@*.service'
rm -rf {ROOT} /root/.ansible /var/lib/salvus /tmp/pyinfra*
for name; do mkdir -p {ROOT}/"$name"; done
"""
# Everything that a write would change: the file's inode, its time and content, the unit's start.
_LOOK = f"""
find {ROOT} -type f -printf '%p %i %T@ ' -exec sha256sum {{}} \\;
systemctl show -p Id -p ActiveEnterTimestampMonotonic 'bench@*.service' --state=active | paste - - -
"""


class Machines:
    """The endpoints, and a way to them that no tool uses."""

    def __init__(self, found: lab.Lab, endpoints: tuple[Endpoint, ...], access: Access) -> None:
        self.endpoints = endpoints
        self.access = access
        self._lab = found

    def work(self, endpoints: int, items: int) -> Work:
        """``items`` on each of the first ``endpoints``."""
        return Work(self.endpoints[:endpoints], items, self.access)

    def wipe(self) -> None:
        """As if no tool had ever been here."""
        self._run(_WIPE, *(endpoint.name for endpoint in self.endpoints))

    def look(self) -> frozenset[str]:
        """A line for each file and each running unit: two equal answers mean that nothing was written in between."""
        return frozenset(self._run(_LOOK).splitlines())

    def check(self, work: Work) -> None:
        """Raises RuntimeError unless all that was to be done is done."""
        seen = self.look()
        for endpoint in work.endpoints:
            if not any(endpoint.unit in line for line in seen):
                raise RuntimeError(f"{endpoint.unit} does not run")
            for path, content in work.files(endpoint):
                end = f"{hashlib.sha256(content.encode()).hexdigest()}  {path}"
                if not any(line.endswith(end) for line in seen):
                    raise RuntimeError(f"{path} is missing, or not as it should be")

    def cpu(self) -> float:
        """Seconds of CPU that the machines themselves have used until now."""
        return cgroup.group(self._lab.namespace, self._lab.hosts[0].name).cpu()

    def serve(self, *, apart: bool) -> None:
        """Installs the units and starts all sshds."""
        for name, text in _UNITS.items():
            self._run(_INSTALL, name, stdin=text)
        if apart:
            self._run(_NETWORKS, *(word for one in self.endpoints for word in (one.name, f"{one.address}/{_PREFIX}")))
        else:
            self._run(_PORTS, *(str(endpoint.port) for endpoint in self.endpoints))

    def _run(self, script: str, *arguments: str, stdin: str = "") -> str:
        host = self._lab.hosts[0]
        argv = ["sh", "-euc", script, "sh", *arguments]
        done = lab.exec_in(self._lab, host, argv, stdin.encode(), timeout=120)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return done.stdout.decode()


def _address(number: int) -> str:
    return str(_BASE + number)


@contextmanager
def machines(count: int, scratch: Path, progress: Progress, *, apart: bool = False) -> Iterator[Machines]:
    """``count`` endpoints; all of it ends with the context, as the lab's host that it is on. Raises LabError.

    ``apart``, each has an address, a network and a packet filter of its own.
    """
    lab.down(NAME)
    try:
        found = lab.up(NAME, hosts=1, progress=progress)
        host = found.hosts[0]
        known_hosts = scratch / "known_hosts"
        numbers = range(1, count + 1)
        ways = [(_address(n), 22) if apart else (host.address, _FIRST_PORT + n) for n in numbers]
        known_hosts.write_text("".join(f"[{address}]:{port} {host.host_key}\n" for address, port in ways))
        access = Access(found.namespace, Path(found.key_path), known_hosts, host.host_key)
        endpoints = tuple(Endpoint(f"e{n:02}", *way) for n, way in zip(numbers, ways, strict=True))
        made = Machines(found, endpoints, access)
        made.serve(apart=apart)
        yield made
    finally:
        lab.down(NAME)
