"""Two ways into the lab's machines: past the network (nsenter), and over it (ssh)."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import cgroup
from lab.model import Lab, LabError, LabHost
from lab.run import ENVIRONMENT


def leader(lab: Lab, host: LabHost) -> int:
    """The process that is number 1 inside the host, as numbered outside. LabError while the host does not run."""
    for pid in cgroup.group(lab.namespace, host.name).pids():
        numbers = _numbers(pid)
        if len(numbers) == 2 and numbers[1] == "1":
            return pid
    raise LabError(
        f"{host.name} of lab {lab.name} does not run (or is just booting); see {lab.host_dir(host) / 'console.log'}"
    )


def _numbers(pid: int) -> list[str]:
    """The process's numbers, from the outermost namespace inwards: NSpid of proc_pid_status(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])


def exec_argv(lab: Lab, host: LabHost, argv: Sequence[str]) -> list[str]:
    """The command line that runs a program as root inside the host without network or sshd. It is not in the host's
    control group: it also runs while the host is frozen.

    Raises LabError while the host does not run.
    """
    spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
    return ["nsenter", f"--target={leader(lab, host)}", *spaces, "--", *argv]


def exec_in(
    lab: Lab, host: LabHost, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """Runs exec_argv and gives back what it said.

    Raises LabError while the host does not run, subprocess.TimeoutExpired after `timeout` seconds.
    """
    inside = exec_argv(lab, host, argv)
    return subprocess.run(inside, input=stdin, capture_output=True, timeout=timeout, env=ENVIRONMENT, check=False)


def ssh_argv(lab: Lab, target: str, user: str = "root") -> list[str]:
    """The ssh command line for a host's name, or an address in the lab whose key is pinned; the remote command may
    be appended.

    It enters the lab's network namespace by itself and takes no host key on trust.
    """
    address = next((host.address for host in lab.hosts if host.name == target), target)
    options = {
        "UserKnownHostsFile": lab.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "LogLevel": "ERROR",
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    return [
        "nsenter",
        f"--net=/run/netns/{lab.namespace}",
        "ssh",
        "-F",
        "none",
        *flags,
        "-i",
        lab.key_path,
        f"{user}@{address}",
    ]


def pin(lab: Lab, address: str, host_key: str) -> None:
    """Notes the public host key ("ssh-ed25519 AAAA…") of a guest, so that ssh_argv reaches it; a key noted before
    for the address goes.
    """
    path = Path(lab.known_hosts)
    kept = [line for line in path.read_text().splitlines() if line.split()[0] != address]
    path.write_text("".join(f"{line}\n" for line in [*kept, f"{address} {host_key}"]))
