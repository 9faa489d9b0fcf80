"""The watch on a directory of manifests: what is written is told, also when another directory takes its place."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.events import FileClosedNoWriteEvent, FileOpenedEvent

from controller.sources.watch import Watch

PATIENCE = 20.0


class Ear:
    """A watch, and what it told."""

    def __init__(self, path: Path) -> None:
        self.told = threading.Event()
        self.watch = Watch(path, self.told.set)
        self.watch.renew()

    def hears(self, action: Callable[[], object]) -> bool:
        """Whether it is told of the action; then the watch is renewed, as each reading does."""
        self.told.clear()
        action()
        told = self.told.wait(PATIENCE)
        self.watch.renew()
        return told


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    made = tmp_path / "site" / "manifests"
    (made / "deep").mkdir(parents=True)
    (made / "host.yaml").write_text("a")
    return made


@pytest.fixture
def listen() -> Iterator[Callable[[Path], Ear]]:
    ears: list[Ear] = []

    def make(path: Path) -> Ear:
        ears.append(Ear(path))
        return ears[-1]

    yield make
    for ear in ears:
        ear.watch.close()


def write(path: Path) -> Callable[[], object]:
    return lambda: path.write_text(f"{path.read_text() if path.exists() else ''}b")


def test_what_is_written_at_any_depth_is_told(manifests: Path, listen: Callable[[Path], Ear]) -> None:
    ear = listen(manifests)
    assert ear.hears(write(manifests / "host.yaml"))
    assert ear.hears(write(manifests / "deep" / "new.yaml"))
    assert ear.hears((manifests / "host.yaml").unlink)


def test_reading_is_not_told(manifests: Path, listen: Callable[[Path], Ear]) -> None:
    ear = listen(manifests)
    for event in (FileOpenedEvent("host.yaml"), FileClosedNoWriteEvent("host.yaml")):
        ear.watch._written(event)
    assert not ear.told.is_set()


def test_one_that_was_moved_away_and_copied_back_is_watched(manifests: Path, listen: Callable[[Path], Ear]) -> None:
    ear = listen(manifests)
    off = manifests.with_name("off")
    assert ear.hears(lambda: manifests.rename(off))
    assert ear.hears(lambda: shutil.copytree(off, manifests))
    assert ear.hears(write(manifests / "deep" / "new.yaml"))


def test_one_that_was_replaced_between_two_readings_is_watched(manifests: Path, listen: Callable[[Path], Ear]) -> None:
    ear = listen(manifests)

    def replace() -> None:
        manifests.rename(manifests.with_name("off"))
        shutil.copytree(manifests.with_name("off"), manifests)

    assert ear.hears(replace)
    assert ear.hears(write(manifests / "host.yaml"))


def test_one_that_was_deleted_and_made_again_is_watched_though_its_inode_has_the_old_number(
    manifests: Path, listen: Callable[[Path], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.sources.watch._inode", lambda name: "always the same")
    ear = listen(manifests)
    assert ear.hears(lambda: shutil.rmtree(manifests))
    assert ear.hears(manifests.mkdir)
    assert ear.hears(write(manifests / "host.yaml"))


def test_a_folder_further_up_may_be_replaced_too(manifests: Path, listen: Callable[[Path], Ear]) -> None:
    ear = listen(manifests)
    site = manifests.parent
    assert ear.hears(lambda: site.rename(site.with_name("off")))
    assert ear.hears(site.mkdir), "without the manifests in it"
    assert ear.hears(manifests.mkdir)
    assert ear.hears(write(manifests / "host.yaml"))


@pytest.mark.parametrize("below", ["", "manifests"])
def test_a_link_that_is_re_pointed(manifests: Path, listen: Callable[[Path], Ear], below: str) -> None:
    releases = manifests.parents[1] / "releases"
    for name in ("one", "two"):
        shutil.copytree(manifests, releases / name / below)
    current = manifests.parents[1] / "current"
    current.symlink_to(releases / "one")
    ear = listen(current / below)

    def switch(name: str) -> None:
        draft = current.with_name("draft")
        draft.symlink_to(releases / name)
        draft.replace(current)

    assert ear.hears(write(releases / "one" / below / "host.yaml"))
    assert ear.hears(lambda: switch("two"))
    assert ear.hears(write(releases / "two" / below / "host.yaml"))
    assert ear.hears(current.unlink)
    assert ear.hears(lambda: current.symlink_to("releases/one"))
    assert ear.hears(write(releases / "one" / below / "new.yaml"))


def test_a_replacement_that_nobody_told_of_is_noticed_at_the_next_reading(
    manifests: Path, listen: Callable[[Path], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = listen(manifests)
    with monkeypatch.context() as patch:
        patch.setattr(ear.watch, "_changed", lambda: None)
        manifests.rename(manifests.with_name("off"))
        manifests.mkdir()
        ear.watch._replaced.clear()
        ear.watch.renew()
    assert ear.hears(write(manifests / "host.yaml"))


def test_a_watch_that_is_not_to_be_had_is_said_once_and_asked_for_again(
    manifests: Path, listen: Callable[[Path], Ear], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ear = listen(manifests.parent)

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="salvus"):
        patch.setattr(ear.watch._observer, "schedule", none)
        ear.watch._replaced.set()
        for _ in range(3):
            ear.watch.renew()
    assert [record.message for record in caplog.records] == [
        "the manifests cannot be watched; they are read now and then"
    ]
    ear.watch.renew()
    assert ear.hears(write(manifests / "host.yaml"))
