"""The file of a store in SQLite: made whole or not at all, opened as it may be."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from controller.store.base import Access, StoreMissing, StoreUnusable

APPLICATION_ID = 0x53414C56  # "SALV": tells our files from other SQLite files


def unusable(path: Path, error: str, hint: str) -> StoreUnusable:
    """A file that is no store, or none of ours."""
    return StoreUnusable(f"the store {path} cannot be used: {error}; nothing was changed", hint=hint)


def hint_for(error: str) -> str:
    """What to do about what SQLite said."""
    if "readonly" in error or "unable to open" in error:
        return "its folder must be writable: SQLite keeps a log beside the file"
    return "make room on its disk" if "full" in error or "I/O" in error else "it is tried again"


def statements(steps: Sequence[str], version: int) -> Iterator[str]:
    """What brings a schema of this version to that of the steps; nothing for a newer one."""
    for number, step in enumerate(steps[version:], version + 1):
        yield from step.split(";")
        yield f"PRAGMA user_version = {number}"


def _make(path: Path, steps: Sequence[str]) -> None:
    """An empty store that is nowhere half-made: built beside, in WAL mode, then given its name unless it is taken.

    Switching to WAL in place would fail as soon as a second process looks at the file. A log that is left of one that
    was removed would be played into the new one: then none is made.
    """
    beside = [f"{path}{ending}" for ending in ("-wal", "-shm") if Path(f"{path}{ending}").exists()]
    if beside and not path.exists():
        hint = f"put it back, or a copy without these; or, when nobody uses it any more, remove {' and '.join(beside)}"
        raise unusable(path, "it was removed, but not its log beside it", hint)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as folder:
        draft = Path(folder, path.name)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("PRAGMA journal_mode = WAL")
            for statement in statements(steps, 0):
                db.execute(statement)
        with suppress(FileExistsError):
            path.hardlink_to(draft)


def _sealed(path: Path) -> bool:
    """Whether a file is whole by itself and stays so: nobody has it open, and nothing can be written beside it.

    SQLite cannot read it in WAL mode then, as it keeps its log and its locks there.
    """
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not Path(f"{path}-wal").exists()


def connect(path: Path, access: Access, steps: Sequence[str]) -> sqlite3.Connection:
    """Opens the file, which is made if that is to be. Raises StoreMissing, StoreUnusable, OSError, sqlite3.Error."""
    if not path.exists():
        if access is not Access.MAKE:
            hint = "salvusctl apply or controller run makes one; is this the one meant by --store, or by the context?"
            raise StoreMissing(f"the store {path} does not exist", hint=hint)
        _make(path, steps)
    how = "immutable=1" if access is Access.READ and _sealed(path) else "mode=rw"
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
