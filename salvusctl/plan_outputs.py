"""What ``diff`` and ``apply --dry-run`` print with ``-o json``: plans."""

from __future__ import annotations

from typing import Any, Literal

from salvusctl.outputs import Output


class DriftOutput(Output):
    """A field that differs."""

    field: str
    """Its name."""
    desired: Any
    """As it is to be; ``***`` for secrets."""
    observed: Any
    """As it is; null where the item is absent, ``***`` for secrets."""


class ChangeOutput(Output):
    """One step of a plan."""

    item: str
    """``Type:name`` of the item on the machine."""
    verb: Literal["create", "update", "delete"]
    """What is done to it."""
    owner: str
    """``Kind/name`` of the resource that wants it; empty when that is not known."""
    grade: Literal["live", "reload", "restart", "reboot", "replace", "data-loss"]
    """How much it disturbs."""
    after: tuple[str, ...]
    """Items whose changes must have succeeded before."""
    drift: tuple[DriftOutput, ...]
    """The fields that differ; empty for deletions."""


class HeldOutput(Output):
    """A change that is not made now."""

    change: ChangeOutput
    """The change."""
    reason: str
    """In CamelCase; ``Stalled``: it is refused, as what is there is somebody else's; ``RolledBack``: the machine put it
    back before."""
    message: str
    """A sentence."""

    @property
    def refused(self) -> bool:
        """Whether waiting is of no use."""
        return self.reason in {"Stalled", "RolledBack"}


class UnknownOutput(Output):
    """An item of which nothing is known, so that nothing is planned on it."""

    item: str
    """``Type:name``."""
    reason: str
    """Why."""


class WaitingOutput(Output):
    """A resource whose items on a machine are not known yet."""

    resource: str
    """``Kind/name``."""
    reason: str
    """In CamelCase."""
    message: str
    """A sentence."""
    final: bool
    """Whether it waits until the manifests change."""


class MachineDiffOutput(Output):
    """What would be done on one machine."""

    machine: str
    """Its name."""
    unreachable: str
    """Why it could not be asked; empty when it could."""
    changes: tuple[ChangeOutput, ...]
    """In the order in which they are made."""
    held: tuple[HeldOutput, ...]
    """Changes that are not made now."""
    unknown: tuple[UnknownOutput, ...]
    """Items of which nothing is known."""
    waiting: tuple[WaitingOutput, ...]
    """Resources whose items are not known yet."""


class ResourceDiff(Output):
    """What would happen to a resource in the store."""

    resource: str
    """``Kind/name``."""
    verb: Literal["created", "configured", "moved", "deleted"]
    """In one word."""
    held: str = ""
    """Why that is not done; empty when it is."""


class DisturbedOutput(Output):
    """A resource that would be deleted or disturbed."""

    resource: str
    """``Kind/name``."""
    machine: str
    """Where it would be disturbed; empty for a deletion."""
    changes: tuple[ChangeOutput, ...]
    """By which changes; none for a deletion."""


class HoldOutput(Output):
    """What a budget keeps a sync of the manifests from doing."""

    id: str
    """For ``salvusctl approve``."""
    source: str
    """Where the manifests are, as resources name it."""
    revision: str
    """The revision that wants it."""
    what: Literal["deletions", "revision"]
    """Only deletions are held, or all of the revision."""
    since: str | None
    """Since when (RFC 3339); null when it is foreseen."""
    message: str
    """What is held, why, and what lets it through."""
    approved: bool
    """Whether somebody has let it through, and no controller has obeyed yet."""
    total: int
    """Of how many."""
    of: tuple[DisturbedOutput, ...]
    """What would be deleted or disturbed."""


class Holds(Output):
    """``approve``: what waits for it."""

    items: tuple[HoldOutput, ...]
    """By source."""


class Totals(Output):
    """All machines together."""

    create: int
    """Items to create."""
    update: int
    """Items to update."""
    delete: int
    """Items to delete."""
    held: int
    """Changes that are not made now."""
    refused: int
    """Resources of which nothing is made, as something of them is somebody else's; not counted in ``held``."""
    unknown: int
    """Items of which nothing is known."""
    unreachable: int
    """Machines that could not be asked."""
    waiting: int
    """Resources that wait."""


class Diff(Output):
    """``diff`` and ``apply --dry-run``."""

    resources: tuple[ResourceDiff, ...]
    """Resources that would be made, changed or deleted; unchanged ones are left out."""
    machines: tuple[MachineDiffOutput, ...]
    """All machines of the fleet, by name."""
    totals: Totals
    """All machines together."""
    budgets: tuple[HoldOutput, ...] = ()
    """What the next sync of the context's manifests would hold."""
