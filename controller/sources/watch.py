"""Being told when something is written under a directory, also when another one takes its place.

inotify(7) watches inodes, not names. So the folders in which a part of the directory's name is looked up are watched
too: there one sees that it is renamed, deleted, made again, or that a link on the way is re-pointed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from controller.log import log

READ_EVENTS = frozenset({"opened", "closed_no_write"})
# To inotify, a link is a file.
NAME_EVENTS = [DirCreatedEvent, DirDeletedEvent, DirMovedEvent, FileCreatedEvent, FileDeletedEvent, FileMovedEvent]


class Watch:
    """Calls ``changed``, from another thread, soon after something was written under ``path`` or took its place."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path.absolute()
        self._changed = changed
        self._way: Mapping[Path, object] = {}
        # An inode's number may be used again: what was seen to be replaced is watched anew, whatever its number.
        self._replaced = threading.Event()
        self._trouble = ""
        self._observer = Observer()
        self._observer.start()

    def renew(self) -> None:
        """Watches what is there now. Where the kernel gives no watch, it is logged once, and asked at the next call."""
        if replaced := self._replaced.is_set():
            self._replaced.clear()
        way = _way(self._path)
        if way == self._way and not replaced:
            return
        self._observer.unschedule_all()
        try:
            self._schedule(way)
            self._way, trouble = way, ""
        except OSError as error:  # inotify(7): limits of watches and instances
            self._way, trouble = {}, str(error)
        if trouble and trouble != self._trouble:
            log(logging.WARNING, "the manifests cannot be watched; they are read now and then", error=trouble)
        self._trouble = trouble

    def _schedule(self, way: Mapping[Path, object]) -> None:
        real = Path(os.path.realpath(self._path))
        if real.is_dir():
            self._observer.schedule(_Told(self._written), str(real), recursive=True)
        for folder in {name.parent for name in way}:
            if folder.is_dir():
                self._observer.schedule(_Told(self._renamed), str(folder), event_filter=NAME_EVENTS)

    def _written(self, event: FileSystemEvent) -> None:
        if event.event_type not in READ_EVENTS:
            self._changed()

    def _renamed(self, event: FileSystemEvent) -> None:
        if {Path(os.fsdecode(name)) for name in (event.src_path, event.dest_path)} & self._way.keys():
            self._replaced.set()
            self._changed()

    def close(self) -> None:
        """Ends it, and waits for it."""
        self._observer.stop()
        self._observer.join()


class _Told(FileSystemEventHandler):
    def __init__(self, tell: Callable[[FileSystemEvent], None]) -> None:
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._tell(event)


def _way(path: Path) -> Mapping[Path, object]:
    """The names that lead to the path, and those of where it really is; with what has each of them now."""
    real = Path(os.path.realpath(path))
    written = {Path(os.path.realpath(part.parent), part.name) for part in (path, *path.parents) if part.name}
    return {name: _inode(name) for name in written.union(part for part in (real, *real.parents) if part.name)}


def _inode(name: Path) -> tuple[int, int] | None:
    try:
        found = name.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
