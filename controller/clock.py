"""The clock for what must not stand still or jump."""

from __future__ import annotations

import time


def uptime() -> float:
    """Seconds since the boot, time asleep included (CLOCK_BOOTTIME): who slept has lost leases and missed changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
