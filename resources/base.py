"""What every kind has in common: the envelope a user writes, references, problems, and the protocol of a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StringConstraints, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from drivers.base import Grade, Item, SshTarget
from resources.docstrings import field_texts
from resources.words import Called

if TYPE_CHECKING:
    from resources.fleet import Fleet
    from resources.world import World

API_VERSION = "salv.us/v1"
MOVED_FROM = "salv.us/moved-from"

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_KEY = r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"

# What the patterns let through.
IN_WORDS = {
    _NAME: "lower-case letters, digits and '-', beginning and ending with no '-'",
    _VALUE: "letters, digits and . _ -, beginning and ending with a letter or digit",
    _KEY: "letters, digits and . _ -, beginning and ending with a letter or digit; a DNS name and '/' may come before",
}


# RFC 1123 label: a name can be a host name, a libvirt domain and a file name without being changed.
Name = Annotated[str, StringConstraints(pattern=_NAME, max_length=63), Called(f"a name: at most 63 {IN_WORDS[_NAME]}")]
LabelValue = Annotated[
    str, StringConstraints(pattern=_VALUE, max_length=63), Called(f"a label value: at most 63 {IN_WORDS[_VALUE]}")
]
LabelKey = Annotated[str, StringConstraints(pattern=_KEY, max_length=317), Called(f"a label key: {IN_WORDS[_KEY]}")]


class Model(BaseModel):
    """Base of everything in a manifest: frozen, camelCase on paper, unknown fields are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema with the texts under the fields, and with defaults as users write them.

        pydantic would read all texts at every start, and leaves ``10s`` as the number 10.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        texts = field_texts(cls)
        for name, info in cls.model_fields.items():
            shown = properties.get(info.alias, {})
            if name in texts and info.description is None:
                shown["description"] = texts[name]
            if shown.get("type") == "string" and isinstance(info.default, int):
                adapter: TypeAdapter[int] = TypeAdapter(Annotated[int, *info.metadata])
                shown["default"] = adapter.dump_python(info.default)
        return schema


class Metadata(Model):
    """Who a resource is."""

    name: Name
    """Unique among resources of its kind: a DNS label (RFC 1123)."""
    labels: Mapping[LabelKey, LabelValue] = {}
    """Key-value pairs that selectors match."""
    annotations: Mapping[LabelKey, str] = {}
    """Key-value pairs for tools; ``salv.us/moved-from`` names the resource this one was before."""


class Requirement(Model):
    """One condition of a selector, as in Kubernetes."""

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value is compared."""
    values: tuple[LabelValue, ...] = ()
    """The values for ``In`` and ``NotIn``."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil this condition."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class Selector(Model):
    """Which resources, by their labels; an empty selector matches all."""

    match_labels: Mapping[LabelKey, LabelValue] = {}
    """Labels that must be there with just these values."""
    match_expressions: tuple[Requirement, ...] = ()
    """Further conditions; all must hold."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil all conditions."""
        exact = all(labels.get(key) == value for key, value in self.match_labels.items())
        return exact and all(requirement.matches(labels) for requirement in self.match_expressions)


class Disruption(Model):
    """How much salvus may disturb to bring a change about."""

    ceiling: Literal["live", "reload", "restart", "reboot", "replace"] = "restart"
    """The highest grade of change that is made by itself; changes above wait, and say so."""

    @property
    def grade(self) -> Grade:
        """The ceiling as a grade."""
        return Grade[self.ceiling.upper()]


S = TypeVar("S", bound=Model)

# Where a field stands in a document: names and list positions from the top.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Resource(Generic[S]):
    """One manifest, validated.

    ``whole`` is False for what is wrong in itself: it has its right fields only, and checks between resources alone
    see it (see ``resources/parts.py``).
    """

    kind: str
    metadata: Metadata
    spec: S
    whole: bool = True

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name

    @property
    def ref(self) -> str:
        """``Kind/name``: how resources are named everywhere."""
        return f"{self.kind}/{self.name}"

    @property
    def moved_from(self) -> str | None:
        """The name this resource had before, if its manifest says so."""
        return self.metadata.annotations.get(MOVED_FROM)


