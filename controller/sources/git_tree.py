"""The manifests of a commit, from git's objects. Nothing is checked out: no link is made, no filter or hook runs."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from controller.sources.git_program import GitFailed, GitProgram
from controller.store.records import SHORT
from resources.errors import ManifestError
from resources.manifest_files import ENDINGS, ManifestFile
from resources.yaml12 import MAX_BYTES

LINK: Final = "120000"
SUBMODULE: Final = "160000"
_MOST_LINKS: Final = 16

Found = ManifestFile | ManifestError


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree. ``size`` is in bytes, 0 for what has none."""

    mode: str
    object: str
    size: int
    path: str


def manifests(git: GitProgram, commit: str, folder: str) -> tuple[Found, ...]:
    """All manifests of a commit under a folder, by the rules of directories; an error for each that cannot be read.

    A submodule is an error: its manifests would be missing, and what is missing is deleted. Raises GitFailed.
    """
    try:
        listing = git.run("ls-tree", "-r", "-z", "-l", f"{commit}:{folder}")
    except GitFailed:
        if not folder:
            raise
        git.run("cat-file", "-e", commit)
        what = f"there is no folder {folder!r} in commit {commit[:SHORT]}"
        return (ManifestError(what, hint="put it back, or name another path in the configuration"),)
    entries = {entry.path: entry for entry in _entries(listing)}
    links = [entry for entry in entries.values() if entry.mode == LINK]
    targets = dict(zip((link.path for link in links), _blobs(git, links), strict=True))
    return tuple(_read(git, folder, _chosen(entries, targets)))


def _entries(listing: bytes) -> Iterator[Entry]:
    """What ``ls-tree -l -z`` lists, hidden files and folders left out."""
    for line in listing.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, _, object_, size = about.split()
        path = os.fsdecode(name)
        if not any(part.startswith(".") for part in path.split("/")):
            yield Entry(mode.decode(), object_.decode(), int(size) if size.isdigit() else 0, path)


def _chosen(entries: Mapping[str, Entry], targets: Mapping[str, bytes]) -> Iterator[tuple[str, Entry | str]]:
    """By the name for messages: what is read, each file once; or what is wrong with it."""
    seen: set[str] = set()
    folders = frozenset(above for path in entries for above in _above(path))
    for path, entry in sorted(entries.items()):
        found: Entry | str | None = entry if path.endswith(ENDINGS) else None
        if entry.mode == SUBMODULE:
            found = "is a submodule, which is not read; put the manifests themselves here, or the submodule elsewhere"
        elif entry.mode == LINK:
            found = _linked(path, entries, targets, folders)
        if isinstance(found, str):
            yield path, found
        elif found is not None and found.path not in seen:
            seen.add(found.path)
            yield path, found


def _above(path: str) -> Iterator[str]:
    """The folders that a file is in, the outermost being ``.``."""
    while path := posixpath.dirname(path):
        yield path
    yield "."


def _linked(
    path: str, entries: Mapping[str, Entry], targets: Mapping[str, bytes], folders: AbstractSet[str]
) -> Entry | str | None:
    """The file that a link leads to. None for what is read where it is, or is no manifest; else what is wrong."""
    here = path
    for _ in range(_MOST_LINKS):
        here = posixpath.normpath(posixpath.join(posixpath.dirname(here), os.fsdecode(targets[here])))
        if here.startswith(("/", "../")) or here == "..":
            return "is a symbolic link that leads out of the folder; put the file itself here"
        if here in targets:
            continue
        if here in folders or not path.endswith(ENDINGS):
            return None
        found = entries.get(here)
        lost = found is None or found.mode == SUBMODULE
        return "is a symbolic link to what is not in this commit" if lost else found
    return "is a symbolic link that leads to itself"


def _read(git: GitProgram, folder: str, chosen: Iterable[tuple[str, Entry | str]]) -> Iterator[Found]:
    files: list[tuple[str, Entry]] = []
    for path, found in chosen:
        shown = posixpath.join(folder, path)
        if isinstance(found, str):
            yield ManifestError(found, file=shown)
        elif found.size > MAX_BYTES:
            what = f"has more than {MAX_BYTES // 2**20} MiB, the most a file may have; split it into several files"
            yield ManifestError(what, file=shown)
        else:
            files.append((path, found))
    for (path, _), data in zip(files, _blobs(git, [entry for _, entry in files]), strict=True):
        yield ManifestFile(posixpath.join(folder, path), path, data)


def _blobs(git: GitProgram, entries: Sequence[Entry]) -> Iterator[bytes]:
    """Their contents, by one process (git-cat-file(1), ``--batch``)."""
    if not entries:
        return
    answer = git.run("cat-file", "--batch", data="".join(f"{entry.object}\n" for entry in entries).encode())
    at = 0
    for entry in entries:
        start = answer.index(b"\n", at) + 1
        about = answer[at:start].split()
        if about[1] != b"blob":
            raise GitFailed(0, f"{entry.path} is {about[1].decode()}")
        at = start + int(about[2]) + 1
        yield answer[start : at - 1]
