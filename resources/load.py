"""From files to a fleet: everything that is wrong in all of them is found in one run, and nothing is raised."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from resources import fleet as fleets
from resources.base import AnyResource, Place, Problem, Resource
from resources.base import Path as FieldPath
from resources.envelope import Document, document_of, nearest, resource_or_wrongs, written_name
from resources.errors import ManifestError, field_name
from resources.fleet import Fleet
from resources.manifest_files import manifest_files
from resources.yaml12 import Document as YamlDocument
from resources.yaml12 import Fault, parse


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
    broken: tuple[Fault, ...]
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


def load(paths: Iterable[Path], cache: LoadCache | None = None, base: Fleet | None = None) -> Loaded:
    """Reads all manifests under the paths (``-`` is standard input). Errors are in the answer; nothing is raised.

    ``base`` is what is there already: it may be named, and what the files bring takes its place.
    """
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
    alone = base is None and not errors
    if alone and (same := cache.last(key)) is not None:
        return same
    loaded = _combine(contents, errors, _revision(names, errors), base or Fleet())
    if alone:
        cache.keep(key, loaded)
    return loaded


def _content(data: bytes) -> _Content:
    parsed = parse(data)
    documents = tuple(_read(document) for document in parsed.documents if document.value is not None or document.faults)
    return _Content(documents, parsed.broken, len(data) + 1)


def _read(document: YamlDocument) -> _Read:
    value, positions = document.value, document.positions
    found = resource_or_wrongs(value)
    faults = list(document.faults)
    if not isinstance(found, Resource):
        # What YAML made of a field that it found fault with is not worth a second sentence.
        faulty = {fault.path for fault in faults}
        new = (wrong for wrong in found if wrong.path not in faulty)
        faults += [Fault(*nearest(positions, wrong.path), wrong.path, wrong.what) for wrong in new]
    if faults or not isinstance(found, Resource):
        return _Read(None, {}, written_name(value), positions, tuple(faults))
    return _Read(found, document_of(found), (found.kind, found.name), positions, ())


def _revision(names: Iterable[tuple[str, str, bytes]], errors: Iterable[ManifestError]) -> str:
    digest = hashlib.sha256()
    for name, _, content in sorted(names):
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape") + content)
    for error in sorted(map(str, errors)):
        digest.update(f"\0{error}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _combine(contents: Mapping[str, _Content], unread: Iterable[ManifestError], revision: str, base: Fleet) -> Loaded:
    errors = list(unread)
    known: dict[str, _Read] = {}
    places: dict[str, Place] = {}
    all_named = not errors
    for file, content in contents.items():
        for read in content.documents:
            errors += (_error(file, fault) for fault in read.faults)
            if read.written is None:
                all_named = False
                continue
            ref = "/".join(read.written)
            if ref in known:
                errors.append(_twice(file, read, places[ref]))
                continue
            known[ref], places[ref] = read, Place(file, read.positions)
        errors += (_error(file, fault) for fault in content.broken)
        all_named = all_named and not content.broken
    fleet = Fleet.of_resources(read.resource for read in known.values() if read.resource is not None)
    broken = {ref for ref, read in known.items() if read.resource is None} if all_named else None
    errors += _between(fleet, broken, base, places)
    return Loaded(
        fleet=fleet,
        documents={ref: read.document for ref, read in known.items() if read.resource is not None},
        places=places,
        errors=tuple(sorted(errors, key=lambda error: error.order)),
        revision=revision,
        empty=not errors and not known,
    )


def _between(
    fleet: Fleet, broken: set[str] | None, base: Fleet, places: Mapping[str, Place]
) -> Iterator[ManifestError]:
    """What is wrong between resources; of those that are there already, only what the files make wrong."""
    moved = {f"{resource.kind}/{resource.moved_from}" for resource in fleet}
    kept = [resource for resource in base if resource.ref not in places and resource.ref not in moved]
    before = set(fleets.check(Fleet.of_resources(base))) if kept else set()
    for problem in fleets.check(Fleet.of_resources([*kept, *fleet]) if kept else fleet, broken):
        if problem.ref in places:
            yield _problem(places[problem.ref], problem)
        elif problem not in before:
            what = f"{problem.message} (in {problem.ref}, which is in force already)"
            yield ManifestError(what, field=field_name(problem.path))


def _error(file: str, fault: Fault) -> ManifestError:
    return ManifestError(fault.what, file=file, line=fault.line, column=fault.column, field=field_name(fault.path))


def _twice(file: str, read: _Read, first: Place) -> ManifestError:
    path: FieldPath = ("metadata", "name")
    line, column = nearest(read.positions, path)
    what = f"{'/'.join(read.written or ())} is written twice; first at {first.at(path)}"
    return ManifestError(what, file=file, line=line, column=column, field=field_name(path))


def _problem(place: Place, problem: Problem) -> ManifestError:
    line, column = nearest(place.positions, problem.path)
    return ManifestError(problem.message, file=place.file, line=line, column=column, field=field_name(problem.path))
