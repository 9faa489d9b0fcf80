"""What a user may write, as data: the JSON Schema of a kind, and one field explained. Both come from the docstrings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from resources import fleet
from resources.base import AnyKind
from resources.envelope import manifest_model
from resources.errors import ManifestError
from resources.schema_tree import Node, root_node
from resources.sentence_table import similar

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """A field inside another, in short; ``description`` is the first sentence."""

    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One field, or a whole kind.

    Attributes:
        path: as in ``VirtualMachine.spec.interfaces.mac``.
        type: ``size``, ``one of Always, Halted``, ``list of Interface``, ``mapping of text`` …
        default: as JSON; empty when there is none, or when the fields inside have their own.
        allowed: all values there are; empty when they are not a few.
        words: what is allowed of a text; or empty.
        fields: what is inside, in the order of the documentation.
    """

    path: str
    type: str
    required: bool
    default: str
    allowed: tuple[str, ...]
    words: str
    examples: tuple[str, ...]
    description: str
    fields: tuple[FieldSummary, ...]


def schema(kind: AnyKind) -> dict[str, object]:
    """The JSON Schema (2020-12) of the kind's manifests, for editors and other tools."""
    return {"$schema": DIALECT, **root_node(manifest_model(kind)).schema}


def explain(words: str) -> Explanation:
    """What a kind, or a field of it, means: ``vm``, ``vm.spec.memory``, ``VirtualMachine.interfaces[0].mac``.

    ``spec`` may be left out, and so may positions in lists. Raises ManifestError for a kind or field that there is not.
    """
    word, *path = re.sub(r"\[[0-9]*\]", "", words).split(".")
    kind = fleet.find_kind(word)
    if kind is None:
        raise ManifestError(fleet.no_kind(word), hint="salvusctl explain lists them with their short names")
    root = root_node(manifest_model(kind))
    if path and path[0] not in root.fields():
        path = ["spec", *path]
    around, node, gone = root, root, [kind.name]
    for name in path:
        around, found = _content(node), _content(node).field(name)
        if found is None:
            there = ".".join(gone)
            raise ManifestError(
                f"{there} has no field {name!r}{similar(name, around.fields())}",
                hint=f"salvusctl explain {there} shows them all",
            )
        node = found
        gone.append(name)
    return _explanation(".".join(gone), node, required=len(gone) > 1 and around.required(gone[-1]))


def _content(node: Node) -> Node:
    """The node, or what a list has as entries."""
    while (entry := node.entry()) is not None:
        node = entry
    return node


def _explanation(path: str, node: Node, *, required: bool) -> Explanation:
    content = _content(node)
    fields = tuple(
        FieldSummary(name, field.type_name(), content.required(name), _first_sentence(field.description))
        for name in content.fields()
        if (field := content.field(name)) is not None
    )
    return Explanation(
        path=path,
        type=node.type_name(),
        required=required,
        default="" if node.fields() else node.default,
        allowed=content.allowed,
        # "a size: a whole number …": how it is called is its type already.
        words=content.words.partition(": ")[2] or content.words,
        examples=content.examples,
        description=node.description,
        fields=fields,
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0].replace("\n", " ")
