"""One host: its state folder, its start and its end. A folder under the lab's hosts/ holds

disk.img     an ext4 file system of limited size, sparse; the host's changes to the shared root (overlayfs) live in it,
             so filling it hurts nobody else
first/       what is copied into the root at the first start: name, host keys, who may log in
console.log  what its supervisor (host.sh) and its console said
"""

import os
import subprocess
import time
from pathlib import Path

from lab import cgroup
from lab.model import Lab, LabError, LabHost
from lab.reach import ssh_argv
from lab.run import environment, run

DISK_SIZE = 8 << 30
_START = 5.0  # seconds after which a host without any process is known to have failed
_SCRIPT = Path(__file__).parent / "host.sh"


def new(folder: Path, number: int, client_key: str) -> LabHost:
    """Prepares the folder of host `number` (from 1): disk, keys. Nothing runs yet."""
    name, address = f"host{number}", f"198.18.0.{10 + number}"
    home = folder / name
    ssh = home / "first" / "etc" / "ssh"
    ssh.mkdir(parents=True)
    for folder_in_root in (home / "first", ssh.parent, ssh):
        folder_in_root.chmod(0o755)
    key = ssh / "ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)])
    (home / "first" / "etc" / "hostname").write_text(f"{name}\n")
    (home / "first" / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    for user, place in ((0, "root"), (1000, "home/operator")):
        _authorize(home / "first" / place, client_key, user)
    with (home / "disk.img").open("wb") as disk:
        disk.truncate(DISK_SIZE)
    run(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
            str(home / "disk.img"),
        ]
    )
    kind, blob, _ = key.with_suffix(".pub").read_text().split()
    return LabHost(name, address, f"{kind} {blob}", 0, "stopped")


def _authorize(home: Path, client_key: str, user: int) -> None:
    keys = home / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text(client_key)
    keys.chmod(0o600)
    keys.parent.chmod(0o700)
    home.chmod(0o700)
    for path in (home, keys.parent, keys):
        os.chown(path, user, 37 if user else 0)  # 37: Debian's static group "operator", base-passwd


def start(lab: Lab, host: LabHost) -> None:
    """Starts the host's supervisor, detached: it lives on when this process ends.

    Does not wait for the host to boot.
    """
    group = cgroup.group(lab.namespace, host.name)
    group.create()
    mac = f"02:00:c6:12:00:{int(host.address.rsplit('.', 1)[1]):02x}"
    arguments = [host.name, f"{host.address}/15", mac, lab.host_root, lab.namespace, *map(str, group.folders)]
    with (lab.host_dir(host) / "console.log").open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", "unshare", "--mount", "--propagation", "private", "sh", str(_SCRIPT), *arguments],
            cwd=lab.host_dir(host),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            check=True,
        )


def wait(lab: Lab, host: LabHost, timeout: float = 90) -> None:
    """Waits until the host can be worked on: ssh lets in with the pinned key, libvirt's socket is there.

    LabError with the console's end otherwise.
    """
    begin = time.monotonic()
    asked = [*ssh_argv(lab, host.name), "test -S /run/libvirt/libvirt-sock"]
    while True:
        waited = time.monotonic() - begin
        alive = bool(cgroup.group(lab.namespace, host.name).pids())
        if alive and subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0:
            return
        if waited > timeout or (not alive and waited > _START):
            console = (lab.host_dir(host) / "console.log").read_bytes().decode(errors="replace")[-1500:]
            raise LabError(
                f"{host.name} of lab {lab.name} did not come up in {waited:.0f} s; its console ends with:\n{console}"
            )
        time.sleep(0.2)


def look(lab: Lab, host: LabHost) -> LabHost:
    """The host as it is now: running (its init is there), frozen, or stopped; `pid` is its supervisor's."""
    group = cgroup.group(lab.namespace, host.name)
    pids = group.pids()
    if not pids:
        return LabHost(host.name, host.address, host.host_key, 0, "stopped")
    state = "frozen" if group.frozen() else "running"
    return LabHost(host.name, host.address, host.host_key, _supervisor(pids), state)


def _supervisor(pids: tuple[int, ...]) -> int:
    """host.sh is the one whose parent is not in the group."""
    for pid in pids:
        try:
            # The second field, the program's name, may hold spaces and brackets: proc_pid_stat(5).
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent not in pids:
            return pid
    return 0
