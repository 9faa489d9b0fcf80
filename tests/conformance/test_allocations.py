"""What is taken out of a pool is given once, though several who know nothing of each other give it out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.store.base import Row, Store, Table
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from tests.conformance.stores import BACKENDS, Backend, in_time, named

NET = "VPN/net"
ADDRESSES = tuple(f"10.0.0.{n}" for n in range(1, 9))


@pytest.fixture(params=named(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path, lambda: request.getfixturevalue("keyspace")()) as made:
        yield made


def addresses(store: Store) -> dict[str, str]:
    rows: Mapping[str, Row] = store.read(Table.ALLOCATION, NET)
    return {what: row.value for what, row in rows.items() if "/" in what}


def give(ledger: Ledger, what: str, values: Iterator[str]) -> str:
    """What one controller does for one node over its passes: the next value, until one is in force."""
    for value in values:
        found: list[str | None] = []
        in_time(lambda value=value, found=found: bool(found.append(ledger.allocate(NET, what, value))) or True)  # type: ignore[misc]
        if (kept := found[-1]) is not None:
            return kept
    raise AssertionError("the pool is empty")


def test_two_controllers_and_a_hundred_nodes(backend: Backend) -> None:
    names = [f"address/n{n:03}" for n in range(100)]
    given_: list[dict[str, str]] = [{}, {}]

    def controller(number: int, store: Store, order: list[str]) -> None:
        ledger = Ledger(store)
        for what in order:
            given_[number][what] = give(ledger, what, (f"10.0.{n // 250}.{n % 250}" for n in range(1, 1000)))

    stores = (backend.store, backend.again())
    orders = (names, names[50:] + names[:50])
    threads = [threading.Thread(target=controller, args=(n, stores[n], orders[n])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = addresses(backend.store)
    assert kept.keys() == set(names)
    assert len(set(kept.values())) == 100, "no address twice"
    assert given_ == [kept, kept], "both were told what is in force"


class Between:
    """A store in which somebody else does something before each call that this one makes."""

    def __init__(self, store: MemoryStore, others: Iterator[Callable[[], object]]) -> None:
        self._store = store
        self._others = others

    def __getattr__(self, name: str) -> object:
        next(self._others, lambda: None)()
        return getattr(self._store, name)


Wish = tuple[int, int]
WISHES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=12)


@given(mine=WISHES, theirs=WISHES)
def test_whatever_somebody_else_does_in_between(mine: list[Wish], theirs: list[Wish]) -> None:
    store = MemoryStore()
    other = Ledger(store)
    moves = iter([lambda n=n, a=a: other.allocate(NET, f"address/n{n}", ADDRESSES[a]) for n, a in theirs])
    ledger = Ledger(Between(store, moves))  # type: ignore[arg-type]
    before: dict[str, str] = {}
    for node, value in mine:
        told = ledger.allocate(NET, f"address/n{node}", ADDRESSES[value])
        now = addresses(store)
        assert len(set(now.values())) == len(now), "no address twice"
        assert before.items() <= now.items(), "what was given stays"
        if told is None:
            assert ADDRESSES[value] in now.values(), "only what somebody has is refused"
        else:
            assert now[f"address/n{node}"] == told
        before = now


def test_what_is_of_no_pool_may_be_had_by_several() -> None:
    ledger = Ledger(MemoryStore())
    assert ledger.allocate("VirtualMachine/a", "host", "one") == "one"
    assert ledger.allocate("VirtualMachine/a", "instance", "one") == "one"
    assert ledger.allocate("VirtualMachine/b", "host", "one") == "one"
    assert ledger.allocate("VirtualMachine/b", "host", "two") == "one"
