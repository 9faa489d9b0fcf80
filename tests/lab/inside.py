"""A store in the lab's Cassandra for a test, which is outside the lab's network: a process inside serves it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from controller.store.base import Store
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from salvusctl import netns


class _Passing(CassandraStore):
    """A keyspace made for one test."""

    def __init__(self, settings: CassandraSettings) -> None:
        self.make(settings)
        super().__init__(settings)

    def drop(self) -> None:
        """Takes it away."""
        self._ring.session.execute(f'DROP KEYSPACE "{self._ring.settings.keyspace}"', timeout=60)


class _Server(BaseManager):
    """The process inside; what it gives is a proxy with the store's methods."""

    opened: Any


_Server.register("opened", _Passing)


@contextmanager
def ring_store(namespace: str, settings: CassandraSettings) -> Iterator[Store]:
    """The keyspace, made now and dropped at the end."""
    server = _Server(ctx=multiprocessing.get_context("spawn"))
    server.start(netns.enter, (namespace,))
    with server:
        store = server.opened(settings)
        try:
            yield store
        finally:
            store.drop()
            store.close()
