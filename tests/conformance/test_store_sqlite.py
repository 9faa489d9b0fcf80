"""What only a file can suffer: damage, strangers, newer versions, a full disk."""

from __future__ import annotations

import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from controller.store.base import Access, StoreMissing, StoreUnavailable, StoreUnusable, Table
from controller.store.sqlite import MIGRATIONS, SqliteStore
from tests.conformance import stores


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with something in it, closed."""
    with closing(SqliteStore(tmp_path / "salvus.db")) as store:
        for n in range(200):
            store.write(Table.FACT, f"p{n}", {"k": "v" * 200})
    return tmp_path / "salvus.db"


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def header(path: Path) -> None:
    overwrite(path, 0, b"\xff" * 64)


def schema(path: Path) -> None:
    overwrite(path, 100, b"\xff" * 200)


def text(path: Path) -> None:
    path.write_text("apiVersion: salv.us/v1\n" * 300)


def short_text(path: Path) -> None:
    path.write_text("x")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 2}")


@pytest.mark.parametrize("spoil", [half, emptied, header, schema, text, short_text, foreign, newer])
def test_a_file_that_cannot_be_used_is_told_of_and_left_as_it_is(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="nothing was changed") as raised:
        SqliteStore(path)
    assert str(path) in str(raised.value)
    assert raised.value.hint
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def test_a_newer_schema_says_which(path: Path) -> None:
    newer(path)
    with pytest.raises(StoreUnusable, match=f"schema {len(MIGRATIONS) + 2}, this salvus knows {len(MIGRATIONS)}"):
        SqliteStore(path)


def test_damage_in_the_middle_is_told_by_who_reads_there(path: Path) -> None:
    page = 4096
    for number in range(2, path.stat().st_size // page):
        overwrite(path, number * page, b"\xff" * page)
    before = path.read_bytes()
    with closing(SqliteStore(path)) as store:
        with pytest.raises(StoreUnusable, match="malformed"):
            store.read_all(Table.FACT)
        with pytest.raises(StoreUnusable, match="malformed"):
            store.write(Table.FACT, "p7", {"k": "w"})
    assert path.read_bytes() == before


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "salvus.db"
    with closing(SqliteStore(path)) as store:
        store.write(Table.FACT, "p", {"k": "v"})
        files = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert files == {"salvus.db": 0o600, "salvus.db-wal": 0o600, "salvus.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
def test_only_who_may_make_a_store_makes_one(tmp_path: Path, access: Access) -> None:
    path = tmp_path / "new" / "salvus.db"
    with pytest.raises(StoreMissing, match="does not exist") as raised:
        SqliteStore(path, access=access)
    assert str(path) in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_opened_for_reading_reads_and_refuses_to_write(path: Path) -> None:
    before = path.read_bytes()
    with closing(SqliteStore(path, access=Access.READ)) as store:
        assert len(store.read_all(Table.FACT)) == 200
        with pytest.raises(StoreUnavailable, match="readonly"):
            store.write(Table.FACT, "p7", {"k": "w"})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_a_reader_sees_what_a_writer_writes_meanwhile(path: Path) -> None:
    with closing(SqliteStore(path, access=Access.READ)) as reader, closing(SqliteStore(path)) as writer:
        writer.write(Table.FACT, "p7", {"k": "new"})
        assert reader.read(Table.FACT, "p7")["k"].value == "new"


def test_a_reader_does_not_bring_an_older_schema_up_to_date(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=f"schema 0, this salvus needs {len(MIGRATIONS)}"):
        SqliteStore(path, access=Access.READ)
    assert path.read_bytes() == before


# What the next version may do: it adds.
NEXT = (*MIGRATIONS, "ALTER TABLE rows ADD COLUMN note TEXT; CREATE TABLE extra (k TEXT)")


def test_who_knows_the_version_before_goes_on_while_others_migrate(path: Path) -> None:
    with closing(SqliteStore(path)) as running, ThreadPoolExecutor(2) as threads:
        begin = threading.Barrier(2)

        def migrate() -> int:
            begin.wait()
            with closing(SqliteStore(path, access=Access.WRITE, steps=NEXT)) as store:
                return store.found

        founds = [threads.submit(migrate) for _ in range(2)]
        assert {found.result() for found in founds} <= {len(MIGRATIONS), len(NEXT)}
        running.write(Table.FACT, "p7", {"k": "after"})
        with closing(SqliteStore(path)) as started, closing(SqliteStore(path, steps=NEXT)) as newer:
            with newer._transaction():
                newer._stamp(cast(Table, "a table that we have not"), "p")
            started.changed_since(0)
            assert (started.found, newer.found) == (len(NEXT), len(NEXT))
            started.write(Table.FACT, "p8", {"k": "after"})
            assert {newer.read(Table.FACT, name)["k"].value for name in ("p7", "p8")} == {"after"}
            assert len(newer.read_all(Table.FACT)) == 200, "nothing is lost"


def test_a_step_that_fails_leaves_the_version_before(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="syntax error"):
        SqliteStore(path, steps=(*NEXT[:-1], "CREATE TABLE extra (k TEXT); CREATE nonsense"))
    with closing(SqliteStore(path, steps=NEXT)) as store:
        assert store.found == len(MIGRATIONS)


def replaced(path: Path) -> None:
    made = path.with_name("other.db")
    SqliteStore(made).close()
    made.replace(path)


def test_no_store_is_made_beside_the_log_of_one_that_was_removed(path: Path) -> None:
    """SQLite would play it into the new one."""
    with closing(SqliteStore(path)) as store:
        store.write(Table.FACT, "p7", {"k": "old"})
        path.unlink()
        with pytest.raises(StoreUnusable, match="it was removed, but not its log beside it") as error:
            SqliteStore(path)
    assert f"remove {path}-wal and {path}-shm" in error.value.hint
    assert not path.exists()


@pytest.mark.parametrize("spoil", [Path.unlink, replaced])
def test_who_asks_what_changed_hears_that_the_file_is_another(path: Path, spoil: Callable[[Path], None]) -> None:
    with closing(SqliteStore(path)) as store:
        cursor, _ = store.changed_since(0)
        spoil(path)
        with pytest.raises(StoreUnusable, match="was removed, or another file put in its place"):
            store.changed_since(cursor)


@pytest.fixture
def sealed(path: Path) -> Iterator[Path]:
    """The store in a folder where ``stores.NOBODY`` may read and not write."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "salvus.db")
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o644)
        Path(folder).chmod(0o555)
        yield copy
        Path(folder).chmod(0o755)


