"""Asking machines something now, past their controllers: one item each, and nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from controller.by_hand import opened
from controller.session import Session
from drivers.base import Driver, Item, State, Unknown

SIDE_BY_SIDE = 32


def ask(session: Session, items: Mapping[str, Item]) -> Mapping[str, State]:
    """What machines say of an item, by machine; ``Unknown`` with the reason of those that cannot be asked."""
    with opened(session) as (view, machines):
        # Lowered here: the view is not safe for threads.
        drivers = {machine: machines.driver(machine, view.lowered) for machine in items}
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="ask") as pool:
            return dict(zip(items, pool.map(_ask, drivers.values(), items.values()), strict=True))


def _ask(driver: Driver | None, item: Item) -> State:
    if driver is None:
        return Unknown("the way to it is not known yet")
    return driver.observe([item])[item.key].state
