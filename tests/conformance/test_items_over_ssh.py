"""Items through the real driver and a real sshd: what is made, pushed, and taken away again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from drivers.base import Absent, Change, Grade, InUse, Present, Verb, drift
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.image_file import ImageFile
from drivers.items.trash import Trash, Undeleted, kept
from drivers.items.volume import Volume
from tests.conformance.items import create
from tests.conformance.ssh_world import World, errors

pytestmark = pytest.mark.conformance


def test_what_a_hypervisor_gets_goes_over_ssh_and_away_again(ssh: World) -> None:
    root, driver = ssh.folder / "it's $(here)", ssh.driver()
    source = ssh.folder / "source"
    source.write_bytes(bytes(3_000_000) + b"image")
    image = ImageFile(f"{root}/images/a.raw", str(source), hashlib.sha256(source.read_bytes()).hexdigest())
    items = [
        Directory(f"{root}/images"),
        Directory(f"{root}/volumes"),
        File(f"{root}/config", "é'\n$x\n"),
        image,
        Volume(f"{root}/volumes/a.qcow2", 4_000_000, image.path, "raw"),
    ]
    assert {seen.state for seen in driver.observe(items).values()} == {Absent()}
    assert errors(driver.apply([create(item) for item in items], 1)) == [""] * len(items)
    for item in items:
        state = driver.observe(items)[item.key].state
        assert isinstance(state, Present)
        assert {name: state.fields[name] for name in item.fields()} == item.fields()
    source.unlink()
    (root / "trash").mkdir()
    away = [Change(item, Verb.DELETE, (), Grade.LIVE) for item in reversed(items)]
    [volume, refused] = driver.apply(away, 1)
    assert volume.error is None
    assert isinstance(refused.error, InUse)
    assert "is the base of" in str(refused.error)
    for left in (root / "trash").iterdir():
        left.unlink()
    assert errors(driver.apply(away[1:], 1)) == [""] * 4
    assert sorted(path.name for path in Path(root).iterdir()) == ["trash"]


def test_the_trash_is_emptied_under_the_clocks_of_both_and_what_is_in_it_comes_back(ssh: World) -> None:
    root, driver = ssh.folder / "it's $(here)", ssh.driver()
    disks = [Volume(f"{root}/volumes/{name}-root.qcow2", 4_000_000) for name in ("a", "b")]
    made = [create(item) for item in (Directory(f"{root}/volumes"), *disks)]
    assert errors(driver.apply(made, 1)) == [""] * 3
    assert errors(driver.apply([Change(disk, Verb.DELETE, (), Grade.LIVE) for disk in disks], 1)) == [""] * 2
    trash = Trash(f"{root}/trash", 0)
    state = driver.observe([trash])[trash.key].state
    assert isinstance(state, Present)
    first, second = kept(state.fields)
    back = Undeleted(disks[0].path, first.name)
    assert errors(driver.apply([create(back)], 1)) == [""]
    found = driver.observe([trash, disks[0]])
    disk, state = found[disks[0].key].state, found[trash.key].state
    assert isinstance(disk, Present)
    assert disks[0].ours(disk.fields)
    assert isinstance(state, Present)
    assert state.fields["overdue"] == (second.name,)
    emptied = Change(trash, Verb.UPDATE, drift(trash.fields(), state.fields), Grade.LIVE)
    assert errors(driver.apply([emptied], 1)) == [""]
    state = driver.observe([trash])[trash.key].state
    assert isinstance(state, Present)
    assert kept(state.fields) == ()
