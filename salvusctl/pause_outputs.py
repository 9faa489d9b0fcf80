"""What ``pause --list``, ``get`` and ``why`` print of pauses with ``-o json``."""

from __future__ import annotations

from salvusctl.outputs import Output


class PauseOutput(Output):
    """Something that is not changed for a while."""

    what: str
    """``world`` (stop-the-world) or ``all``; ``machine/NAME``; or ``Kind/name``."""
    by: str
    """Who did it, as ``user@host``."""
    reason: str
    """Why."""
    since: str
    """When it began (RFC 3339)."""
    until: str | None
    """When it ends by itself (RFC 3339); null when it does not."""


class PauseList(Output):
    """``pause --list``."""

    items: tuple[PauseOutput, ...]
    """What is paused."""
