"""A machine is told the epoch of our lease before it is first looked at under it.

From then on an older controller writes nothing there, also where there is nothing for us to write: else one that was
paused would carry out an old plan behind our back, and what we saw would not last until we act on it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from drivers.base import Applied, Change, Failed, Fencing, Item, Observation, Unknown, Unreachable


class Announced:
    """The driver of a machine as one epoch uses it."""

    def __init__(self, driver: Fencing, epoch: int) -> None:
        self.driver = driver
        self.epoch = epoch
        self._told = False

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver. Raises Fenced. While something older still runs there it can be looked at, but not changed."""
        if not self._told:
            try:
                with contextlib.suppress(Failed):
                    self.driver.fence(self.epoch)
                    self._told = True
            except Unreachable as error:
                reason = f"{error}; {error.hint}" if error.hint else str(error)
                return {item.key: Observation(Unknown(reason), time.time(), "fence") for item in items}
        return self.driver.observe(items)

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver."""
        return self.driver.apply(changes, epoch)

    def close(self) -> None:
        """See Driver."""
        self.driver.close()
