"""YAML 1.2 (core schema) with positions, limits and no surprises.

libyaml turns the text into events; what a scalar means is decided here, by the rules of YAML 1.2 §10.3, so that
``52:54:00:12:34:56``, ``no`` and ``2026-01-01`` stay text. PyYAML is the way to libyaml; its own YAML 1.1 resolver
and constructors are never asked. Measured for one manifest of 23 lines, events only: libyaml 0.08 ms, ruamel.yaml
2.2 ms in Python. ruamel's C library is libyaml 0.1.7, which refuses ``{mac: 52:54:00:12:34:56}``; ryaml tells no
positions.

Stricter than YAML: no tags, no merge keys, keys are text, no number with a leading zero, at most 1 MiB a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from resources.base import Path
from resources.yaml_scalars import Odd, plain_scalar
from resources.yaml_syntax import first_bad_character, from_line, position_of, syntax_problem

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 50
MAX_ALIASES: Final = 200
MAX_FAULTS: Final = 100
# Nodes plus characters of scalars after aliases were filled in, a file: an alias bomb ends here.
MAX_EXPANDED: Final = 4 * MAX_BYTES


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a file: line and column from 1 (0: the whole file), and the field it concerns."""

    line: int
    column: int
    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its value, and where each key and list entry stands (line, column from 1)."""

    value: Plain
    positions: Mapping[Path, tuple[int, int]]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """The documents of a file that could be read.

    ``broken`` is empty when these are all; else it is what was wrong in the document where reading ended, and last why
    it did. ``unread`` is the text from there on.
    """

    documents: tuple[Document, ...]
    broken: tuple[Fault, ...] = ()
    unread: str = ""


def parse(data: bytes) -> Parsed:
    """Reads a file of any number of documents. Never raises: what is wrong is in the answer."""
    if len(data) > MAX_BYTES:
        what = f"has more than {MAX_BYTES // 2**20} MiB, the most a file may have; split it into several files"
        return Parsed((), (Fault(0, 0, (), what),), data.decode(errors="replace"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position_of(data[: error.start].decode("utf-8-sig"), -1)
        fault = Fault(line, column, (), "is not UTF-8 text; save the file as UTF-8")
        return Parsed((), (fault,), data.decode(errors="replace"))
    if (bad := first_bad_character(text)) is not None:
        return Parsed((), (Fault(*position_of(text, bad[0]), (), bad[1]),), text)
    return _parse_text(text)


def _parse_text(text: str) -> Parsed:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except _Fatal as error:
        fault = error.fault
    except yaml.MarkedYAMLError as error:
        fault = Fault(*syntax_problem(error, text))
    else:
        return Parsed(tuple(builder.documents))
    return Parsed(tuple(builder.documents), (*builder.faults, fault), from_line(text, builder.line))


class _Fatal(Exception):
    def __init__(self, event: yaml.Event, path: Path, what: str) -> None:
        super().__init__(what)
        self.fault = Fault(*_position(event), path, what)


@dataclass(slots=True)
class _Anchored:
    value: Plain
    weight: int
    height: int


@dataclass(slots=True)
class _Frame:
    """A mapping or list not yet complete. ``height`` is how deep it nests, ``weight`` the file's total at its start."""

    value: list[Plain] | dict[str, Plain]
    path: Path
    anchor: str | None
    weight: int
    height: int = 1
    key: str | None = None
    drop: bool = False


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


