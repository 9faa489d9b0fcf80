"""Ansible as its users set it up for speed: 50 forks, pipelining, kept connections, no fact gathering."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tools.bench import venv
from tools.bench.measure import Cost, cost_of, in_namespace
from tools.bench.work import Work

_CONFIG = """\
[defaults]
forks = 50
gathering = explicit
inventory = inventory.json
interpreter_python = /usr/bin/python3
[ssh_connection]
pipelining = True
ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes
control_path_dir = {folder}/control
"""


class Ansible:
    """See the module."""

    name = "Ansible"

    def __init__(self, work: Work, folder: Path) -> None:
        self._folder = folder
        self._environment = venv.environment(folder) | {"ANSIBLE_HOME": str(folder / "home")}
        playbook = [{"hosts": "all", "gather_facts": False, "tasks": _tasks(work)}]
        (folder / "ansible.cfg").write_text(_CONFIG.format(known_hosts=work.access.known_hosts, folder=folder))
        (folder / "inventory.json").write_text(json.dumps(_inventory(work)))
        (folder / "playbook.json").write_text(json.dumps(playbook))
        program = str(venv.programs() / "ansible-playbook")
        self._argv = in_namespace(work.access.namespace, [program, "playbook.json"])

    def run(self) -> Cost:
        """One run of the playbook."""
        return cost_of(self._argv, self._folder, self._environment)

    def close(self) -> None:
        """Ends the kept connections, by their sockets."""
        for socket in (self._folder / "control").glob("*"):
            exit_ = ["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
            subprocess.run(exit_, capture_output=True, timeout=10, check=False)


def _tasks(work: Work) -> list[dict[str, Any]]:
    files = [
        {"copy": {"dest": f"{{{{ files[{n}].path }}}}", "content": f"{{{{ files[{n}].content }}}}", "mode": "0644"}}
        for n in range(work.items - 1)
    ]
    return [*files, {"systemd_service": {"name": "{{ unit }}", "state": "started"}}]


def _inventory(work: Work) -> dict[str, Any]:
    access = work.access
    login = {"ansible_user": "root", "ansible_ssh_private_key_file": str(access.identity_file)}
    hosts = {
        endpoint.name: {
            "ansible_host": endpoint.address,
            "ansible_port": endpoint.port,
            "unit": endpoint.unit,
            "files": [{"path": path, "content": content} for path, content in work.files(endpoint)],
        }
        for endpoint in work.endpoints
    }
    return {"all": {"vars": login, "hosts": hosts}}
