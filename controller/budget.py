"""How much one sync of a source may delete and disturb (DESIGN rule 6). Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """The larger of a number and of a percentage of all, rounded down."""

    number: int
    percent: int

    def allows(self, count: int, total: int) -> bool:
        """Whether it may happen to ``count`` of ``total``."""
        return count <= max(self.number, total * self.percent // 100)


@dataclass(frozen=True, slots=True)
class Budgets:
    """What one sync may do without being asked about.

    Attributes:
        deletes: resources that it deletes, of those that came from the source.
        disruption: resources that it restarts, reboots or replaces, counted on each machine; of all that run something.
    """

    deletes: Budget = Budget(5, 25)
    disruption: Budget = Budget(5, 10)
