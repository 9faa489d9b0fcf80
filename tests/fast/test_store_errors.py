"""What Cassandra's driver raises becomes an error of the store's, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cassandra
import cassandra.cluster
import cassandra.connection
import cassandra.protocol
import pytest
from cassandra.cluster import NoHostAvailable

from controller.store.base import StoreError, StoreUnavailable, StoreUnusable, Table
from controller.store.cassandra.ring import errors
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import TURNS, turn_of

SETTINGS = CassandraSettings(("192.0.2.1",), "dc1")
# Of its users' code, or never let out of it; AlreadyExists is whoever defines tables' business.
OTHERS = {
    *("AlreadyExists", "CrcException", "InternalError", "NoConnectionsAvailable", "NotSupportedError", "ProtocolError"),
    *("DependencyException", "QueryExhausted", "TraceUnavailable", "UserTypeDoesNotExist"),
}
MODULES = (cassandra, cassandra.cluster, cassandra.connection, cassandra.protocol)


def exceptions() -> Iterator[type[Exception]]:
    found = {value for module in MODULES for value in vars(module).values() if isinstance(value, type)}
    for one in sorted(found, key=lambda one: (one.__module__, one.__name__)):
        ours = one.__module__.startswith("cassandra") and issubclass(one, Exception)
        if ours and one.__name__ not in OTHERS:
            yield one


MADE_OF: dict[str, tuple[Any, ...]] = {
    "FunctionFailure": ("said so", "keyspace", "function", ()),
    "NoHostAvailable": ("said so", {}),
    "ProtocolVersionUnsupported": ("192.0.2.1", 5),
    "WriteTimeout": ("said so", 5),
}


def made(type_: Any) -> Exception:
    """An instance, as the driver makes it."""
    usual: tuple[Any, ...] = (0, "said so", {}) if issubclass(type_, cassandra.protocol.ErrorMessage) else ("said so",)
    error: Exception = type_(*MADE_OF.get(type_.__name__, usual))
    return error


@pytest.mark.parametrize("type_", tuple(exceptions()), ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_each_of_the_drivers_errors_is_told_as_ours(type_: Any) -> None:
    with pytest.raises(StoreError) as caught, errors(SETTINGS):
        raise made(type_)
    assert caught.value.hint


UNDECIDED = (
    'Error from server: code=2100 [Unauthorized] message="Unable to perform authorization of super-user permission: '
    'Cannot achieve consistency level LOCAL_ONE"'
)


@pytest.mark.parametrize(
    ("said", "kind"),
    [(UNDECIDED, StoreUnavailable), ("User eve has no SELECT permission on <table salvus.meta>", StoreUnusable)],
)
def test_a_node_that_cannot_find_out_what_we_may_is_tried_again(said: str, kind: type[StoreError]) -> None:
    for error in (
        cassandra.Unauthorized(said),
        NoHostAvailable("said so", {"192.0.2.1": cassandra.Unauthorized(said)}),
    ):
        with pytest.raises(StoreError) as caught, errors(SETTINGS):
            raise error
        assert issubclass(type(caught.value), kind)


def test_a_session_that_gets_no_connection_tells_no_causes_and_the_store_is_away() -> None:
    """``Session.__init__`` of the driver gives a list of nodes where others give what became of each."""
    with pytest.raises(StoreUnavailable, match="Unable to connect"), errors(SETTINGS):
        raise NoHostAvailable("Unable to connect to any servers", ["192.0.2.1"])


def test_no_partition_holds_up_the_leases() -> None:
    turns = {table: {turn_of(table, str(number)) for number in range(TURNS * 8)} for table in Table}
    leases = turns.pop(Table.LEASE)
    assert leases.isdisjoint(set().union(*turns.values()))
    assert max(set().union(*turns.values()) | leases) < TURNS
