"""N real sshds on N ports of one host of the lab, which has a real systemd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lab
from lab.progress import Progress
from tools.bench.work import ROOT, Access, Endpoint, Work

NAME = "bench"
_FIRST_PORT = 2200
_UNITS = {
    # As Debian's ssh.service, on a port of its own, for as many connections at once as a tool likes to make.
    "bench-sshd@.service": "[Service]\nExecStart=/usr/sbin/sshd -D -p %i -o MaxStartups=1000\nKillMode=process\n",
    "bench@.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}
_INSTALL = 'cat >"/etc/systemd/system/$1"'
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

    def serve(self) -> None:
        """Installs the units and starts all sshds."""
        for name, text in _UNITS.items():
            self._run(_INSTALL, name, stdin=text)
        ports = [str(endpoint.port) for endpoint in self.endpoints]
        self._run('systemctl daemon-reload; for port; do systemctl start "bench-sshd@$port.service"; done', *ports)

    def _run(self, script: str, *arguments: str, stdin: str = "") -> str:
        host = self._lab.hosts[0]
        argv = ["sh", "-euc", script, "sh", *arguments]
        done = lab.exec_in(self._lab, host, argv, stdin.encode(), timeout=120)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return done.stdout.decode()


@contextmanager
def machines(count: int, scratch: Path, progress: Progress) -> Iterator[Machines]:
    """``count`` endpoints; all of it ends with the context, as the lab's host that it is on. Raises LabError."""
    lab.down(NAME)
    try:
        found = lab.up(NAME, hosts=1, progress=progress)
        host = found.hosts[0]
        known_hosts = scratch / "known_hosts"
        ports = range(_FIRST_PORT + 1, _FIRST_PORT + 1 + count)
        known_hosts.write_text("".join(f"[{host.address}]:{port} {host.host_key}\n" for port in ports))
        access = Access(found.namespace, Path(found.key_path), known_hosts, host.host_key)
        endpoints = tuple(Endpoint(f"e{port - _FIRST_PORT:02}", host.address, port) for port in ports)
        made = Machines(found, endpoints, access)
        made.serve()
        yield made
    finally:
        lab.down(NAME)
