"""The lab is what its README says: hosts, network, guests, ways to break them, and nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lab as lab_package
from lab import Lab, LabError, LabHost, breakage, build, cgroup, exec_in, machine, pin, ssh_argv
from lab.hosts import DISK_SIZE, wait
from tests.lab.fleet import eventually

pytestmark = pytest.mark.lab


def ssh(
    lab: Lab, target: str, command: str, user: str = "root", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ssh_argv(lab, target, user), command], capture_output=True, text=True, timeout=timeout, check=False
    )


def inside(lab: Lab, host: LabHost, command: str, stdin: bytes | None = None, timeout: float = 60) -> str:
    done = exec_in(lab, host, ["sh", "-euc", command], stdin, timeout)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def answers(lab: Lab, host: LabHost) -> bool:
    """Whether sshd lets in within 3 s; a frozen or cut off one does not answer."""
    try:
        return ssh(lab, host.name, "true", timeout=3).returncode == 0
    except subprocess.TimeoutExpired:
        return False


# --- hosts and network


def test_every_host_lets_root_and_operator_in_and_shows_the_pinned_key(lab: Lab) -> None:
    for host in lab.hosts:
        assert ssh(lab, host.name, "hostname").stdout.strip() == host.name
        assert ssh(lab, host.address, "sudo id -un", user="operator").stdout.strip() == "root"
        shown = inside(lab, host, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()
        assert host.host_key == " ".join(shown[:2])
    keys = {host.host_key for host in lab.hosts}
    assert len(keys) == len(lab.hosts)


def test_a_host_with_another_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.hosts
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"{first.address} {second.host_key}\n")
    argv = [word.replace(lab.known_hosts, str(wrong)) for word in ssh_argv(lab, first.name)]
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 255
    assert "verification failed" in done.stderr


def test_libvirt_answers_in_every_host_through_virt_ssh_helper(lab: Lab) -> None:
    for host in lab.hosts:
        assert "Running hypervisor: QEMU" in inside(lab, host, "virsh --connect qemu:///system version")
        assert ssh(lab, host.name, "command -v virt-ssh-helper").returncode == 0


def test_nothing_in_the_lab_has_a_way_out(lab: Lab) -> None:
    for command in ("ip route show default", "ip -6 route show default"):
        for host in lab.hosts:
            assert inside(lab, host, command) == ""
        outer = ["ip", "netns", "exec", lab.namespace, "sh", "-c", command]
        assert subprocess.run(outer, capture_output=True, text=True, timeout=10, check=True).stdout == ""
    # No link of the lab's namespace leads to this machine's: every port of the bridge is a host's.
    shown = subprocess.run(["ip", "-n", lab.namespace, "-json", "link"], capture_output=True, timeout=10, check=True)
    links = {link["ifname"] for link in json.loads(shown.stdout)}
    assert links == {"lo", "lab0", *(host.name for host in lab.hosts)}


def test_hosts_reach_each_other(lab: Lab) -> None:
    first, second = lab.hosts
    assert "1 received" in inside(lab, first, f"ping -c 1 -W 5 {second.address}")


def test_up_of_a_running_lab_changes_nothing(lab: Lab) -> None:
    again = lab_package.up(lab.name, hosts=2)
    assert again == lab
    assert lab_package.load(lab.name) == lab


def test_a_lab_does_not_shrink_silently(lab: Lab) -> None:
    with pytest.raises(LabError, match="has 2 hosts"):
        lab_package.up(lab.name, hosts=1)


@pytest.mark.parametrize("name", ["", "Demo", "../x", "a" * 25, "1st"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a lab"):
        lab_package.up(name)


def test_a_caller_without_a_path_misses_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.missing_packages() == ()


def test_packages_can_be_installed_without_a_network(lab: Lab) -> None:
    host = lab.hosts[0]
    inside(
        lab,
        host,
        "! command -v tree; DEBIAN_FRONTEND=noninteractive apt-get install -q -y tree nginx-light",
        timeout=120,
    )
    assert "tree v" in inside(lab, host, "tree --version")
    assert inside(lab, host, "systemctl is-active nginx").strip() == "active"
    assert "bash" not in inside(lab, lab.hosts[1], "ls /usr/sbin/nginx 2>/dev/null || echo none"), (
        "hosts share no changes"
    )
    inside(lab, host, "apt-get purge -q -y tree 'nginx*'; apt-get update -q", timeout=120)


# --- breakage


def test_a_rebooted_host_comes_back_with_its_files_and_a_fresh_network(lab: Lab) -> None:
    host = lab.hosts[1]
    inside(
        lab,
        host,
        "echo kept >/root/kept; echo gone >/run/gone; nft add table inet gone; ip link add gone type dummy || true",
    )
    breakage.reboot(lab, host)
    wait(lab, host)
    assert inside(lab, host, "cat /root/kept; rm /root/kept; ls /run").startswith("kept\n")
    assert inside(lab, host, "nft list tables") == ""
    assert lab_package.load(lab.name) == lab, "the supervisor lives on"


def test_a_frozen_host_is_silent_until_thawed(lab: Lab) -> None:
    host, other = lab.hosts
    assert answers(lab, host)
    breakage.freeze(lab, host)
    try:
        assert not answers(lab, host)
        assert answers(lab, other)
        assert lab_package.load(lab.name).host(host.name).state == "frozen"
        assert inside(lab, host, "echo still").strip() == "still"
        with pytest.raises(LabError, match="is frozen: thaw it first"):
            breakage.reboot(lab, host)
    finally:
        breakage.thaw(lab, host)
    assert eventually(lambda: answers(lab, host))


def test_a_cut_host_is_alone_until_mended(lab: Lab) -> None:
    host, other = lab.hosts
    breakage.cut(lab, host)
    try:
        assert not answers(lab, host)
        assert "0 received" in exec_in(lab, host, ["ping", "-c", "1", "-W", "1", other.address]).stdout.decode()
    finally:
        breakage.mend(lab, host)
    assert eventually(lambda: answers(lab, host))


def test_a_full_disk_takes_no_more_bytes_and_does_not_fill_this_machine(lab: Lab) -> None:
    host = lab.hosts[0]
    before = shutil.disk_usage(lab.state_dir).free
    breakage.fill(lab, host)
    try:
        done = exec_in(lab, host, ["sh", "-c", "head -c 65536 /dev/zero >/var/lib/more"])
        assert b"No space left" in done.stderr
        assert before - shutil.disk_usage(lab.state_dir).free < DISK_SIZE / 4
    finally:
        breakage.free(lab, host)
    inside(lab, host, "head -c 65536 /dev/zero >/var/lib/more && rm /var/lib/more")


def test_a_stopped_sshd_is_refused_until_started(lab: Lab) -> None:
    host = lab.hosts[0]
    breakage.stop_sshd(lab, host)
    try:
        assert "refused" in ssh(lab, host.name, "true").stderr
    finally:
        breakage.start_sshd(lab, host)
    assert eventually(lambda: answers(lab, host))


# --- leftovers


def test_where_there_is_no_room_nothing_is_begun(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALVUS_LAB_STATE", str(tmp_path))
    monkeypatch.setattr(lab_package.machines, "_ROOM", 1 << 60)
    with pytest.raises(LabError, match="GiB free: make room"):
        lab_package.up(lab.name)
    assert lab_package.status(lab.name).state == "down"


@pytest.fixture
def doomed() -> Iterator[str]:
    """The name of a second lab beside the shared one, which a test may ruin."""
    name = "salvus-test-doomed"
    lab_package.down(name)
    yield name
    lab_package.down(name)


def test_up_and_down_clean_what_a_killed_lab_left_and_touch_no_other(lab: Lab, doomed: str) -> None:
    killed = lab_package.up(doomed, hosts=1)
    assert killed.hosts[0].address == lab.hosts[0].address, (
        "labs may use the same addresses: their networks do not meet"
    )
    inside(killed, killed.hosts[0], "touch /root/old")
    group = cgroup.group(killed.namespace, "host1")
    for pid in group.pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not group.pids())
    assert lab_package.status(doomed).state == "broken"
    with pytest.raises(LabError, match="there is no lab"):
        lab_package.load(doomed)

    fresh = lab_package.up(doomed, hosts=1)
    assert exec_in(fresh, fresh.hosts[0], ["test", "-e", "/root/old"]).returncode == 1

    # Killed in the middle of `up`: no lab.json, a host that is frozen as well.
    (Path(fresh.state_dir) / "lab.json").unlink()
    breakage.freeze(fresh, fresh.hosts[0])
    lab_package.down(doomed)
    assert lab_package.status(doomed).state == "down"
    assert not Path(fresh.state_dir).exists()
    assert not Path("/run/netns", fresh.namespace).exists()
    assert (
        fresh.state_dir not in subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout
    )
    assert lab_package.load(lab.name) == lab


def test_a_killed_build_ends_and_is_in_nobody_s_way(lab: Lab, tmp_path: Path) -> None:
    cache = tmp_path / "salvus"
    building = subprocess.Popen(
        [sys.executable, "-c", "from lab import build, progress; build.products(progress.silent)"],
        env={"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert eventually(lambda: all((cache / f"{name}.building" / "root").exists() for name in ("host", "guest")))
    building.kill()
    building.wait()
    for name in ("host", "guest"):
        with build.locked(cache / f"{name}.lock"):
            at_work = subprocess.run(["pgrep", "--full", f"{cache}/{name}.building"], capture_output=True, check=False)
            assert at_work.stdout == b""
            shutil.rmtree(cache / f"{name}.building")


def test_a_stopped_host_is_started_again_with_its_disk(lab: Lab, doomed: str) -> None:
    two = lab_package.up(doomed, hosts=2)
    inside(two, two.hosts[1], "touch /root/kept")
    exec_in(two, two.hosts[1], ["systemctl", "poweroff"])
    assert eventually(lambda: lab_package.status(doomed).state == "partial")
    grown = lab_package.up(doomed, hosts=3)
    assert [host.name for host in grown.hosts] == ["host1", "host2", "host3"]
    assert grown.hosts[0] == two.hosts[0]
    assert grown.hosts[1].host_key == two.hosts[1].host_key
    inside(grown, grown.hosts[1], "test -e /root/kept")


# --- guests

GUEST_ADDRESS = "198.18.1.200"
DOMAIN = """
<domain type='qemu'>
  <name>probe</name><memory unit='MiB'>512</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>/root/guest/kernel</kernel><initrd>/root/guest/initrd</initrd><cmdline>{cmdline}</cmdline></os>
  <features><acpi/></features><cpu mode='maximum'/>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/root/guest/disk.qcow2'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/root/guest/seed.iso'/>
      <target dev='sda' bus='scsi'/><readonly/></disk>
    <controller type='scsi' model='virtio-scsi'/>
    <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:c8'/><model type='virtio'/></interface>
    <serial type='file'><source path='/root/guest/console'/></serial>
  </devices>
