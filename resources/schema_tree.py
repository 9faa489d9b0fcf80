"""Walking a JSON Schema as pydantic writes it: what a field is, what it may be, which fields it has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from resources.base import Path
from resources.words import WORDS

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Node:
    """A place in a schema. ``root`` is the whole schema, for its ``$defs``; ``schema`` has no ``$ref`` at its top."""

    root: Schema
    schema: Schema

    def at(self, path: Path) -> Node | None:
        """The node of a field; None where the schema has none."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.entry() if isinstance(part, int) else node.field(part)
        return node

    def fields(self) -> tuple[str, ...]:
        """Names of the fields, of a mapping with fixed ones."""
        return tuple(name for option in self.options() for name in _mapping(option.schema.get("properties")))

    def field(self, name: str) -> Node | None:
        """A field, or the values of a mapping with free keys."""
        for option in self.options():
            if name in (properties := _mapping(option.schema.get("properties"))):
                return self._node(properties[name])
        free = self.values()
        return free if free is not None and not self.fields() else None

    def values(self) -> Node | None:
        """What a mapping with free keys has as values."""
        for option in self.options():
            patterns = _mapping(option.schema.get("patternProperties")).values()
            for free in (option.schema.get("additionalProperties"), *patterns):
                if isinstance(free, Mapping):
                    return self._node(free)
        return None

    def entry(self) -> Node | None:
        """What a list has as entries."""
        for option in self.options():
            if "items" in option.schema:
                return self._node(option.schema["items"])
        return None

    def options(self) -> tuple[Node, ...]:
        """The node itself, or what it may be one of; never ``null``."""
        choices = [*_sequence(self.schema.get("anyOf")), *_sequence(self.schema.get("oneOf"))]
        if not choices:
            return (self,)
        nodes = (self._node(choice) for choice in choices)
        return tuple(option for node in nodes if node.schema.get("type") != "null" for option in node.options())

    def required(self, name: str) -> bool:
        """Whether the field must be written."""
        return any(name in _sequence(option.schema.get("required")) for option in self.options())

    @property
    def allowed(self) -> tuple[str, ...]:
        """The values of an enumeration; empty for anything else."""
        constants = ((option.schema["const"],) for option in self.options() if "const" in option.schema)
        enumerations = (_sequence(option.schema.get("enum")) for option in self.options())
        values = (value for several in (*constants, *enumerations) for value in several)
        return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown (``writeOnly``)."""
        return self.schema.get("writeOnly") is True

    @property
    def examples(self) -> tuple[str, ...]:
        """Examples, as they are written."""
        return tuple(str(example) for example in _sequence(self._first("examples", [])))

    @property
    def words(self) -> str:
        """What is allowed of a text, as in "a size: a whole number with a unit"; or empty."""
        return str(self._first(WORDS, ""))

    @property
    def range(self) -> str:
        """``from 1 to 512``, of a number with both ends; or empty."""
        least, most = self._first("minimum", None), self._first("maximum", None)
        return "" if least is None or most is None else f"from {least} to {most}"

    @property
    def description(self) -> str:
        """The docstring."""
        return str(self._first("description", "")).strip()

    @property
    def default(self) -> str:
        """The default as JSON, or empty: there is none, or nothing."""
        default = self.schema.get("default")
        return "" if default is None else json.dumps(default, ensure_ascii=False)

    def type_name(self) -> str:
        """``size``, ``one of bios, efi``, ``whole number from 1 to 512``, ``list of Interface``, ``mapping of text``.

        Alternatives are joined by "or".
        """
        return " or ".join(dict.fromkeys(option.own_type() for option in self.options()))

    def own_type(self) -> str:
        """The name of its type when it is none of several."""
        if (entry := self.entry()) is not None:
            return f"list of {entry.type_name()}"
        if "properties" in self.schema:
            return str(self.schema.get("title", "mapping"))
        if (values := self.values()) is not None:
            return f"mapping of {values.type_name()}"
        if self.allowed:
            return "one of " + ", ".join(value or '""' for value in self.allowed)
        # Up to what is said of it further, without the article.
        called = re.sub("^an? |^the |[:,].*$", "", self.words)
        return called or f"{_TYPES.get(str(self.schema.get('type', '')), 'anything')} {self.range}".strip()

    def _first(self, keyword: str, default: object) -> object:
        """The keyword here, or else in the first alternative that has it."""
        if keyword in self.schema:
            return self.schema[keyword]
        return next((o.schema[keyword] for o in self.options() if keyword in o.schema), default)

    def _node(self, schema: object) -> Node:
        """A node with its reference followed; what stands beside ``$ref`` (description, default) comes first."""
        here = dict(_mapping(schema))
        while isinstance(ref := here.pop("$ref", None), str):
            here = {**_mapping(_mapping(self.root.get("$defs")).get(ref.rpartition("/")[2])), **here}
        return Node(self.root, here)


_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "array": "list",
}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


@cache
def root_node(model: type[BaseModel]) -> Node:
    """The schema of a model, made once."""
    # Docstrings have the double backticks of reStructuredText; users read Markdown.
    schema = json.loads(json.dumps(model.model_json_schema()).replace("``", "`"))
    return Node(schema, schema)
