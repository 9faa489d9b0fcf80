"""What must never happen to images, disks, keys and seeds, tried with the real qemu-img, ssh-keygen and xorriso."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.base import Failed, Grade, Present, Rejected, State
from drivers.items.host_key import HostKey
from drivers.items.image_file import ImageFile
from drivers.items.qcow2 import parse
from drivers.items.seed import Seed
from drivers.items.shell import ShellItem
from drivers.items.volume import Volume
from tests.conformance.items import Machine, create, needed

pytestmark = pytest.mark.conformance
MACHINE = Machine()
MEGABYTE = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images", "volumes", "seeds"):
        (tmp_path / name).mkdir()
    return tmp_path


@contextmanager
def in_use(path: str) -> Iterator[None]:
    """Has a disk open as a running machine has."""
    with subprocess.Popen(["qemu-io", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"write -P 7 0 512\n")
        process.stdin.flush()
        assert b"wrote" in process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


def image(root: Path, content: bytes = b"\0" * MEGABYTE) -> ImageFile:
    source = root / "source"
    source.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return ImageFile(f"{root}/images/{digest[:12]}.raw", str(source), digest)


def made(item: ShellItem) -> State:
    MACHINE.mended(item)
    return MACHINE.see(item)


def refusal(item: ShellItem) -> str:
    change = needed(item, MACHINE.see(item))
    assert change is not None
    done = MACHINE.tell(change)
    assert done.returncode != 0
    return done.stderr.decode()


def fields(item: ShellItem) -> dict[str, object]:
    state = MACHINE.see(item)
    assert isinstance(state, Present)
    return dict(state.fields)


# --- images


def test_an_image_that_arrives_wrong_replaces_nothing(root: Path) -> None:
    good = image(root)
    made(good)
    wrong = ImageFile(good.path, good.source, "0" * 64)
    said = refusal(wrong)
    assert good.sha256 in said
    assert wrong.sha256 in said
    assert Path(good.path).read_bytes() == Path(good.source).read_bytes()
    assert not [path for path in Path(root, "images").iterdir() if path.suffix == ".new"]
    made(good)


def test_an_image_stays_sparse_and_is_not_sent_where_it_is_already(root: Path) -> None:
    one = image(root)
    made(one)
    assert Path(one.path).stat().st_blocks < 64
    inode = Path(one.path).stat().st_ino
    Path(one.path).touch()
    made(one)
    assert Path(one.path).stat().st_ino == inode


def test_without_room_an_image_says_how_much_is_missing(root: Path) -> None:
    one = image(root, b"x" * MEGABYTE)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0755", "tmpfs", root / "images"], check=True)
    try:
        said = refusal(one)
        assert f"needs {MEGABYTE} bytes" in said
        assert not list(Path(root, "images").iterdir())
    finally:
        subprocess.run(["umount", root / "images"], check=True)


def test_an_image_whose_source_is_away_says_so(root: Path) -> None:
    one = ImageFile(f"{root}/images/a", f"{root}/nothing", "0" * 64)
    with pytest.raises(Failed, match="cannot be read on the controller"):
        one.script(create(one))


def test_an_image_stays_while_a_disk_or_the_trash_needs_it(root: Path) -> None:
    base = image(root)
    disk = Volume(f"{root}/volumes/a.qcow2", MEGABYTE, base.path, "raw")
    made(base)
    made(disk)
    assert f"is the base of {disk.path}".encode() in MACHINE.delete(base).stderr
    assert MACHINE.delete(disk).returncode == 0
    refused = MACHINE.delete(base)
    assert b"is the base of " in refused.stderr
    assert b"/trash/" in refused.stderr
    shutil.rmtree(root / "trash")
    assert MACHINE.delete(base).returncode == 0
    assert not list(Path(root, "images").iterdir())


# --- disks


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("backing", ["", "base ' \n é.raw", "b" * 200])
def test_a_header_is_read_as_qemu_img_reads_it(compat: str, backing: str, root: Path) -> None:
    options = ["-o", f"compat={compat}"]
    if backing:
        (root / backing).write_bytes(b"\0" * MEGABYTE)
        options += ["-b", str(root / backing), "-F", "raw"]
    disk = root / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, disk, "5M"], check=True)
    told = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", disk], capture_output=True, check=True).stdout
    )
    header = parse(disk.read_bytes()[:4096])
    assert header.size == told["virtual-size"]
    assert header.backing == told.get("backing-filename", "")
    assert header.backing_format == told.get("backing-filename-format", "")


def test_a_disk_grows_and_is_never_shrunk(root: Path) -> None:
    path = f"{root}/volumes/a.qcow2"
    made(Volume(path, MEGABYTE))
    made(Volume(path, 2 * MEGABYTE))
    small = Volume(path, MEGABYTE)
    change = needed(small, MACHINE.see(small))
    assert change is not None
    with pytest.raises(Rejected, match="never shrunk"):
        small.script(change)


def test_a_disk_in_use_is_read_but_neither_grown_nor_deleted_nor_replaced(root: Path) -> None:
    base = image(root)
    made(base)
    disk = Volume(f"{root}/volumes/a.qcow2", MEGABYTE)
    made(disk)
    with in_use(disk.path):
        assert fields(disk)["size"] == MEGABYTE
        assert "if its machine runs, stop it" in refusal(Volume(disk.path, 2 * MEGABYTE))
        assert b"in use by a running machine" in MACHINE.delete(disk).stderr
        assert "in use by a running machine" in refusal(Volume(disk.path, MEGABYTE, base.path, "raw"))
        assert fields(disk) == {"size": MEGABYTE, "format": "qcow2", "backing": "", "backing_format": ""}
    made(Volume(disk.path, 2 * MEGABYTE))
    assert MACHINE.delete(disk).returncode == 0


def test_a_disk_goes_to_the_trash_whole(root: Path) -> None:
    disk = Volume(f"{root}/volumes/a.raw", MEGABYTE, format="raw")
    made(disk)
    Path(disk.path).write_bytes(b"precious" * (MEGABYTE // 8))
    assert MACHINE.delete(disk).returncode == 0
    (kept,) = (root / "trash").glob("[!.]*")
    assert kept.name.endswith("Z-a.raw")
    assert kept.read_bytes() == b"precious" * (MEGABYTE // 8)


def test_another_base_is_another_disk_and_the_old_one_is_kept(root: Path) -> None:
    disk = Volume(f"{root}/volumes/a.qcow2", MEGABYTE)
    base = image(root)
    made(disk)
    made(base)
    old = Path(disk.path).read_bytes()
    other = Volume(disk.path, MEGABYTE, base.path, "raw")
    change = needed(other, MACHINE.see(other))
    assert change is not None
    assert change.grade is Grade.REPLACE
    made(other)
    (kept,) = (root / "trash").glob("[!.]*")
    assert kept.read_bytes() == old


def test_another_format_is_data_loss_and_is_refused(root: Path) -> None:
    disk = Volume(f"{root}/volumes/a", MEGABYTE, format="raw")
    made(disk)
    other = Volume(disk.path, MEGABYTE)
    change = needed(other, MACHINE.see(other))
    assert change is not None
    assert change.grade is Grade.DATA_LOSS
    with pytest.raises(Rejected, match="converts no disks"):
        other.script(change)


def test_what_a_guest_writes_at_the_start_of_a_raw_disk_is_not_taken_for_a_header(root: Path) -> None:
    disk = Volume(f"{root}/volumes/a", MEGABYTE, format="raw")
    made(disk)
    forged = root / "forged"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", forged, "9M"], check=True
    )
    with Path(disk.path).open("r+b") as opened:
        opened.write(forged.read_bytes()[:4096])
    assert fields(disk) == {"size": MEGABYTE, "format": "raw", "backing": "", "backing_format": ""}


def test_a_disk_needs_its_base_and_is_not_smaller(root: Path) -> None:
    base = image(root)
    assert "which is not there" in refusal(Volume(f"{root}/volumes/a", MEGABYTE, base.path, "raw"))
    made(base)
    assert "make it larger" in refusal(Volume(f"{root}/volumes/a", MEGABYTE // 2, base.path, "raw"))


# --- keys and seeds


def test_a_key_that_is_there_is_kept_and_its_public_half_made_again(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    first = made(key)
    assert isinstance(first, Present)
    private = Path(key.path).read_bytes()
    Path(f"{key.path}.pub").unlink()
    again = made(key)
    assert again == first
    assert Path(key.path).read_bytes() == private
    kind, material = first.facts["ssh_host_key"].split(" ")
    assert kind == "ssh-ed25519"
    derived = subprocess.run(["ssh-keygen", "-y", "-f", key.path], capture_output=True, check=True).stdout.decode()
    assert derived.split()[:2] == [kind, material]


def test_a_file_that_is_no_key_is_not_written_over(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    Path(key.path).write_text("something else")
    Path(key.path).chmod(0o600)
    assert "is not a private key" in refusal(key)
    assert Path(key.path).read_text() == "something else"


def test_a_deleted_key_goes_to_the_trash(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    made(key)
    private = Path(key.path).read_bytes()
    assert MACHINE.delete(key).returncode == 0
    kept = sorted((root / "trash").glob("[!.]*"))
    assert [path.name.split("Z-")[1] for path in kept] == ["key", "key.pub"]
    assert kept[0].read_bytes() == private


def test_a_seed_has_what_cloud_init_looks_for(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    seed = Seed(f"{root}/seeds/a.iso", key.path, "id-1", "web01", "#cloud-config\nusers: [a]", "version: 2\n")
    assert "needs the host key" in refusal(seed)
    made(key)
    made(seed)
    told = subprocess.run(["xorriso", "-indev", seed.path, "-toc"], capture_output=True, check=True)
    assert b"CIDATA" in told.stderr + told.stdout
    out = root / "out"
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", seed.path, "-extract", "/", out], capture_output=True, check=True
    )
    assert json.loads((out / "meta-data").read_text()) == {"instance-id": "id-1", "local-hostname": "web01"}
    assert (out / "network-config").read_text() == "version: 2\n"
    user_data = (out / "user-data").read_text()
    assert user_data.startswith("#cloud-config\nusers: [a]\nssh_keys:\n  ed25519_private: |\n    -----BEGIN")
    block = user_data.split("ed25519_private: |\n")[1].split("  ed25519_public: ")
    assert "".join(line.removeprefix("    ") for line in block[0].splitlines(True)) == Path(key.path).read_text()
    state = MACHINE.see(key)
    assert isinstance(state, Present)
    assert block[1].strip() == state.facts["ssh_host_key"]
    assert Path(seed.path).stat().st_mode & 0o777 == 0o600


def test_a_new_host_key_or_other_words_make_another_seed(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    seed = Seed(f"{root}/seeds/a.iso", key.path, "id-1", "web01", "", "")
    made(key)
    made(seed)
    Path(key.path).unlink()
    made(key)
    assert fields(seed)["host_key"] is False
    made(seed)
    other = Seed(seed.path, key.path, "id-2", "web01", "", "")
    assert fields(other)["inputs"] != other.fields()["inputs"]


def test_without_a_program_for_it_a_seed_names_the_package(root: Path) -> None:
    key = HostKey(f"{root}/seeds/key")
    made(key)
    seed = Seed(f"{root}/seeds/a.iso", key.path, "id-1", "web01", "", "")
    programs = root / "bin"
    programs.mkdir()
    for name in ("rm", "stat"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    done = MACHINE.tell(create(seed), before=f"PATH={programs}\n")
    assert b"install the package xorriso" in done.stderr


def test_user_data_in_another_format_is_rejected() -> None:
    seed = Seed("/s/a.iso", "/s/key", "id-1", "web01", "#!/bin/sh\n", "")
    with pytest.raises(Rejected, match="#cloud-config"):
        seed.script(create(seed))
