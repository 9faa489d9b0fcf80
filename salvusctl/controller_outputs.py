"""What ``controllers`` prints with ``-o json`` and ``-o yaml``."""

from __future__ import annotations

from typing import Literal

from salvusctl.outputs import Output


class LeaseOutput(Output):
    """A lease that a controller holds: who has ``shard/NN`` acts on that shard's machines."""

    name: str
    """``fleet``, ``shard/NN``, or ``source/NAME``."""
    epoch: int
    """Machines refuse who comes with a lower one."""
    since: str
    """Since when, by the clock of who gave it (RFC 3339)."""


class ControllerOutput(Output):
    """One controller, as it said last."""

    host: str
    """Where it runs."""
    pid: int
    """Its process there."""
    role: Literal["daemon", "apply"]
    """``apply``: a command that works only while no daemon does."""
    state: Literal["acts", "stands-by", "leaves", "silent", "gone"]
    """``stands-by``: others hold all leases. ``leaves``: it was told to stop. ``silent``: not seen for longer than a
    lease lasts: gone, or a clock is wrong. ``gone``: a dead process of this very machine."""
    since: str
    """When it came, by its own clock (RFC 3339)."""
    seen: str
    """When it told of itself last, by its own clock (RFC 3339)."""
    lag: float
    """Seconds for which the longest-waiting of its machines that are due had waited then."""
    leases: tuple[LeaseOutput, ...]
    """What it holds."""


class ControllerList(Output):
    """``controllers``."""

    items: tuple[ControllerOutput, ...]
    """The controllers, by host."""
    free: tuple[str, ...]
    """Leases that nobody holds."""
