"""Items as text and back: what the inventory keeps of an item, so that it can be deleted when no manifest wants it."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

import drivers.items
from drivers.base import Item, SalvusError


@cache
def item_types() -> Mapping[str, type[Item]]:
    """All item types by name: every frozen dataclass in ``drivers/items`` that is an Item."""
    modules = (importlib.import_module(f"drivers.items.{m.name}") for m in pkgutil.iter_modules(drivers.items.__path__))
    return {
        value.__name__: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Item) and dataclasses.is_dataclass(value)
    }


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(item_types()[name])


def dump(item: Item) -> str:
    """The item as JSON, without what it ``forgets``."""
    empty = {name: type(getattr(item, name))() for name in item.forgets}
    bare: Any = dataclasses.replace(item, **empty) if empty and dataclasses.is_dataclass(item) else item
    return _adapter(item.type()).dump_json(bare).decode()


def restore(type_: str, text: str) -> Item:
    """The item that ``dump`` wrote. Raises SalvusError for a type or text that this version does not know."""
    if type_ not in item_types():
        raise SalvusError(
            f"the inventory has an item of type {type_!r}, which this version of salvus does not know",
            hint="run the version that wrote it, or a newer one",
        )
    try:
        item: Item = _adapter(type_).validate_json(text)
    except ValidationError as error:
        raise SalvusError(f"the inventory's note of a {type_} cannot be read: {error}") from error
    return item
