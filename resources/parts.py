"""As much of a wrong manifest as is right: checks between resources go on with it, so that no error hides another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from resources.base import AnyResource, Metadata, Model, Resource
from resources.fleet import is_name, kinds
from resources.yaml12 import Plain


def part_of(value: Plain) -> AnyResource | None:
    """The resource without its wrong fields; None when it cannot be told which one it is.

    A wrong field has its default. One without a default is None, or, if it holds fields, what is right of them.
    """
    if not isinstance(value, dict) or (kind := kinds().get(str(value.get("kind")))) is None:
        return None
    metadata: Metadata = _model(Metadata, value.get("metadata"))
    # Not the type's word for it: what has no default may be None here.
    if not is_name(metadata.name):
        return None
    return Resource(kind.name, metadata, _model(kind.spec, value.get("spec")), whole=False)


def _model(model: type[Model], value: Plain) -> Any:
    written = value if isinstance(value, dict) else {}
    right: dict[str, Any] = {}
    for name, (type_, adapter) in _fields(model).items():
        info = model.model_fields[name]
        key = info.alias or name
        part = _part(type_, adapter, written.get(key))
        if part is not None or info.is_required():
            right[key] = part
    return model.model_construct(**right)


def _part(type_: object, adapter: TypeAdapter[object], value: Plain) -> object:
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        pass
    if isinstance(type_, type) and issubclass(type_, Model):
        return _model(type_, value)
    if get_origin(type_) is tuple and isinstance(value, list):
        # Every entry keeps its position, by which errors are placed.
        entry, _ = get_args(type_)
        return tuple(_part(entry, _adapter(entry), one) for one in value)
    return None


@cache
def _fields(model: type[Model]) -> Mapping[str, tuple[object, TypeAdapter[object]]]:
    """The fields' types, without and with what is asked of them further."""
    return {name: (info.annotation, _adapter(_whole_type(info))) for name, info in model.model_fields.items()}


def _whole_type(info: FieldInfo) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


@cache
def _adapter(type_: Any) -> TypeAdapter[object]:
    return TypeAdapter(type_)
