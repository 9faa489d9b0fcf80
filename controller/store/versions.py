"""Versions of a store's schema: a tuple of steps each backend has, of which each only adds to what is there.

So programs of two neighbouring versions work on one store: it is migrated first, then they are replaced one by one.
What is no longer used stays.
"""

from __future__ import annotations

from controller.store.base import StoreUnusable


def refuse_newer(store: str, found: int, known: int) -> None:
    """Raises StoreUnusable for a schema that is newer than the one after that which this program knows."""
    if found > known + 1:
        raise StoreUnusable(
            f"{store} has schema {found}, this salvus knows {known}; nothing was changed",
            hint="use the salvus that wrote it, or a newer one",
        )


def refuse_older(store: str, found: int, known: int) -> None:
    """Raises StoreUnusable for a schema that lacks what this program needs."""
    if found < known:
        raise StoreUnusable(
            f"{store} has schema {found}, this salvus needs {known}; nothing was changed",
            hint="run: salvusctl store migrate; what runs on it meanwhile may go on",
        )