@dataclass(slots=True)
class _Builder:
    """Makes values from events, without recursion: depth is a limit, not a crash."""

    documents: list[Document] = field(default_factory=list)
    root: Plain = None
    stack: list[_Frame] = field(default_factory=list)
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    weight: int = 0
    aliases: int = 0
    line: int = 0
    """Where the last document began, counted from 0."""

    def take(self, event: yaml.Event) -> None:
        """The next event of the file. Raises _Fatal where reading cannot go on."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.CollectionEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self.line = _position(event)[0] - 1
                self._directives(event)
            case yaml.DocumentEndEvent():
                self.documents.append(Document(self.root, self.positions, tuple(self.faults)))
                self.root, self.positions, self.anchors, self.faults = None, {}, {}, []

    def _directives(self, event: yaml.DocumentStartEvent) -> None:
        if event.tags or event.version not in (None, (1, 2)):
            raise _Fatal(event, (), "directives are not allowed; leave out the lines that begin with %")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._refuse_tag(event)
        value: Plain = event.value
        frame = self.stack[-1] if self.stack else None
        is_key = frame is not None and isinstance(frame.value, dict) and frame.key is None
        if event.implicit[0]:
            try:
                value = plain_scalar(event.value)
            except Odd as error:
                self._fault(event, self._here(), str(error))
        self._weigh(event, 1 + len(event.value))
        if is_key and frame is not None:
            self._key(frame, event, value)
        else:
            self._place(event)
            self._anchor(event.anchor, value, 1 + len(event.value), 0)
            self._add(value)

    def _key(self, frame: _Frame, event: yaml.ScalarEvent, value: Plain) -> None:
        key, path = event.value, (*frame.path, event.value)
        if event.anchor is not None:
            self._fault(event, path, "a key cannot have an anchor (&)")
        if key == "<<" and event.implicit[0]:
            self._fault(event, frame.path, "merge keys (<<) are not part of YAML 1.2; write the fields out")
            frame.drop = True
        elif not isinstance(value, str):
            self._fault(event, path, f'a key must be text; write "{key}" in quotes')
        elif path in self.positions and isinstance(frame.value, dict) and key in frame.value:
            line, column = self.positions[path]
            self._fault(event, path, f"is written twice; first at line {line}, column {column}")
            frame.drop = True
        frame.key = key
        self.positions.setdefault(path, _position(event))

    def _open(
        self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, value: list[Plain] | dict[str, Plain]
    ) -> None:
        self._refuse_tag(event)
        if len(self.stack) >= MAX_DEPTH:
            raise _Fatal(event, (), f"is nested deeper than {MAX_DEPTH} levels, the most that is allowed")
        self._refuse_as_key(event)
        self._place(event)
        self.stack.append(_Frame(value, self._here(), event.anchor, self.weight))
        self._weigh(event, 1)

    def _close(self) -> None:
        frame = self.stack.pop()
        self._anchor(frame.anchor, frame.value, self.weight - frame.weight, frame.height)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, frame.height + 1)
        self._add(frame.value)

    def _alias(self, event: yaml.AliasEvent) -> None:
        self._refuse_as_key(event)
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise _Fatal(event, self._here(), f"is alias number {self.aliases}; a file may have {MAX_ALIASES}")
        anchored = self.anchors.get(event.anchor or "")
        if anchored is None:
            raise _Fatal(event, self._here(), f"there is no anchor &{event.anchor} complete before this alias")
        if len(self.stack) + anchored.height > MAX_DEPTH:
            raise _Fatal(event, self._here(), f"nests deeper than {MAX_DEPTH} levels through the alias")
        self._weigh(event, anchored.weight)
        self._place(event)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, anchored.height + 1)
        self._add(anchored.value)

    def _add(self, value: Plain) -> None:
        """Puts a complete value where it belongs."""
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is not None:
            if not frame.drop:
                frame.value[frame.key] = value
            frame.key, frame.drop = None, False

    def _here(self) -> Path:
        """The path of the value that comes next."""
        if not self.stack:
            return ()
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        return frame.path if frame.key is None else (*frame.path, frame.key)

    def _place(self, event: yaml.NodeEvent) -> None:
        """Notes where a list entry, or the document, begins; fields have the position of their key."""
        if not self.stack or isinstance(self.stack[-1].value, list):
            self.positions.setdefault(self._here(), _position(event))

    def _anchor(self, name: str | None, value: Plain, weight: int, height: int) -> None:
        if name is not None:
            self.anchors[name] = _Anchored(value, weight, height)

    def _weigh(self, event: yaml.Event, weight: int) -> None:
        self.weight += weight
        if self.weight > MAX_EXPANDED:
            raise _Fatal(event, self._here(), "the file is too large once its aliases are filled in; write less")

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            self._fault(event, self._here(), f"tags are not allowed; leave out {event.tag!r}")

    def _refuse_as_key(self, event: yaml.NodeEvent) -> None:
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None:
            raise _Fatal(event, self._here(), "a key must be text; it cannot be a list, a mapping or an alias")

    def _fault(self, event: yaml.Event, path: Path, what: str) -> None:
        fault = Fault(*_position(event), path, what)
        if len(self.faults) >= MAX_FAULTS:
            raise _Fatal(event, path, what)
        self.faults.append(fault)
