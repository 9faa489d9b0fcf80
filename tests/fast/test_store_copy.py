"""A store in one file and back: what is kept, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pytest

from controller.holder import Holder
from controller.leases import Leases
from controller.store.base import Row, StoreError, Table
from controller.store.copy import KEPT, NotACopy, checked, dump, restore
from controller.store.memory import MemoryStore


def filled() -> MemoryStore:
    store = MemoryStore()
    for table in Table:
        store.write(table, f"of {table}", {"a": "1", "": "ü\n\0"})
    store.write(Table.META, "puts", {"somebody": ""})
    store.write(Table.EVENT, "e", {"soon": "gone"}, ttl=60)
    Leases(store, Holder.this_process()).tick()
    return store


def contents(store: MemoryStore) -> dict[str, dict[str, dict[str, str]]]:
    return {
        table: {name: {key: row.value for key, row in rows.items()} for name, rows in store.read_all(table).items()}
        for table in Table
    }


def test_what_is_dumped_is_what_is_put_back() -> None:
    store, other = filled(), MemoryStore()
    number = restore(other, checked(dump(store)))
    expected = contents(store)
    del expected["meta"]["puts"]
    for table in set(Table) - set(KEPT):
        expected[table] = {}
    assert contents(other) == expected
    assert number == sum(len(rows) for partitions in expected.values() for rows in partitions.values())


def test_what_changes_while_it_is_copied_is_copied_too() -> None:
    class Busy(MemoryStore):
        left = 5

        def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
            found = super().read_all(table)
            if table is Table.RESOURCE and self.left:
                self.left -= 1
                self.write(Table.RESOURCE, "late", {"manifest": str(self.left)})
            return found

    store, other = Busy(), MemoryStore()
    restore(other, checked(dump(store)))
    assert contents(other)["resource"] == {"late": {"manifest": "4"}}


def test_a_store_that_is_in_use_is_not_written_over() -> None:
    other = filled()
    before = contents(other)
    with pytest.raises(StoreError, match="not empty; nothing was written"):
        restore(other, checked(dump(filled())))
    assert contents(other) == before


WHOLE = list(dump(filled()))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "not whole"),
        (WHOLE[:-1], "not whole"),
        ([*WHOLE[:3], *WHOLE[4:]], "not whole"),
        ([*WHOLE[:3], WHOLE[3].replace("1", "2"), *WHOLE[4:]], "not whole"),
        (["apiVersion: salv.us/v1\n"], "line 1 is not of a copy"),
        (["[]\n", "[]\n"], "not of a copy"),
        ([json.dumps({"format": 2}) + "\n"], "not whole"),
    ],
)
def test_what_is_no_whole_copy_is_refused(lines: list[str], said: str) -> None:
    with pytest.raises(NotACopy, match=said) as caught:
        checked(lines)
    assert "store dump" in caught.value.hint


def test_what_this_salvus_does_not_know_is_told() -> None:
    lines = [WHOLE[0], json.dumps({"table": "moon", "partition": "p", "rows": {}}) + "\n"]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    with pytest.raises(NotACopy, match="'moon'"):
        checked([*lines, json.dumps({"sha256": digest}) + "\n"])


def test_a_newer_format_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.store.copy.FORMAT", 2)
    newer = list(dump(filled()))
    monkeypatch.undo()
    with pytest.raises(NotACopy, match="format 2, this salvus knows 1"):
        checked(newer)
