"""The clock for what must not stand still or jump, and how times are written."""

from __future__ import annotations

import time


def uptime() -> float:
    """Seconds since the boot, time asleep included (CLOCK_BOOTTIME): who slept has lost leases and missed changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(at: float) -> str:
    """Seconds since the epoch as ``2026-11-24T13:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
