"""Which files are manifests, and their bytes. The one place of ``resources`` that reads files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resources.errors import ManifestError
from resources.yaml12 import MAX_BYTES

STDIN: Final = Path("-")
_ENDINGS: Final = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file's bytes (at most one more than may be), its name for messages, and its name within what was asked for."""

    shown: str
    name: str
    data: bytes


def manifest_files(paths: Iterable[Path]) -> Iterator[ManifestFile | ManifestError]:
    """All manifests under the paths, each file once, sorted; an error for each that cannot be read.

    Directories are walked for ``*.yaml`` and ``*.yml``; hidden files and directories, and thereby the lock files of
    editors, are left out. A file that is named itself is read whatever its name; ``-`` is standard input.
    """
    seen: set[Path] = set()
    for path in paths:
        for found in _under(path):
            if isinstance(found, ManifestError):
                yield found
                continue
            file, real = found
            if real not in seen:
                seen.add(real)
                yield _read(file, "stdin" if file == STDIN else _name(file, path))


def _name(file: Path, root: Path) -> str:
    return file.name if file == root else file.relative_to(root).as_posix()


def _under(path: Path) -> Iterator[tuple[Path, Path] | ManifestError]:
    """Files with where they really are."""
    if path == STDIN:
        yield path, path
        return
    try:
        real = path.resolve(strict=True)
        if not real.is_dir():
            yield path, real
            return
        yield from _walk(path, real, real)
    except (OSError, RuntimeError, ValueError) as error:
        yield _unreadable(path, error)


def _walk(directory: Path, real: Path, top: Path) -> Iterator[tuple[Path, Path] | ManifestError]:
    try:
        with os.scandir(directory) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield _unreadable(directory, error)
        return
    for entry in here:
        if entry.name.startswith("."):
            continue
        path = directory / entry.name
        if entry.is_symlink():
            yield from _linked(path, top)
        elif entry.is_dir():
            yield from _walk(path, real / entry.name, top)
        elif path.suffix in _ENDINGS:
            yield (path, real / entry.name) if entry.is_file() else ManifestError("is no regular file", file=str(path))


def _linked(path: Path, top: Path) -> Iterator[tuple[Path, Path] | ManifestError]:
    """What a symbolic link leads to: files within the tree only. A directory within it is read where it really is."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        yield _unreadable(path, error)
        return
    if path.suffix not in _ENDINGS and not target.is_dir():
        return
    if not target.is_relative_to(top):
        what = "is a symbolic link that leads out of the directory; put the file itself here, or name it with -f"
        yield ManifestError(what, file=str(path))
    elif target.is_file():
        yield path, target


def _read(path: Path, name: str) -> ManifestFile | ManifestError:
    shown = "stdin" if path == STDIN else str(path)
    try:
        if path == STDIN:
            return ManifestFile(shown, name, sys.stdin.buffer.read(MAX_BYTES + 1))
        with path.open("rb") as file:
            return ManifestFile(shown, name, file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        return _unreadable(path, error)


def _unreadable(path: Path, error: Exception) -> ManifestError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ManifestError(f"cannot be read: {why}", file=str(path))