</domain>
"""


@dataclass(frozen=True, slots=True)
class Guest:
    host: LabHost
    seconds: float


@pytest.fixture(scope="module")
def guest(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A real guest on the first host, made with virsh: direct kernel boot, NoCloud seed with a host key of its own."""
    host, folder = lab.hosts[0], tmp_path_factory.mktemp("guest")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    private, public = (folder / "key").read_text(), (folder / "key.pub").read_text()
    seed = {
        "hostname": "probe",
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
        "users": [
            {
                "name": "debian",
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [Path(f"{lab.key_path}.pub").read_text()],
            }
        ],
        "runcmd": [["touch", "/run/ran"]],
    }
    network = {
        "version": 2,
        "ethernets": {"lab": {"match": {"macaddress": "52:54:00:00:00:c8"}, "addresses": [f"{GUEST_ADDRESS}/15"]}},
    }
    inside(lab, host, "mkdir -p /root/guest/seed && chmod 0755 /root")
    for name, content in (
        ("seed/user-data", f"#cloud-config\n{json.dumps(seed)}"),
        ("seed/meta-data", "instance-id: probe"),
        ("seed/network-config", json.dumps(network)),
        ("domain.xml", DOMAIN.format(cmdline=lab.image.cmdline)),
    ):
        inside(lab, host, f"cat >/root/guest/{name}", content.encode())
    for path, name in ((lab.image.path, "base.qcow2"), (lab.image.kernel, "kernel"), (lab.image.initrd, "initrd")):
        with Path(path).open("rb") as file:
            copy = [*ssh_argv(lab, host.name), f"cat >/root/guest/{name}"]
            subprocess.run(copy, stdin=file, timeout=120, check=True)
    inside(
        lab,
        host,
        "cd /root/guest; xorriso -as mkisofs -quiet -V CIDATA -J -R -o seed.iso seed;"
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2 3G; virsh define domain.xml; virsh start probe",
    )
    pin(lab, GUEST_ADDRESS, " ".join(public.split()[:2]))
    begin = time.monotonic()
    up = eventually(lambda: ssh(lab, GUEST_ADDRESS, "true", "debian").returncode == 0, 240)
    assert up, inside(lab, host, "tail -c 3000 /root/guest/console")
    return Guest(host, time.monotonic() - begin)


