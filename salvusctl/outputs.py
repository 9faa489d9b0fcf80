"""What ``-o json`` prints, as models: their JSON Schemas are in ``docs/schemas`` and stay stable.

Of resources and of plans in ``resource_outputs`` and ``plan_outputs``.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict

from resources.base import Model
from resources.errors import ManifestError


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
    warnings: tuple[ManifestFault, ...]
    """What is allowed, and hardly meant; nothing while something is wrong."""


class EventOutput(Output):
    """Something that happened; repeats are counted."""

    resource: str
    """``Kind/name``; empty for the whole fleet."""
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
    plan: tuple[str, ...]
    """Of ``RolledBack``: what the machine put back, in lines, as in conditions."""


class Events(Output):
    """``events``, oldest first."""

    items: tuple[EventOutput, ...]
    """The events."""
