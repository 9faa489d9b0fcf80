"""Between documents (what a user writes, what the store holds) and resources: the envelope around every kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, create_model

from resources import fleet as fleets
from resources.base import API_VERSION, AnyKind, AnyResource, Metadata, Model, Path, Resource
from resources.errors import ManifestError, field_name
from resources.sentences import Wrong, wrongs

if TYPE_CHECKING:
    from resources.yaml12 import Plain

Document = dict[str, object]


class Manifest(Model):
    """What is around every kind's ``spec``."""

    api_version: Literal["salv.us/v1"]
    """The version of the words below."""
    kind: str
    """What the resource is."""
    metadata: Metadata
    """Who the resource is."""
    spec: Model
    """What is wanted."""


@cache
def manifest_model(kind: AnyKind) -> type[Manifest]:
    """The model of a whole manifest of a kind."""
    return create_model(
        kind.name,
        __base__=Manifest,
        __doc__=kind.spec.__doc__,
        kind=(str, Field(json_schema_extra={"const": kind.name}, description="What the resource is.")),
        spec=(kind.spec, Field(description="What is wanted.")),
    )


def resource_or_wrongs(value: Plain) -> AnyResource | list[Wrong]:
    """A document as a resource, or everything that is wrong with it."""
    if not isinstance(value, dict):
        return [Wrong((), "a manifest must be a mapping with apiVersion, kind, metadata and spec")]
    kind = _kind(value)
    if isinstance(kind, Wrong):
        return [wrong for wrong in (_api_version(value), kind) if wrong]
    model = manifest_model(kind)
    try:
        # By way of JSON: strict there means that texts are no numbers, yet lists are tuples and texts are enums.
        manifest = model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return wrongs(error, value, model)
    return Resource(kind.name, manifest.metadata, manifest.spec)


def _api_version(value: Mapping[str, Plain]) -> Wrong | None:
    if value.get("apiVersion") == API_VERSION:
        return None
    return Wrong(("apiVersion",), f"must be {API_VERSION}")


def _kind(value: Mapping[str, Plain]) -> AnyKind | Wrong:
    name = value.get("kind")
    if name is None:
        return Wrong(("kind",), f"is missing; there are: {', '.join(fleets.kinds())}")
    if not isinstance(name, str):
        return Wrong(("kind",), "must be text")
    if (kind := fleets.kinds().get(name)) is None:
        return Wrong(("kind",), fleets.no_kind(name))
    return kind


def written_name(value: Plain) -> tuple[str, str] | None:
    """Kind and name of a document that may be wrong otherwise; None when even these cannot be read."""
    if not isinstance(value, dict) or not isinstance(metadata := value.get("metadata"), dict):
        return None
    kind, name = value.get("kind"), metadata.get("name")
    return (kind, name) if isinstance(kind, str) and isinstance(name, str) else None


def resource_of(document: Mapping[str, object]) -> AnyResource:
    """A stored document as a resource. Raises ManifestError, naming the resource, for the first thing wrong."""
    value: Plain = json.loads(json.dumps(document))
    found = resource_or_wrongs(value)
    if isinstance(found, Resource):
        return found
    name = "/".join(written_name(value) or ("a stored document",))
    first = found[0]
    raise ManifestError(f"{first.what} (in {name})", field=field_name(first.path))


def document_of(resource: AnyResource) -> Document:
    """A resource as JSON-able data, in camelCase: only what was written, so that new defaults make no change."""
    metadata: object = resource.metadata.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec: object = resource.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"apiVersion": API_VERSION, "kind": resource.kind, "metadata": metadata, "spec": spec}


def nearest(positions: Mapping[Path, tuple[int, int]], path: Path) -> tuple[int, int]:
    """Line and column of a field, or of the nearest one around it that is written."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, (1, 1))
