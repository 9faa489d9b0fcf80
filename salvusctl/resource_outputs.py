"""What ``get`` and ``why`` print of resources with ``-o json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from salvusctl.outputs import Output
from salvusctl.pause_outputs import PauseOutput


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
    plan: tuple[str, ...] = ()
    """Of ``RolledBack``: what the machine put back, in lines: which item, and of each field from what to what; secrets
    masked."""


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
    """``apply``, ``directory:PATH``, or ``git:URL#BRANCH:PATH``."""
    revision: str
    """What it came with when it last changed: the commit in git, else a digest of the files."""
    written_by: str
    """Who wrote it, or began its deletion, as ``user@host``; empty where nobody knows."""
    creation_timestamp: str
    """When it was stored first (RFC 3339)."""
    deletion_timestamp: str | None = None
    """When its deletion began (RFC 3339)."""


class ResourceStatus(Output):
    """What salvus knows of a resource."""

    machines: tuple[str, ...]
    """Names of the machines it is on."""
    states: Mapping[str, str]
    """How its unit or domain was last seen, by machine: ``running``, ``stopped``, ``absent``, ``unknown``, or the
    machine's own word (``failed``, ``paused``); empty for what has none."""
    paused: tuple[PauseOutput, ...]
    """What holds its changes on all its machines; pauses of single machines are shown with these."""
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
    paused: tuple[PauseOutput, ...]
    """What holds changes of it, or on any of its machines."""
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
