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
ENDINGS: Final = (".yaml", ".yml")


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
    seen: set[str] = set()
    for path in paths:
        for found in _under(path):
            if isinstance(found, ManifestError):
                yield found
                continue
            file, real = found
            if real not in seen:
                seen.add(real)
                yield _read(file, path)


# A file as it is named, and where it really is. Texts: with ten thousand files, paths are a third of the time.
_File = tuple[str, str]


def _under(path: Path) -> Iterator[_File | ManifestError]:
    if path == STDIN:
        yield "-", "-"
        return
    try:
        real = path.resolve(strict=True)
        if not real.is_dir():
            yield str(path), str(real)
            return
        yield from _walk(str(path), str(real), real)
    except (OSError, RuntimeError, ValueError) as error:
        yield _unreadable(str(path), error)


def _walk(directory: str, real: str, top: Path) -> Iterator[_File | ManifestError]:
    try:
        with os.scandir(directory) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield _unreadable(directory, error)
        return
    for entry in here:
        if entry.name.startswith("."):
            continue
        path = entry.path.removeprefix("./")
        if entry.is_symlink():
            yield from _linked(Path(path), top)
        elif entry.is_dir():
            yield from _walk(path, f"{real}/{entry.name}", top)
        elif entry.name.endswith(ENDINGS):
            yield (path, f"{real}/{entry.name}") if entry.is_file() else ManifestError("is no regular file", file=path)


def _linked(path: Path, top: Path) -> Iterator[_File | ManifestError]:
    """What a symbolic link leads to: files within the tree only. A directory within it is read where it really is."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        yield _unreadable(str(path), error)
        return
    if not path.name.endswith(ENDINGS) and not target.is_dir():
        return
    if not target.is_relative_to(top):
        what = "is a symbolic link that leads out of the directory; put the file itself here, or name it with -f"
        yield ManifestError(what, file=str(path))
    elif target.is_file():
        yield str(path), str(target)


def _read(path: str, root: Path) -> ManifestFile | ManifestError:
    try:
        if root == STDIN:
            if sys.stdin is None:  # closed, as by `<&-` in a shell
                return ManifestError("cannot be read: it is closed", file="stdin")
            return ManifestFile("stdin", "stdin", sys.stdin.buffer.read(MAX_BYTES + 1))
        name = path.removeprefix(f"{root}/") if path != str(root) else root.name
        with Path(path).open("rb") as file:
            return ManifestFile(path, name, file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        return _unreadable(path, error)


def _unreadable(path: str, error: Exception) -> ManifestError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ManifestError(f"cannot be read: {why}", file=path)
