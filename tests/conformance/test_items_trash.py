"""The trash with real files: what may go, what must not, and what comes back, killed at any command."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from drivers.base import Absent, Change, Grade, Present, Unknown, Verb
from drivers.items import paths
from drivers.items.host_key import HostKey
from drivers.items.shell import ShellItem
from drivers.items.trash import Trash, Undeleted, kept
from drivers.items.volume import Volume
from tests.conformance.items import STOP, Done, Machine, create, needed

pytestmark = pytest.mark.conformance
MACHINE = Machine()
MEGABYTE = 1024 * 1024
DAY = 86400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images", "volumes", "seeds"):
        (tmp_path / name).mkdir()
    return tmp_path


def trash(root: Path) -> Trash:
    return Trash(f"{root}/trash", 7 * DAY)


def present(item: ShellItem) -> Present:
    state = MACHINE.see(item)
    assert isinstance(state, Present)
    return state


def fields(item: ShellItem) -> dict[str, object]:
    return dict(present(item).fields)


def deleted(root: Path, name: str = "web01", content: bytes = b"data") -> str:
    """A disk that was made, written to and deleted; returns its name in the trash."""
    disk = Volume(f"{root}/volumes/{name}-root.qcow2", MEGABYTE, format="raw")
    MACHINE.mended(disk)
    with Path(disk.path).open("r+b") as opened:
        opened.write(content)
    before = set(names(root))
    assert MACHINE.delete(disk).returncode == 0
    (new,) = set(names(root)) - before
    return new


def names(root: Path) -> list[str]:
    return [one.name for one in kept(present(trash(root)).fields)]


def renamed(root: Path, name: str, days: float) -> str:
    """By hand: it is called as if it had been put there days ago."""
    then = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - days * DAY))
    old = f"{then}-{name.partition('-')[2]}"
    Path(root, "trash", name).rename(root / "trash" / old)
    Path(root, "trash", f".{name}").rename(root / "trash" / f".{old}")
    return old


def ahead(folder: Path, days: float) -> str:
    """Shell text for a find(1) whose clock is ahead: no call sets the time at which an inode changed."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "find").write_text(
        "#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do\n"
        f'if [ "$1" = -cmin ]; then args+=(-cmin "+$((${{2#+}} - {int(days * 1440)}))"); shift 2\n'
        'else args+=("$1"); shift; fi\ndone\nexec /usr/bin/find "${args[@]}"\n'
    )
    (programs / "find").chmod(0o755)
    return f"PATH={programs}:$PATH\n"


def emptied(root: Path, days: float, controller: float = 0.0) -> Done | None:
    """Looks at the trash as it is in days, and does what is needed; ``controller``: seconds that its clock is off."""
    item, late = trash(root), ahead(root, days)
    done = MACHINE.run(["sh"], late + item.probe([item]), b"")
    change = needed(item, item.read([item], done.stdout.decode())[item.key])
    if change is None:
        return None
    return MACHINE.tell(change, before=f"{late}SALVUS_NOW={int(time.time() + controller)}\n")


def well(done: Done | None) -> bool:
    assert done is not None, "nothing was to be done"
    assert done.returncode == 0, done.stderr.decode()
    return True


# --- emptying


def test_what_is_deleted_is_kept_for_its_time_and_then_it_goes(root: Path) -> None:
    assert fields(trash(root)) == {"overdue": (), "kept": ()}, "there is none yet"
    name = deleted(root)
    (one,) = kept(present(trash(root)).fields)
    assert (one.name, one.former) == (name, "web01-root.qcow2")
    assert abs(one.at - time.time()) < 3600
    assert emptied(root, 6.9) is None
    assert names(root) == [name]
    assert well(emptied(root, 7.1))
    assert list((root / "trash").iterdir()) == []
    assert emptied(root, 7.1) is None


def test_nothing_goes_that_salvus_did_not_put_there(root: Path) -> None:
    name = deleted(root)
    folder = root / "trash"
    others = ["letter.txt", "20200101T000000Z-mine", "20200101T000000Z-a b"]
    for other in others:
        (folder / other).write_text("somebody else's")
    (folder / "20200101T000000Z-folder").mkdir()
    (folder / "20200101T000000Z-link").symlink_to("/etc/passwd")
    copy = folder / "20200101T000000Z-copy"
    copy.write_bytes((folder / name).read_bytes())
    (folder / ".20200101T000000Z-copy").write_text((folder / f".{name}").read_text())
    assert names(root) == [name]
    assert well(emptied(root, 8))
    assert not (folder / name).exists()
    assert all((folder / other).read_text() == "somebody else's" for other in others)
    assert copy.exists(), "the note is of another file"
    assert {"20200101T000000Z-folder", "20200101T000000Z-link"} <= {path.name for path in folder.iterdir()}


