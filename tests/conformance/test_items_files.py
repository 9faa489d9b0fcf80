"""What is in the way of files and directories, and what cannot be looked at."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.base import Absent, Change, Present, Unknown
from drivers.items import paths
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.host_key import HostKey
from drivers.items.image_file import ImageFile
from drivers.items.seed import Seed
from drivers.items.shell import ShellItem
from drivers.items.volume import Volume
from tests.conformance.items import Done, Machine, create, here, needed

pytestmark = pytest.mark.conformance
MACHINE = Machine()


def as_nobody(shell: Sequence[str], text: str, stdin: bytes) -> Done:
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run([*become, *shell, "-c", text], input=stdin, capture_output=True, check=False)


def refusal(item: ShellItem) -> str:
    change = needed(item, MACHINE.see(item))
    assert change is not None
    done = MACHINE.tell(change)
    assert done.returncode != 0
    return done.stderr.decode()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "somebody's"
    target.write_text("theirs")
    link = tmp_path / "link"
    link.symlink_to(target)
    item = File(str(link), "ours")
    assert "is a symbolic link" in refusal(item)
    assert MACHINE.delete(item).returncode != 0
    assert link.is_symlink()
    assert target.read_text() == "theirs"
    target.unlink()
    assert "is a symbolic link" in refusal(item), "a link to nothing is there all the same"
    link.unlink()
    folder = tmp_path / "folder"
    folder.mkdir()
    link.symlink_to(folder)
    assert "is a symbolic link" in refusal(Directory(str(link), "0700"))


def test_a_directory_in_the_way_of_a_file_and_the_reverse_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("theirs")
    assert "is not a regular file" in refusal(File(f"{tmp_path}/folder", ""))
    assert "is not a directory" in refusal(Directory(f"{tmp_path}/file"))
    assert (tmp_path / "file").read_text() == "theirs"


def test_a_file_needs_its_directory_and_its_owner(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path}/none" in refusal(File(f"{tmp_path}/none/file", ""))
    assert "invalid user" in refusal(File(f"{tmp_path}/file", "", owner="nobody-of-this-name"))
    assert not (tmp_path / "file").exists()


def test_mending_the_mode_keeps_the_time_of_writing(tmp_path: Path) -> None:
    item = File(f"{tmp_path}/file", "content")
    MACHINE.mended(item)
    before = Path(item.path).stat()
    Path(item.path).chmod(0o600)
    MACHINE.mended(item)
    assert Path(item.path).stat().st_mtime_ns == before.st_mtime_ns


# More than any of these scripts has.
COMMANDS = 30
# Before its command number {step}, whoever owns the folder makes a link of everything that root is about to write.
PLANT = """\
n=0
plant() {{
    n=$((n + 1))
    [ $n = {step} ] || return 0
    for name in "${{new-}}" "${{path-}}"; do
        if [ -n "$name" ]; then rm -rf -- "$name"; ln -s {victim} "$name"; fi
    done
}}
trap plant DEBUG
set -eu
"""


def planted(item: ShellItem, change: Change, victim: Path, clean: Callable[[], None]) -> None:
    """Whenever the link is planted, what it points to stays as it is."""
    before = victim.stat()
    told = 0
    for step in range(1, COMMANDS):
        clean()
        done = MACHINE.tell(change, ["bash", "--posix"], PLANT.format(step=step, victim=victim))
        told += done.returncode != 0
        after = victim.stat()
        assert (after.st_mode, after.st_uid, after.st_size) == (before.st_mode, before.st_uid, before.st_size), step
    assert told, "no link was in the way of anything"


@pytest.mark.parametrize("there", [False, True], ids=["not there", "of another mode"])
def test_a_link_planted_meanwhile_in_the_way_of_a_file_leads_nowhere(tmp_path: Path, there: bool) -> None:
    folder, victim = tmp_path / "alice's", tmp_path / "victim"
    victim.write_text("root's")
    victim.chmod(0o600)
    item = File(f"{folder}/file", "content", "0644", "daemon")

    def clean() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if there:
            MACHINE.mend(replace(item, mode="0640"))

    clean()
    change = needed(item, MACHINE.see(item))
    assert change is not None
    planted(item, change, victim, clean)


def test_a_link_planted_meanwhile_in_the_way_of_a_directory_leads_nowhere(tmp_path: Path) -> None:
    folder, victim = tmp_path / "alice's", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    item = Directory(f"{folder}/made", "0755", "daemon")

    def clean() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    planted(item, create(item), victim, clean)


def test_a_pipe_planted_in_the_way_of_a_file_is_told_nothing(tmp_path: Path) -> None:
    item = File(f"{tmp_path}/file", "secret")
    pipe = paths.temporary(item.path)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = MACHINE.tell(create(item), before="rm() { :; }\n")
        assert done.returncode != 0
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


@pytest.mark.parametrize(("owner", "mode"), [("daemon", 0o755), ("root", 0o775), ("root", 0o777)])
def test_disks_and_keys_are_written_only_where_nobody_else_may_plant_links(
    tmp_path: Path, owner: str, mode: int
) -> None:
    shutil.chown(tmp_path, owner)
    tmp_path.chmod(mode)
    source = tmp_path / "source"
    source.touch()
    items = (
        HostKey(f"{tmp_path}/key"),
        Volume(f"{tmp_path}/disk", 512, format="raw"),
        Seed(f"{tmp_path}/seed", f"{tmp_path}/key", "id", "name", "", ""),
        ImageFile(f"{tmp_path}/image", str(source), hashlib.sha256().hexdigest()),
    )
    for item in items:
        assert "must belong to root" in refusal(item)
    assert list(tmp_path.iterdir()) == [source]


def test_a_directory_that_is_not_empty_is_left(tmp_path: Path) -> None:
    item = Directory(f"{tmp_path}/folder")
    MACHINE.mended(item)
    (tmp_path / "folder" / "theirs").touch()
    assert MACHINE.delete(item).returncode == 0
    assert (tmp_path / "folder" / "theirs").exists()


def test_what_cannot_be_looked_at_is_unknown_and_what_is_not_there_is_absent(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    looping, missing, below = (File(f"{tmp_path}/{name}", "") for name in ("loop/x", "missing", "file/x"))
    states = File.read([looping, missing, below], MACHINE.probe(looping, missing, below))
    assert isinstance(states[looping.key], Unknown)
    assert states[missing.key] == Absent()
    assert states[below.key] == Absent()


def test_what_may_not_be_looked_at_is_unknown(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        subprocess.run(["chmod", "a+x", folder], check=True)
    hidden.mkdir(mode=0o700)
    unread = File(f"{tmp_path}/unread", "x", "0600")
    inside = File(f"{hidden}/file", "x")
    gone = File(f"{hidden}/gone", "x")
    for item in (unread, inside):
        MACHINE.mended(item)
    items = [unread, inside, gone]
    states = File.read(items, Machine(as_nobody).probe(*items))
    assert all(isinstance(states[item.key], Unknown) for item in items)
    assert isinstance(Machine(as_nobody).see(Directory(str(hidden))), Present)


def test_a_half_written_file_is_never_seen(tmp_path: Path) -> None:
    item = File(f"{tmp_path}/file", "new" * 10_000)
    Path(item.path).write_text("old")
    text = item.script(create(item))
    for cut in range(0, len(text), len(text) // 40):
        here(["sh", "-eu"], text[:cut], b"")
        assert Path(item.path).read_text() in ("old", item.content)
    MACHINE.mended(item)
