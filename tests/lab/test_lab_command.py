"""``salvusctl lab`` on a real lab: each command is run as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Lab
from lab.hosts import wait
from resources.load import load

pytestmark = pytest.mark.lab


def salvusctl_lab(
    lab: Lab, *arguments: str, stdin: str = "", command: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Options stand behind the arguments, and what belongs to the command of ``ssh`` and ``exec`` behind them."""
    rest = ("--", *command) if command else ()
    argv = [sys.executable, "-m", "salvusctl", "lab", *arguments, "--name", lab.name, *rest]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def states(lab: Lab) -> dict[str, str]:
    document = json.loads(salvusctl_lab(lab, "status", "-o", "json").stdout)
    return {host["name"]: host["state"] for host in document["hosts"]}


def test_up_of_a_running_lab_is_at_once_done(lab: Lab) -> None:
    done = salvusctl_lab(lab, "up")
    assert (done.returncode, done.stdout) == (0, "")


def test_status_shows_the_hosts(lab: Lab) -> None:
    done = salvusctl_lab(lab, "status")
    assert done.stderr == f"lab {lab.name} is up\n"
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "ADDRESS", "STATE", "PID"]
    assert [row[:3] for row in rows[1:]] == [[host.name, host.address, "running"] for host in lab.hosts]


@pytest.mark.parametrize(
    ("way", "command"),
    [("exec", ("sh", "-c", "hostname; cat; exit 7")), ("ssh", ("hostname; cat; exit 7",))],
)
def test_a_command_in_a_host_has_its_input_output_and_exit_code(lab: Lab, way: str, command: tuple[str, ...]) -> None:
    done = salvusctl_lab(lab, way, "host2", stdin="said\n", command=command)
    assert (done.returncode, done.stdout, done.stderr) == (7, "host2\nsaid\n", "")


@pytest.mark.parametrize("arguments", [("exec", "host9"), ("ssh", "host9"), ("break", "cut", "host9")])
def test_a_name_that_is_not_there_is_refused(lab: Lab, arguments: tuple[str, ...]) -> None:
    done = salvusctl_lab(lab, *arguments)
    assert done.returncode == 2
    assert "'host9'" in done.stderr


def test_its_manifests_describe_what_is_there(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(salvusctl_lab(lab, "manifests").stdout)
    loaded = load([tmp_path])
    assert loaded.errors == ()
    assert {resource.ref for resource in loaded.fleet} == {"Host/host1", "Host/host2", "Image/debian12"}
    image = loaded.fleet.get("Image", "debian12")
    assert image is not None
    for file in (image.spec, image.spec.kernel, image.spec.initrd):
        summed = subprocess.run(["sha256sum", file.source], capture_output=True, text=True, check=True)
        assert summed.stdout.split()[0] == file.sha256


def test_what_is_broken_is_broken_until_it_is_undone(lab: Lab) -> None:
    ssh = ("ssh", "host2")
    for breaking, undoing, error in (
        ("stop-sshd", "start-sshd", "refused"),
        ("cut", "mend", "timed out"),
        ("freeze", "thaw", "timed out"),
    ):
        done = salvusctl_lab(lab, "break", breaking, "host2")
        try:
            assert (done.returncode, done.stdout) == (0, "")
            assert f"lab break {undoing} host2 --name {lab.name}" in done.stderr
            assert states(lab)["host2"] == ("frozen" if breaking == "freeze" else "running")
            refused = salvusctl_lab(lab, *ssh, command=("true",))
            assert refused.returncode == 255
            assert error in refused.stderr
        finally:
            assert salvusctl_lab(lab, "break", undoing, "host2").returncode == 0
        wait(lab, lab.host("host2"))
        assert salvusctl_lab(lab, *ssh, command=("true",)).returncode == 0


def test_a_full_disk_and_its_end(lab: Lab) -> None:
    write = ("sh", "-c", "head -c 65536 /dev/zero >/var/lib/more")
    salvusctl_lab(lab, "break", "fill", "host1")
    try:
        assert "No space left" in salvusctl_lab(lab, "exec", "host1", command=write).stderr
    finally:
        salvusctl_lab(lab, "break", "free", "host1")
    assert salvusctl_lab(lab, "exec", "host1", command=write).returncode == 0
    # The blocks of a file that is there would be room for it on the next full disk.
    salvusctl_lab(lab, "exec", "host1", command=("rm", "/var/lib/more"))


def test_a_rebooted_host_forgets_what_was_in_memory(lab: Lab) -> None:
    salvusctl_lab(lab, "exec", "host2", command=("touch", "/run/gone"))
    assert salvusctl_lab(lab, "break", "reboot", "host2").returncode == 0
    wait(lab, lab.host("host2"))
    assert salvusctl_lab(lab, "exec", "host2", command=("test", "-e", "/run/gone")).returncode == 1
