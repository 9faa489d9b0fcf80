"""From files to a fleet: everything that is wrong in all of them is found in one run, and nothing is raised."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

from resources import fleet as fleets
from resources.base import Place, Problem
from resources.contents import Content, Read, content_of
from resources.envelope import Document, nearest
from resources.errors import ManifestError, field_name
from resources.fleet import Elsewhere, Fleet
from resources.manifest_files import ManifestFile, manifest_files
from resources.yaml12 import Fault


@dataclass(frozen=True)
class Loaded:
    """What a set of files says.

    Attributes:
        fleet: the resources that are right in themselves; to be used only when ``ok``.
        documents: ``Kind/name`` → the resource as JSON-able data, only what was written.
        places: ``Kind/name`` → where it was written.
        errors: everything that is wrong, by file, line and column.
        revision: SHA-256 over names and contents of the files; of a source in git, the commit.
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


@dataclass
class LoadCache:
    """Contents already read, by their SHA-256, least recently used first out. One for a process; safe for threads."""

    max_bytes: int = 128 * 2**20
    _contents: OrderedDict[bytes, Content] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _last: tuple[object, Loaded] | None = None
    _lock: Lock = field(default_factory=Lock)

    def content(self, data: bytes) -> tuple[bytes, Content]:
        """The file's digest, and what it says."""
        digest = hashlib.sha256(data).digest()
        with self._lock:
            if (found := self._contents.get(digest)) is not None:
                self._contents.move_to_end(digest)
                return digest, found
        content = content_of(data)
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


def load(paths: Iterable[Path], cache: LoadCache | None = None, base: Fleet | None = None) -> Loaded:
    """Reads all manifests under the paths (``-`` is standard input). Errors are in the answer; nothing is raised.

    ``base`` is what is there already: it may be named, and what the files bring takes its place.
    """
    return load_files(manifest_files(paths), cache or LoadCache(), base)


def load_files(files: Iterable[ManifestFile | ManifestError], cache: LoadCache, base: Fleet | None = None) -> Loaded:
    """As ``load``, of files that were read already, and of what is wrong with those that could not be."""
    errors: list[ManifestError] = []
    contents: dict[str, Content] = {}
    names: list[tuple[str, str, bytes]] = []
    for file in files:
        if isinstance(file, ManifestError):
            errors.append(file)
            continue
        digest, contents[file.shown] = cache.content(file.data)
        names.append((file.name, file.shown, digest))
    key = tuple(names)
    alone = base is None and not errors
    if alone and (same := cache.last(key)) is not None:
        return same
    loaded = _combine(contents, errors, _revision(names, errors), base or Fleet())
    if alone:
        cache.keep(key, loaded)
    return loaded


def _revision(names: Iterable[tuple[str, str, bytes]], errors: Iterable[ManifestError]) -> str:
    digest = hashlib.sha256()
    for name, _, content in sorted(names):
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape") + content)
    for error in sorted(map(str, errors)):
        digest.update(f"\0{error}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _combine(contents: Mapping[str, Content], unread: Sequence[ManifestError], revision: str, base: Fleet) -> Loaded:
    known: dict[str, Read] = {}
    places: dict[str, Place] = {}
    again: list[tuple[Read, Place]] = []
    for file, content in contents.items():
        for read in content.documents:
            ref, place = "/".join(read.written or ()), Place(file, read.positions)
            if ref and ref in known:
                again.append((read, place))
            elif ref:
                known[ref], places[ref] = read, place
    # Also what is wrong in itself: it can be named, and what is right of it is compared.
    fleet = Fleet.of_resources(read.resource for read in known.values() if read.resource is not None)
    elsewhere = None if unread else _elsewhere(contents.values())
    errors = [*unread, *_in_themselves(contents), *_between(fleet, elsewhere, base, places)]
    for read, place in again:
        errors += _again(read, place, places, fleet, elsewhere)
    return Loaded(
        fleet=Fleet.of_resources(resource for resource in fleet if resource.whole) if errors else fleet,
        documents={ref: read.document for ref, read in known.items() if read.document},
        places=places,
        errors=tuple(sorted(errors, key=lambda error: error.order)),
        revision=revision,
        empty=not errors and not known,
    )


def warnings(loaded: Loaded) -> tuple[ManifestError, ...]:
    """What is allowed, and hardly meant, with its places; nothing while something is wrong."""
    found = fleets.warnings(loaded.fleet) if loaded.ok else ()
    placed = (_problem(loaded.places[problem.ref], problem) for problem in found)
    return tuple(sorted(placed, key=lambda warning: warning.order))


def _elsewhere(contents: Iterable[Content]) -> frozenset[str]:
    """All names that may be those of resources which could not be read."""
    unnamed = (read.words for content in contents for read in content.documents if read.words)
    return frozenset().union(*unnamed, *(content.words for content in contents if content.words))


def _in_themselves(contents: Mapping[str, Content]) -> Iterator[ManifestError]:
    for file, content in contents.items():
        for read in content.documents:
            yield from (_error(file, fault) for fault in read.faults)
        yield from (_error(file, fault, _UNREAD) for fault in content.broken)


def _between(fleet: Fleet, elsewhere: Elsewhere, base: Fleet, places: Mapping[str, Place]) -> Iterator[ManifestError]:
    """What is wrong between resources; of those that are there already, only what the files make wrong."""
    gone = {*places, *(f"{resource.kind}/{resource.moved_from}" for resource in fleet)}
    kept = [old for old in base if old.ref not in gone and not (elsewhere and old.name in elsewhere)]
    before = set(fleets.check(Fleet.of_resources(base))) if kept else set()
    for problem in fleets.check(Fleet.of_resources([*kept, *fleet]) if kept else fleet, elsewhere):
        if problem.ref in places:
            yield _problem(places[problem.ref], problem)
        elif problem not in before:
            what = f"{problem.message} (in {problem.ref}, which is in force already)"
            yield ManifestError(what, field=field_name(problem.path))


def _again(
    read: Read, place: Place, places: Mapping[str, Place], fleet: Fleet, elsewhere: Elsewhere
) -> Iterator[ManifestError]:
    """What is wrong with a resource whose name is taken: that, and all that is wrong with it alone."""
    ref, path = "/".join(read.written or ()), ("metadata", "name")
    yield _problem(place, Problem(ref, path, f"{ref} is written twice; first at {places[ref].at(path)}"))
    if read.resource is not None:
        yield from (_problem(place, problem) for problem in fleets.check_one(read.resource, fleet, elsewhere))


# Names in what was not read are unknown: this is told where reading ended.
_UNREAD: Final = "mend this first: from here on the file was not read, and may have more errors"


def _error(file: str, fault: Fault, hint: str = "") -> ManifestError:
    line, column, path, what = fault.line, fault.column, fault.path, fault.what
    return ManifestError(what, file=file, line=line, column=column, field=field_name(path), hint=hint)


def _problem(place: Place, problem: Problem) -> ManifestError:
    line, column = nearest(place.positions, problem.path)
    return ManifestError(problem.message, file=place.file, line=line, column=column, field=field_name(problem.path))