def test_a_guest_boots_and_shows_the_key_of_its_seed(lab: Lab, guest: Guest) -> None:
    print(f"guest answered ssh after {guest.seconds:.1f} s")
    facts = ssh(
        lab, GUEST_ADDRESS, "hostname; sudo id -un; df --output=size -BG / | tail -n 1; nproc", "debian"
    ).stdout.split()
    assert facts[:2] == ["probe", "root"]
    assert facts[2] == "3G", "the root file system grows to the disk"
    assert facts[3] == "2"
    assert ssh(lab, GUEST_ADDRESS, "ls /etc/ssh/ssh_host_*_key", "debian").stdout.split() == [
        "/etc/ssh/ssh_host_ed25519_key"
    ]


def test_a_guest_finishes_cloud_init_and_has_no_failed_unit(lab: Lab, guest: Guest) -> None:
    assert (
        ssh(lab, GUEST_ADDRESS, "cloud-init status --wait; ls /run/ran", "debian", 120).stdout.split()[-1] == "/run/ran"
    )
    assert ssh(lab, GUEST_ADDRESS, "systemctl --failed --no-legend", "debian").stdout == ""


def test_a_guest_installs_packages_without_a_network(lab: Lab, guest: Guest) -> None:
    done = ssh(lab, GUEST_ADDRESS, "sudo apt-get install -q -y hello >/dev/null && hello", "debian", 120)
    assert done.stdout.strip() == "Hello, world!", done.stderr


def test_a_guest_is_reached_from_the_other_host(lab: Lab, guest: Guest) -> None:
    assert "1 received" in inside(lab, lab.hosts[1], f"ping -c 1 -W 5 {GUEST_ADDRESS}")


def test_a_killed_vm_is_crashed_for_libvirt(lab: Lab, guest: Guest) -> None:
    breakage.kill_vm(lab, guest.host, "probe")
    assert eventually(lambda: "shut off" in inside(lab, guest.host, "virsh domstate probe"))
    assert "crashed" in inside(lab, guest.host, "virsh domstate --reason probe")
    with pytest.raises(LabError, match="no virtual machine probe runs"):
        breakage.kill_vm(lab, guest.host, "probe")
