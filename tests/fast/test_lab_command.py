"""``salvusctl lab`` without a lab: what it prints of one, and how it refuses."""

import fcntl
import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lab
from lab import Lab, LabError, LabHost, LabImage, machine, machines
from resources.load import load
from salvusctl.app import app
from salvusctl.lab import manifest_documents
from salvusctl.yaml_out import to_yaml

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBhv+NTNL49sUilpv0wm4nFtfQAmVMyT0kPwRptgbSDI"
HOSTS = (LabHost("host1", "198.18.0.11", KEY, 7, "running"), LabHost("host2", "198.18.0.12", KEY, 0, "stopped"))
IMAGE = LabImage("/c/image.qcow2", "a" * 64, "/c/kernel", "b" * 64, "/c/initrd", "c" * 64, "root=/dev/vda quiet")
LAB = Lab("demo", "salvus-demo", "/l/client_key", "/l/known_hosts", HOSTS, IMAGE, "/c/root", "/l")


def salvusctl(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_the_manifests_of_a_lab_load_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("---\n".join(map(to_yaml, manifest_documents(LAB))))
    loaded = load([tmp_path])
    assert loaded.errors == ()
    host, image = loaded.fleet.get("Host", "host2"), loaded.fleet.get("Image", "debian12")
    assert host is not None
    assert image is not None
    assert (host.spec.address, host.spec.ssh.host_keys) == ("198.18.0.12", (KEY,))
    assert host.spec.ssh.identity_files == ("/l/client_key",)
    assert host.spec.hypervisor.bridge == "br0"
    assert (image.spec.source, image.spec.kernel.sha256, image.spec.cmdline) == (IMAGE.path, "b" * 64, IMAGE.cmdline)


def test_status_as_json_tells_of_every_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "status", lambda name: lab.Status(name, "partial", LAB))
    code, stdout, _ = salvusctl("lab", "status", "-o", "json")
    document = json.loads(stdout)
    assert code == 0
    assert [(host["name"], host["state"]) for host in document["hosts"]] == [("host1", "running"), ("host2", "stopped")]
    assert document["networkNamespace"] == "salvus-demo"


def test_ssh_to_what_is_no_host_needs_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "require_root", lambda: None)
    monkeypatch.setattr(lab, "load", lambda name: LAB)
    code, _, err = salvusctl("lab", "ssh", "hots1", "--store", str(tmp_path / "store.db"))
    assert code == 2
    assert f"'hots1' is no host of lab {LAB.name} (" in err
    assert f"as a virtual machine: the store {tmp_path}/store.db does not exist" in err


def test_status_without_a_lab_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "status", lambda name: lab.Status(name, "down", None))
    assert salvusctl("lab", "status") == (0, "", "lab demo is down; make it with: salvusctl lab up\n")
    assert salvusctl("lab", "status", "--name", "x")[2] == "lab x is down; make it with: salvusctl lab up --name x\n"
    assert json.loads(salvusctl("lab", "status", "-o", "json")[1]) == {"name": "demo", "state": "down"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("up",),
        ("down",),
        ("ssh", "host1"),
        ("exec", "host1", "--", "true"),
        ("manifests",),
        ("break", "freeze", "host1"),
        ("break", "kill-vm", "host1", "web1"),
    ],
)
@pytest.mark.parametrize(("platform", "user", "reason"), [("linux", 1000, "must be root"), ("darwin", 0, "Linux")])
def test_who_cannot_have_a_lab_is_told_why(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], platform: str, user: int, reason: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.geteuid", lambda: user)
    code, stdout, stderr = salvusctl("lab", *arguments)
    assert (code, stdout) == (2, "")
    assert reason in stderr


def test_a_refusal_of_the_lab_is_an_error_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> lab.Status:
        raise LabError("no: do this")

    monkeypatch.setattr(lab, "status", refuse)
    assert salvusctl("lab", "status") == (2, "", "error: no: do this\n")


def test_who_waited_for_the_lock_of_a_lab_that_is_taken_down_has_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALVUS_LAB_STATE", str(tmp_path))
    begun = threading.Event()
    seen: list[bool] = []

    def second() -> None:
        begun.set()
        with machines._locked("one"):
            with (tmp_path / "one.lock").open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen.append(True)

    thread = threading.Thread(target=second)
    with machines._locked("one"):
        thread.start()
        begun.wait()
        machines._lock("one").unlink()
    thread.join()
    assert seen == [True]
