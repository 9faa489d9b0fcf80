"""What the bytes of one manifest file say, whatever the file is called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from resources.base import AnyResource, Path, Resource
from resources.envelope import Document, document_of, nearest, resource_or_wrongs, written_name
from resources.parts import part_of
from resources.yaml12 import Document as YamlDocument
from resources.yaml12 import Fault, parse


@dataclass(frozen=True, slots=True)
class Read:
    """One document of a file.

    Attributes:
        resource: what it says; not ``whole`` when there are faults, and None when not even its name can be read.
        document: what is to be stored; empty unless the resource is whole.
        written: its kind and name as they are written, even if wrong.
        positions: where its fields stand.
        faults: everything that is wrong in itself.
        words: one of them may be its name, when that cannot be read.
    """

    resource: AnyResource | None
    document: Document
    written: tuple[str, str] | None
    positions: Mapping[Path, tuple[int, int]]
    faults: tuple[Fault, ...] = ()
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Content:
    """One file. ``broken`` is why it was not read to its end, ``words`` are in what was not; ``size`` is in bytes."""

    documents: tuple[Read, ...]
    broken: tuple[Fault, ...]
    words: frozenset[str]
    size: int


def content_of(data: bytes) -> Content:
    """Reads a file's bytes. Never raises: what is wrong is in the answer."""
    parsed = parse(data)
    documents = tuple(_read(document) for document in parsed.documents if document.value is not None or document.faults)
    return Content(documents, parsed.broken, _words(parsed.unread), len(data) + 1)


def _read(document: YamlDocument) -> Read:
    value, positions = document.value, document.positions
    found = resource_or_wrongs(value)
    if isinstance(found, Resource) and not document.faults:
        return Read(found, document_of(found), (found.kind, found.name), positions)
    faults = list(document.faults)
    if not isinstance(found, Resource):
        # What YAML made of a field that it found fault with is not worth a second sentence.
        faulty = {fault.path for fault in faults}
        new = (wrong for wrong in found if wrong.path not in faulty)
        faults += [Fault(*nearest(positions, wrong.path), wrong.path, wrong.what) for wrong in new]
    part = part_of(value)
    words = _words(json.dumps(value)) if part is None else frozenset()
    return Read(part, {}, written_name(value), positions, tuple(faults), words)


def _words(text: str) -> frozenset[str]:
    """All that could be the name of a resource, also if it were written in capitals."""
    return frozenset(re.findall(r"[a-z0-9][-a-z0-9]*", text.lower()))