def test_a_store_in_a_folder_that_cannot_be_written_is_read(sealed: Path) -> None:
    with stores.process(stores.read_as_nobody, sealed) as (_, connection):
        assert connection.recv() == 200
    assert list(sealed.parent.iterdir()) == [sealed]


def test_a_log_that_cannot_be_used_is_told_of(sealed: Path) -> None:
    sealed.parent.chmod(0o755)
    Path(f"{sealed}-wal").write_bytes(b"")
    sealed.parent.chmod(0o555)
    with stores.process(stores.read_as_nobody, sealed) as (_, connection):
        said, hint = connection.recv()
    assert f"the store {sealed} cannot be used now" in said
    assert hint == "its folder must be writable: SQLite keeps a log beside the file"


def test_an_error_in_making_names_the_store_and_nothing_else() -> None:
    with pytest.raises(StoreUnavailable) as raised:
        SqliteStore(Path("/proc/salvus.db"))
    assert str(raised.value) == "the store /proc/salvus.db cannot be opened: No such file or directory"


@pytest.mark.parametrize("name", ["folder", "file/salvus.db"])
def test_a_path_that_cannot_be_opened_may_be_better_later(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        SqliteStore(tmp_path / name)


def test_a_closed_store_is_unavailable_and_harmless(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable):
        store.write(Table.FACT, "p", {"k": "v"})


def test_reading_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with closing(SqliteStore(path)) as store:
        store.read_all(Table.FACT)
        store.changed_since(0)
        wal = path.with_name(path.name + "-wal")
        assert not wal.exists() or wal.stat().st_size == 0
    assert path.read_bytes() == before


def test_a_second_opening_in_one_process_leaves_the_locks_of_the_first(path: Path) -> None:
    """Closing any descriptor of a file ends all the process's locks on it (fcntl(2)), SQLite's own among them."""
    with closing(SqliteStore(path)) as first:
        first.write(Table.FACT, "p", {"k": "before"})
        SqliteStore(path).close()
        with stores.process(stores.open_together, stores.SqliteElsewhere(path)) as (_, connection):
            assert connection.recv() == "ready"
            connection.send("go")
            assert connection.recv() == "done"
        assert path.with_name(path.name + "-wal").exists(), "nobody thought to be the last one, and threw it away"
        first.write(Table.FACT, "p", {"k": "after"})
    with closing(SqliteStore(path)) as store:
        row = store.get(Table.FACT, "p", "k")
        assert row is not None
        assert row.value == "after"


def test_without_room_it_reads_and_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    open_ = stores.SqliteElsewhere(tmp_path / "salvus.db")
    with stores.process(stores.fill_disk, open_) as (_, connection):
        said, hint, read, read_anew, written, keys = connection.recv()
    assert "cannot be used now" in said
    assert hint == "make room on its disk"
    assert read == read_anew == {"before": 4}
    assert written
    assert keys == ["after", "before"]
    with closing(SqliteStore(tmp_path / "salvus.db")) as store:
        assert list(store.read(Table.META, "disk")) == ["after", "before"]
