"""A time for tests in which nobody waits."""

from __future__ import annotations

from drivers.simulated import Timing


class Hourglass:
    """Sleeping in it only moves its hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept = 0.0
        self.timing = Timing(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds
