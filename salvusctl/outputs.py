"""What ``-o json`` prints, as models: their JSON Schemas are in ``docs/schemas`` and stay stable."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict

from resources.base import Model
from resources.errors import ManifestError


class TextOrJson(enum.StrEnum):
    """The ways a verb without tables prints."""

    TEXT = "text"
    JSON = "json"


class Output(Model):
    """Base of what is printed."""

    # Each verb needs one of these at most, and only for JSON: none is built before it is used.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, defer_build=True)


class ManifestFault(Output):
    """Something wrong in a manifest."""

    file: str
    """As it was named; empty for what comes from no file."""
    line: int
    """From 1; 0 when it is about the whole file."""
    column: int
    """From 1; 0 when it is about the whole file."""
    field: str
    """As in ``spec.interfaces[0].mac``; may be empty."""
    message: str
    """What is wrong, what is allowed."""
    hint: str
    """What to do; may be empty."""

    @classmethod
    def of(cls, error: ManifestError) -> Self:
        """The error as data."""
        return cls(
            file=error.file,
            line=error.line,
            column=error.column,
            field=error.field,
            message=error.what,
            hint=error.hint,
        )


class Validation(Output):
    """``validate``."""

    valid: bool
    """Whether nothing is wrong."""
    resources: tuple[str, ...]
    """``Kind/name`` of all resources that are right in themselves."""
    errors: tuple[ManifestFault, ...]
    """Everything that is wrong."""


class EventOutput(Output):
    """Something that happened; repeats are counted."""

    resource: str
    """``Kind/name``."""
    machine: str
    """Where; empty for the fleet."""
    type: Literal["Normal", "Warning"]
    """Whether it is worth a look."""
    reason: str
    """In CamelCase."""
    message: str
    """A sentence."""
    first: str
    """When it first happened (RFC 3339)."""
    last: str
    """When it last happened (RFC 3339)."""
    count: int
    """How often."""


class Events(Output):
    """``events``, oldest first."""

    items: tuple[EventOutput, ...]
    """The events."""


class ConditionOutput(Output):
    """A condition of a resource, or of a resource on one machine."""

    type: str
    """``Ready``, ``Synced``, ``Reachable`` …; ``True`` is the good side of all."""
    status: Literal["True", "False", "Unknown"]
    """How it stands."""
    reason: str
    """In CamelCase."""
    message: str
    """A sentence."""
    last_transition_time: str
    """Since when (RFC 3339)."""
    observed_generation: int
    """The generation of the manifest that this was said of."""


class MachineCondition(ConditionOutput):
    """What one machine says of a resource."""

    machine: str
    """Which; empty for what is said of the whole fleet, as where the resource is placed."""


class ResourceMetadata(Output):
    """Who a resource is, and where it came from."""

    name: str
    """Unique among resources of its kind."""
    labels: Mapping[str, str] = {}
    """As written."""
    annotations: Mapping[str, str] = {}
    """As written."""
    uid: str
    """The same for all its life."""
    generation: int
    """Grows with every change of the manifest."""
    source: str
    """``apply``, or ``directory:PATH``."""
    revision: str
    """Digest of the files it came with."""
    creation_timestamp: str
    """When it was stored first (RFC 3339)."""
    deletion_timestamp: str | None = None
    """When its deletion began (RFC 3339)."""


class ResourceStatus(Output):
    """What salvus knows of a resource."""

    machines: tuple[str, ...]
    """Names of the machines it is on."""
    conditions: tuple[ConditionOutput, ...]
    """The first is ``Ready``."""
    facts: Mapping[str, str]
    """What machines told of it."""
    allocations: Mapping[str, str]
    """What the controller decided for it."""


class ResourceOutput(Output):
    """One resource of ``get``."""

    api_version: Literal["salv.us/v1"]
    """The version of the words."""
    kind: str
    """What it is."""
    metadata: ResourceMetadata
    """Who it is."""
    spec: Mapping[str, Any]
    """What is wanted: see ``salvusctl schema KIND``."""
    status: ResourceStatus
    """What is known."""


class ResourceList(Output):
    """``get``: always a list, also of one."""

    api_version: Literal["salv.us/v1"] = "salv.us/v1"
    """The version of the words."""
    kind: Literal["List"] = "List"
    """What this is."""
    items: tuple[ResourceOutput, ...]
    """The resources, by kind and name."""


class Pass(Output):
    """The last pass over a machine that did or found something."""

    machine: str
    """Which."""
    result: str
    """In one word."""
    at: str
    """When it began (RFC 3339)."""
    next_at: str | None
    """When it is tried again (RFC 3339); null when nobody is to."""
    made: tuple[str, ...]
    """The changes that were made."""


class Reason(Output):
    """``why``: what one resource waits for."""

    resource: str
    """``Kind/name``."""
    ready: ConditionOutput
    """The summary."""
    conditions: tuple[MachineCondition, ...]
    """The conditions that are not True, of each machine."""
    passes: tuple[Pass, ...]
    """The last pass over each of its machines."""
    controller: str
    """Who works on the fleet now; empty for nobody."""
    help: tuple[str, ...]
    """Commands that help."""


class Reasons(Output):
    """``why``."""

    items: tuple[Reason, ...]
    """One for each resource."""


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
    """In CamelCase."""
    message: str
    """A sentence."""


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
    verb: Literal["created", "configured", "moved"]
    """In one word."""


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
    unknown: int
    """Items of which nothing is known."""
    unreachable: int
    """Machines that could not be asked."""
    waiting: int
    """Resources that wait."""


class Diff(Output):
    """``diff`` and ``apply --dry-run``."""

    resources: tuple[ResourceDiff, ...]
    """Resources that the manifests would make or change; unchanged ones are left out."""
    machines: tuple[MachineDiffOutput, ...]
    """All machines of the fleet, by name."""
    totals: Totals
    """All machines together."""


SCHEMAS: Mapping[str, type[Output]] = {
    "diff": Diff,
    "events": Events,
    "get": ResourceList,
    "validate": Validation,
    "why": Reasons,
}
"""The outputs by verb."""