def test_one_whose_times_do_not_agree_stays(root: Path) -> None:
    """Moved here from elsewhere, or under a clock that has jumped since."""
    name = renamed(root, deleted(root), 30)
    assert emptied(root, 8) is None
    assert names(root) == [name], "it can still be had back"


@pytest.mark.parametrize("off", [-8 * DAY, 8 * DAY])
def test_when_the_clocks_of_machine_and_controller_differ_nothing_goes(root: Path, off: float) -> None:
    name = deleted(root)
    done = emptied(root, 8, controller=off)
    assert done is not None
    assert b"the clocks of this machine and of the controller differ" in done.stderr
    assert done.returncode != 0
    assert names(root) == [name]


@pytest.mark.parametrize("where", ["trash", "volumes"])
def test_what_another_disk_is_based_on_stays_and_says_so(root: Path, where: str) -> None:
    name, other = deleted(root), deleted(root, "db01")
    base = f"{root}/trash/{name}" if where == "trash" else f"{root}/volumes/web01-root.qcow2"
    overlay = root / "volumes" / "clone.qcow2"
    create_overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", base, str(overlay), "1M"]
    subprocess.run(create_overlay, check=True)
    done = emptied(root, 8)
    assert done is not None
    assert done.returncode == paths.IN_USE
    assert f"{name} is the base of another disk".encode() in done.stderr
    assert names(root) == [name], f"{other} is nobody's base"
    overlay.unlink()
    assert well(emptied(root, 8))


def test_what_was_taken_out_and_put_back_meanwhile_is_not_the_same(root: Path) -> None:
    """Between the look and the script another file took the name."""
    item, name = trash(root), deleted(root)
    late = ahead(root, 8)
    done = MACHINE.run(["sh"], late + item.probe([item]), b"")
    change = needed(item, item.read([item], done.stdout.decode())[item.key])
    assert change is not None
    (root / "trash" / name).rename(root / "precious")
    (root / "trash" / name).write_text("another")
    assert well(MACHINE.tell(change, before=f"{late}SALVUS_NOW={int(time.time())}\n"))
    assert (root / "trash" / name).read_text() == "another"


@pytest.mark.parametrize("spoil", ["link", "file", "open"])
def test_a_trash_that_is_none_is_not_looked_into_nor_filled(root: Path, spoil: str) -> None:
    folder, elsewhere = root / "trash", root / "elsewhere"
    elsewhere.mkdir()
    if spoil == "link":
        folder.symlink_to(elsewhere)
    elif spoil == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    assert isinstance(MACHINE.see(trash(root)), Present if spoil == "open" else Unknown)
    disk = Volume(f"{root}/volumes/web01-root.qcow2", MEGABYTE)
    MACHINE.mended(disk)
    done = MACHINE.delete(disk)
    assert done.returncode != 0
    assert Path(disk.path).exists()
    assert list(elsewhere.iterdir()) == []


# --- taking back


def back(root: Path, name: str) -> Undeleted:
    return Undeleted(f"{root}/volumes/{name.partition('-')[2]}", name)


def test_a_disk_comes_back_with_what_is_in_it_and_is_salvus_own_again(root: Path) -> None:
    name = deleted(root, content=b"precious")
    item = back(root, name)
    assert isinstance(MACHINE.see(item), Absent)
    MACHINE.mended(item)
    disk = Volume(item.path, MEGABYTE, format="raw")
    assert needed(disk, MACHINE.see(disk)) is None
    assert Path(disk.path).read_bytes().startswith(b"precious")
    assert disk.ours(present(disk).fields), "it is deleted when nobody wants it"
    assert list((root / "trash").iterdir()) == []
    assert well(MACHINE.tell(create(item))), "once more does nothing"
    assert MACHINE.delete(disk).returncode == 0
    (again,) = names(root)
    assert again.endswith("-web01-root.qcow2")
    assert [path.name for path in (root / "volumes").iterdir()] == [], "no note of it is left"


