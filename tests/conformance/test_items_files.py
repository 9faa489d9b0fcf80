"""What is in the way of files and directories, and what cannot be looked at."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from drivers.base import Absent, Present, Unknown
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.shell import ShellItem
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


def test_mending_the_mode_does_not_write_the_file_anew(tmp_path: Path) -> None:
    item = File(f"{tmp_path}/file", "content")
    MACHINE.mended(item)
    before = Path(item.path).stat()
    Path(item.path).chmod(0o600)
    MACHINE.mended(item)
    after = Path(item.path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


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