AnyResource = Resource[Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that names another resource. One that names nothing is an error at load."""

    path: Path
    kinds: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in one resource: at which field, what, what is allowed, what to do."""

    ref: str
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What the changes of an item wait for that ``Item.gated`` names: a reason in CamelCase and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An item that a resource wants on a machine.

    Attributes:
        item: the item.
        after: keys of items on the same machine that must be right before this one is changed.
        owner: ``Kind/name`` of the resource that wants it; the resource itself unless said otherwise.
        gate: what its changes wait for; meanwhile what is there stays.
        tells: (``Kind/name``, what) → value: facts that are told as soon as all items that tell them are as wanted.
    """

    item: Item
    after: tuple[str, ...] = ()
    owner: str = ""
    gate: Gate | None = None
    tells: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """Something the controller decides once for a resource and keeps (DESIGN: Allocation).

    Attributes:
        what: its name, as in ``World.allocation(ref, what)``; ``POOL/FOR`` is taken out of a pool of the resource:
            nothing in it is given to two, whoever decides at the same time, nor ever again while the resource lives.
        allowed: the values it may have, none if it cannot be decided now; of one pool always the same ones. They may be
            more than fit in memory.
        exclusive: no two resources of the kind may have the same value: the first free one is taken. Otherwise the
            value that the fewest resources have, so that they spread.
        why_none: what to say when none of ``allowed`` can be had.
    """

    what: str
    allowed: Values
    exclusive: bool = False
    why_none: str = ""


class Values(Protocol):
    """Values in a fixed order, and whether one is among them."""

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, value: object, /) -> bool: ...


def pool_of(what: str) -> str:
    """The pool that an allocation is taken out of: ``address`` of ``address/web01``; empty when there is none."""
    pool, slash, _ = what.partition("/")
    return pool if slash else ""


class NotYet(Exception):
    """Raised while lowering: something needed is not known yet. The resource waits; others go on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Partly(NotYet):
    """Raised at the end of ``items``: what was given before is made, and the resource waits for the rest.

    ``whole``: all items were given, though not as they will be: those of before that are not among them are removed.
    """

    def __init__(self, reason: str, message: str, whole: bool = False) -> None:
        super().__init__(reason, message)
        self.whole = whole


class Invalid(Exception):
    """Raised while lowering: it will not work until the manifests change. The resource is stalled; others go on."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``salvusctl get``.

    Attributes:
        heading: in capitals.
        path: of the value in the document that ``get -o json`` prints; empty where the document has no such field.
            ``status.machines`` are the names of the machines that the resource is on.
        wide: shown with ``-o wide`` only.
    """

    heading: str
    path: Path
    wide: bool = False


class Kind(Generic[S]):
    """What salvus must know of one kind. One instance a file in ``resources/``, as ``KIND``; found by discovery."""

    name: ClassVar[str]
    plural: ClassVar[str]
    short: ClassVar[tuple[str, ...]] = ()
    spec: type[S]
    columns: ClassVar[tuple[Column, ...]] = ()
    is_machine: ClassVar[bool] = False
    # Others bring its items to machines, and these stay there as long as the resource does (an image).
    stays: ClassVar[bool] = False
    # All of the kind that are on a machine make one item there, and change together.
    as_one: ClassVar[bool] = False

    def references(self, resource: Resource[S]) -> Iterable[Reference]:
        """The fields that name other resources."""
        return ()

    def check(self, resource: Resource[S], fleet: Fleet) -> Iterable[Problem]:
        """Cross-checks of one resource that is whole. Dangling references are found without this."""
        return ()

    def check_together(self, fleet: Fleet) -> Iterable[Problem]:
        """Checks of all resources of the kind at once, in one walk: two that claim the same thing, circles.

        Some may not be ``whole``: what they lack must lead to no error.
        """
        return ()

    def warnings(self, fleet: Fleet) -> Iterable[Problem]:
        """What is allowed, and hardly meant: of a fleet in which nothing is wrong."""
        return ()

    def choices(self, resource: Resource[S], world: World) -> Iterable[Choice]:
        """What the controller must decide for the resource before it can be lowered (a virtual machine's host)."""
        return ()

    def machines(self, resource: Resource[S], world: World) -> Iterable[str]:
        """Names of the machines on which the resource has items."""
        return ()

    def runs_as(self, resource: Resource[S], machine: str, world: World) -> str:
        """Key of the item that runs on one of its machines while the resource does; empty for what does not run."""
        return ""

    def items(self, resource: Resource[S], machine: str, world: World) -> Iterable[Placed]:
        """The resource in machine words, for one machine. Raises NotYet while something it needs is not known."""
        return ()

    def ceiling(self, resource: Resource[S]) -> Grade:
        """The highest grade of change that is made without asking."""
        return Grade.RESTART

    def at_once(self, resource: Resource[S], machines: int) -> int | None:
        """On how many of its machines gated changes of it may be under way, after one has tried; None: on all."""
        return None

    def on_trial(self, resource: Resource[S]) -> str:
        """What is tried on one machine first, in text without spaces: another one is another revision."""
        return ""


AnyKind = Kind[Any]


class MachineKind(Kind[S]):
    """A kind whose resources are machines: items can be on them."""

    is_machine: ClassVar[bool] = True

    def target(self, resource: Resource[S], world: World) -> SshTarget:
        """How to reach it. Raises NotYet while that is not known (a VM without an address or a host key)."""
        raise NotImplementedError

    def address(self, resource: Resource[S]) -> str | None:
        """The address that its manifest gives it, for templates and checks; None when only the machine knows it."""
        return None

    def addresses(self, resource: Resource[S]) -> tuple[str, ...]:
        """All addresses that its manifest gives it, by which others see its packets come."""
        address = self.address(resource)
        return () if address is None else (address,)

    def answers(self, resource: Resource[S]) -> bool:
        """Whether it is meant to be on and reached by ssh: only then is it Ready when it is."""
        return True

    def hypervisor(self, resource: Resource[S]) -> bool:
        """Whether libvirt is to be asked on this machine."""
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource was written: file, line and column (from 1) of a field, for messages."""

    file: str
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def at(self, path: Path) -> str:
        """``file:line:column`` of the field, or of the nearest field around it that is written."""
        while path and path not in self.positions:
            path = path[:-1]
        line, column = self.positions.get(path, (1, 1))
        return f"{self.file}:{line}:{column}"
