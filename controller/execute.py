"""Carrying a plan out: the only step with effects. Chains go side by side; a failure stops only its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drivers.base import Applied, Change, Driver, DriverError, Rejected, RolledBack, Transport, Unreachable

# Rule 12: at most four libvirt calls in flight a host.
SIDE_BY_SIDE = 4


@dataclass(frozen=True, slots=True)
class Executed:
    """How a plan went: what was tried, and what was not.

    ``skipped`` is behind what failed, or was left when the machine fell silent or salvus was to stop.
    """

    applied: tuple[Applied, ...] = ()
    skipped: tuple[Change, ...] = ()

    @property
    def failed(self) -> tuple[Applied, ...]:
        """The changes that went wrong."""
        return tuple(one for one in self.applied if one.error is not None)


def carry_out(
    driver: Driver, changes: Sequence[Change], epoch: int, *, stop: Callable[[], bool] = lambda: False
) -> Executed:
    """Makes the changes in waves: all shell changes whose needs are met in one batch, libvirt changes beside it.

    ``stop`` is asked before each batch, from several threads: the safe points. A machine that falls silent is not told
    anything more: each change would cost its whole deadline. Raises Fenced.
    """
    left = list(changes)
    applied: list[Applied] = []
    skipped: list[Change] = []
    lost: set[str] = set()
    over = threading.Event()

    def tell(batch: tuple[Change, ...]) -> tuple[Applied, ...]:
        if over.is_set():
            return ()
        if stop():
            over.set()
            return ()
        results = driver.apply(batch, epoch)
        if any(isinstance(one.error, Unreachable) for one in results):
            over.set()
        return results

    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="apply") as pool:
        while left and not over.is_set():
            for change in tuple(left):
                if lost.intersection(change.after):
                    lost.add(change.item.key)
                    skipped.append(change)
                    left.remove(change)
            for results in pool.map(tell, _wave(left)):
                applied.extend(results)
                lost.update(one.change.item.key for one in results if one.error is not None)
            tried = {one.change.item.key for one in applied}
            left = [change for change in left if change.item.key not in tried]
    return Executed(tuple(applied), (*skipped, *left))


def _wave(left: Sequence[Change]) -> list[tuple[Change, ...]]:
    """The batches that can go now: one of shell changes in order, and one of its own for each libvirt change."""
    pending = {change.item.key for change in left}
    batch: dict[str, Change] = {}
    single: list[tuple[Change, ...]] = []
    for change in left:
        needs = pending.intersection(change.after)
        if change.item.transport is Transport.SHELL and needs <= batch.keys():
            batch[change.item.key] = change
        elif not needs:
            single.append((change,))
    return [tuple(batch.values()), *single] if batch else single


def reason(error: DriverError) -> str:
    """Why the change is not made, as conditions have it."""
    if isinstance(error, RolledBack):
        return "RolledBack"
    return "Stalled" if isinstance(error, Rejected) else "Failed"


def explain(error: DriverError) -> str:
    """The error as one sentence with its hint."""
    return f"{error}; {error.hint}" if error.hint else str(error)