def test_a_disk_that_was_there_before_salvus_is_not_its_own(root: Path) -> None:
    disk = Volume(f"{root}/volumes/a", MEGABYTE, format="raw")
    MACHINE.mended(disk)
    assert not disk.ours(present(disk).fields)
    other = back(root, deleted(root))
    MACHINE.mended(other)
    Path(other.path).unlink()
    Path(other.path).write_bytes(b"\0" * MEGABYTE)
    found = present(Volume(other.path, MEGABYTE, format="raw"))
    assert "undeleted" not in found.fields, "the note is of another file"


def test_a_key_comes_back_as_it_was(root: Path) -> None:
    key = HostKey(f"{root}/seeds/web01.ssh_host_ed25519_key")
    MACHINE.mended(key)
    before = present(key)
    assert MACHINE.delete(key).returncode == 0
    for name in names(root):
        MACHINE.mended(Undeleted(f"{root}/seeds/{name.partition('-')[2]}", name))
    after = present(key)
    assert after.facts == before.facts
    assert key.ours(after.fields)
    assert needed(key, after) is None


def test_nothing_is_put_in_the_place_of_what_is_there(root: Path) -> None:
    name = deleted(root)
    item = back(root, name)
    Path(item.path).write_text("a new disk")
    done = MACHINE.tell(create(item))
    assert b"is there already" in done.stderr
    assert done.returncode != 0
    assert Path(item.path).read_text() == "a new disk"
    assert names(root) == [name]


def test_what_salvus_did_not_put_there_is_not_taken_out(root: Path) -> None:
    deleted(root)
    (root / "trash" / "20200101T000000Z-mine").write_text("mine")
    done = MACHINE.tell(create(Undeleted(f"{root}/volumes/mine", "20200101T000000Z-mine")))
    assert b"was not put there by salvus" in done.stderr
    assert not (root / "volumes" / "mine").exists()
    missing = MACHINE.tell(create(Undeleted(f"{root}/volumes/gone", "20200101T000000Z-gone")))
    assert b"is not in" in missing.stderr


def test_a_disk_that_is_made_at_the_same_time_does_not_replace_one_that_came_back(root: Path) -> None:
    disk = Volume(f"{root}/volumes/web01-root.qcow2", MEGABYTE)
    late = f'mv() {{ [ -e {disk.path} ] || echo precious >{disk.path}; command mv "$@"; }}\n'
    done = MACHINE.tell(create(disk), before=late)
    assert b"is there already" in done.stderr
    assert Path(disk.path).read_text() == "precious\n"


@pytest.mark.parametrize("item", ["undelete", "empty", "delete"])
def test_killed_anywhere_nothing_is_lost_and_the_next_try_ends_it(root: Path, item: str) -> None:
    for step in range(1, 200):
        content = f"data {step}".encode()
        change, before = _attempt(root, item, content)
        done = MACHINE.tell(change, ["bash", "--posix"], before + STOP.format(step=step, stop="kill -KILL $$"))
        places = [*(root / "trash").glob("*-root.qcow2"), *(root / "volumes").glob("*-root.qcow2")]
        found = [path for path in places if path.read_bytes().startswith(content)]
        assert len(found) == 1 or (item == "empty" and not found), f"killed before command {step}"
        if done.returncode == 0:
            return
        again = MACHINE.tell(change, before=before)
        assert again.returncode == 0 or b"has 2" in again.stderr, again.stderr.decode()
        for path in (*(root / "volumes").iterdir(), *(root / "trash").iterdir()):
            path.unlink()
    raise AssertionError("it does not end")


def _attempt(root: Path, item: str, content: bytes) -> tuple[Change, str]:
    if item == "delete":
        disk = Volume(f"{root}/volumes/web01-root.qcow2", MEGABYTE, format="raw")
        MACHINE.mended(disk)
        with Path(disk.path).open("r+b") as opened:
            opened.write(content)
        return Change(disk, Verb.DELETE, (), Grade.LIVE), ""
    name = deleted(root, content=content)
    if item == "undelete":
        return create(back(root, name)), ""
    late = ahead(root, 8)
    one = trash(root)
    done = MACHINE.run(["sh"], late + one.probe([one]), b"")
    change = needed(one, one.read([one], done.stdout.decode())[one.key])
    assert change is not None
    return change, f"{late}SALVUS_NOW={int(time.time())}\n"
