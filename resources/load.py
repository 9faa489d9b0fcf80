"""From files to a fleet: everything that is wrong in all of them is found in one run, and nothing is raised."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

from resources import fleet as fleets
from resources.base import AnyResource, Place, Resource
from resources.base import Path as FieldPath
from resources.envelope import Document, document_of, nearest, resource_of, resource_or_wrongs, written_name
from resources.errors import ManifestError, field_name
from resources.fleet import Fleet
from resources.manifest_files import ManifestFile, manifest_files
from resources.yaml12 import Fault, parse
from resources.yaml12 import Document as YamlDocument

__all__ = ["LoadCache", "Loaded", "ManifestError", "document_of", "load", "resource_of"]


@dataclass(frozen=True)
class Loaded:
    """What a set of files says.

    Attributes:
        fleet: the resources that are right in themselves; to be used only when ``ok``.
        documents: ``Kind/name`` → the resource as JSON-able data, only what was written.
        places: ``Kind/name`` → where it was written.
        errors: everything that is wrong, by file, line and column.
        revision: SHA-256 over names and contents of the files.
        empty: there is no document at all, and nothing is wrong.
    """

    fleet: Fleet
    documents: Mapping[str, Document]
    places: Mapping[str, Place]
    errors: tuple[ManifestError, ...]
    revision: str
    empty: bool

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors


@dataclass(frozen=True, slots=True)
class _Read:
    """One document of a file: a resource, or faults, or both. ``written`` is its kind and name, if they can be read."""

    resource: AnyResource | None
    document: Document
    written: tuple[str, str] | None
    positions: Mapping[FieldPath, tuple[int, int]]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Content:
    """What one file's bytes say, whatever the file is called."""

    documents: tuple[_Read, ...]
    broken: Fault | None
    size: int


@dataclass
class LoadCache:
    """Contents already read, by their SHA-256, least recently used first out. One for a process; safe for threads."""

    max_bytes: int = 128 * 2**20
    _contents: OrderedDict[bytes, _Content] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _last: tuple[object, Loaded] | None = None
    _lock: Lock = field(default_factory=Lock)

    def content(self, data: bytes) -> tuple[bytes, _Content]:
        """The file's digest, and what it says."""
        digest = hashlib.sha256(data).digest()
        with self._lock:
            if (found := self._contents.get(digest)) is not None:
                self._contents.move_to_end(digest)
                return digest, found
        content = _content(data)
        with self._lock:
            self._bytes += content.size if digest not in self._contents else 0
            self._contents[digest] = content
            while self._bytes > self.max_bytes:
                self._bytes -= self._contents.popitem(last=False)[1].size
        return digest, content

    def last(self, key: object) -> Loaded | None:
        """The last whole answer, if it was for the same files with the same contents."""
        with self._lock:
            return self._last[1] if self._last and self._last[0] == key else None

    def keep(self, key: object, loaded: Loaded) -> None:
        """Remembers a whole answer."""
        with self._lock:
            self._last = (key, loaded)


def load(paths: Iterable[Path], cache: LoadCache | None = None) -> Loaded:
    """Reads all manifests under the paths (``-`` is standard input). Errors are in the answer; nothing is raised."""
    cache = cache or LoadCache()
    errors: list[ManifestError] = []
    contents: dict[str, _Content] = {}
    names: list[tuple[str, str, bytes]] = []
    for file in manifest_files(paths):
        if isinstance(file, ManifestError):
            errors.append(file)
            continue
        digest, contents[file.shown] = cache.content(file.data)
        names.append((file.name, file.shown, digest))
    key = tuple(names)
    if not errors and (same := cache.last(key)) is not None:
        return same
    loaded = _combine(contents, errors, _revision(names, errors))
    if len(errors) == 0:
        cache.keep(key, loaded)
    return loaded
