"""All resources together, and the checks that need more than one of them."""

from __future__ import annotations

import difflib
import importlib
import pathlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

import resources
from resources.base import MOVED_FROM, AnyKind, AnyResource, MachineKind, Name, Path, Problem, Selector

_NAME: TypeAdapter[str] = TypeAdapter(Name)


@cache
def kinds() -> Mapping[str, AnyKind]:
    """All kinds by name: every module in ``resources/`` that ends with ``KIND = …``."""
    files = (file for folder in resources.__path__ for file in pathlib.Path(folder).glob("*.py"))
    # Told by the text: every command would take longer if all of ``resources/`` were imported to look for it.
    names = [file.stem for file in files if b"\nKIND = " in file.read_bytes()]
    found = [importlib.import_module(f"resources.{name}").KIND for name in names]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)}


def machine_named(ref: str) -> str:
    """The name of the machine that ``Kind/name`` is; empty for what is none, also of a kind that nobody knows."""
    kind, _, name = ref.partition("/")
    return name if kind in kinds() and kinds()[kind].is_machine else ""


def find_kind(word: str) -> AnyKind | None:
    """The kind a user means by ``VirtualMachine``, ``virtualmachines`` or ``vm``, in any case; None without one."""
    for kind in kinds().values():
        if word.lower() in {kind.name.lower(), kind.plural.lower(), *kind.short}:
            return kind
    return None


def no_kind(word: str) -> str:
    """What to say of a word that means no kind: the one that was probably meant, and which there are."""
    words = {w.lower(): kind.name for kind in kinds().values() for w in (kind.name, kind.plural, *kind.short)}
    near = difflib.get_close_matches(word[:63].lower(), words, n=1, cutoff=0.65)
    meant = f"did you mean {words[near[0]]!r}? There" if near else "there"
    return f"there is no kind {word[:63]!r}; {meant} are: {', '.join(kinds())}"


@dataclass(frozen=True)
class Fleet:
    """A whole fleet, frozen: the resources of all kinds, by name."""

    by_kind: Mapping[str, Mapping[str, AnyResource]] = field(default_factory=dict)
    _selected: dict[tuple[str, str], tuple[AnyResource, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of_resources(cls, items: Iterable[AnyResource]) -> Fleet:
        """A fleet of these resources; of two with one name the last counts (``load`` refuses them)."""
        by_kind: dict[str, dict[str, AnyResource]] = defaultdict(dict)
        for resource in sorted(items, key=lambda r: (r.kind, r.name)):
            by_kind[resource.kind][resource.name] = resource
        return cls(dict(by_kind))

    def __iter__(self) -> Iterator[AnyResource]:
        for members in self.by_kind.values():
            yield from members.values()

    def get(self, kind: str, name: str) -> AnyResource | None:
        """The resource, or None."""
        return self.by_kind.get(kind, {}).get(name)

    def of(self, kind: str) -> tuple[AnyResource, ...]:
        """All resources of a kind, by name."""
        return tuple(self.by_kind.get(kind, {}).values())

    def select(self, kind: str, selector: Selector) -> tuple[AnyResource, ...]:
        """The resources of a kind whose labels match, by name.

        Kept: what a thousand machines ask of a thousand others is otherwise most of the time that lowering takes.
        """
        key = (kind, selector.model_dump_json())
        if key not in self._selected:
            self._selected[key] = tuple(r for r in self.of(kind) if selector.matches(r.metadata.labels))
        return self._selected[key]

    @property
    def machine_kinds(self) -> tuple[str, ...]:
        """Names of the kinds that are machines."""
        return tuple(name for name, kind in kinds().items() if kind.is_machine)

    def machine(self, name: str) -> AnyResource | None:
        """The machine of that name, whatever its kind, or None."""
        return next((found for kind in self.machine_kinds if (found := self.get(kind, name))), None)

    def machines(self) -> tuple[AnyResource, ...]:
        """All machines."""
        return tuple(resource for kind in self.machine_kinds for resource in self.of(kind))

    @cached_property
    def over(self) -> Mapping[str, tuple[AnyResource, ...]]:
        """The machines that are reached over another one (``spec.ssh.via``), by its name."""
        found: defaultdict[str, list[AnyResource]] = defaultdict(list)
        for machine in self.machines():
            if machine.spec.ssh.via:
                found[machine.spec.ssh.via].append(machine)
        return {name: tuple(behind) for name, behind in found.items()}


def machine_kind(resource: AnyResource) -> MachineKind[Any]:
    """The kind of a machine resource. Raises TypeError for one that is no machine."""
    kind = kinds()[resource.kind]
    if not isinstance(kind, MachineKind):
        raise TypeError(f"{resource.ref} is not a machine")
    return kind


# Names that may be written where nothing could be read; None: any name may.
Elsewhere = Collection[str] | None


def check(fleet: Fleet, elsewhere: Elsewhere = ()) -> list[Problem]:
    """Everything that is wrong between resources: dangling references, double machine names, what kinds check.

    The names ``elsewhere`` are not said to dangle.
    """
    problems = list(_double_machines(fleet))
    for kind in kinds().values():
        problems.extend(kind.check_together(fleet))
    for resource in fleet:
        problems.extend(check_one(resource, fleet, elsewhere))
    problems.extend(_moved_twice(fleet))
    return problems


def warnings(fleet: Fleet) -> list[Problem]:
    """What is allowed, and hardly meant, in a fleet in which nothing is wrong."""
    return [problem for kind in kinds().values() for problem in kind.warnings(fleet)]


def check_one(resource: AnyResource, fleet: Fleet, elsewhere: Elsewhere = ()) -> Iterator[Problem]:
    """What is wrong with one resource among the others."""
    kind = kinds()[resource.kind]
    if elsewhere is not None:
        yield from _dangling(resource, kind, fleet, elsewhere)
    yield from _moved(resource, fleet)
    if resource.whole:
        yield from kind.check(resource, fleet)


def _dangling(resource: AnyResource, kind: AnyKind, fleet: Fleet, elsewhere: Collection[str]) -> Iterator[Problem]:
    for reference in kind.references(resource):
        # Without a name: of a resource that is not whole.
        if not reference.name or reference.name in elsewhere:
            continue
        if any(fleet.get(k, reference.name) for k in reference.kinds):
            continue
        known = [r.name for k in reference.kinds for r in fleet.of(k)]
        yield Problem(
            resource.ref,
            reference.path,
            f"there is no {' or '.join(reference.kinds)} named {reference.name!r}"
            + did_you_mean(reference.name, known),
        )


_MOVED: Path = ("metadata", "annotations", MOVED_FROM)


def _moved(resource: AnyResource, fleet: Fleet) -> Iterator[Problem]:
    """The name that a resource had before must be one, and no other resource may have it now."""
    before = resource.moved_from
    if before is None:
        return
    if not is_name(before):
        yield Problem(
            resource.ref, _MOVED, f"{before!r} is no name; write the name alone that this {resource.kind} had"
        )
    elif before == resource.name:
        yield Problem(resource.ref, _MOVED, "is this resource's own name; write the one that it had before")
    elif fleet.get(resource.kind, before) is not None:
        message = f"{resource.kind}/{before} is still in the manifests; take it out, as this resource is what it was"
        yield Problem(resource.ref, _MOVED, message)


def _moved_twice(fleet: Fleet) -> Iterator[Problem]:
    first: dict[tuple[str, str], AnyResource] = {}
    for resource in fleet:
        if resource.moved_from is not None:
            other = first.setdefault((resource.kind, resource.moved_from), resource)
            if other is not resource:
                message = f"{other.ref} was {resource.moved_from!r} too; only one can have been"
                yield Problem(resource.ref, _MOVED, message)


def is_name(value: object) -> bool:
    """Whether a resource can have this name."""
    try:
        return bool(_NAME.validate_python(value))
    except ValidationError:
        return False


def _double_machines(fleet: Fleet) -> Iterator[Problem]:
    seen: dict[str, AnyResource] = {}
    for machine in fleet.machines():
        other = seen.setdefault(machine.name, machine)
        if other is not machine:
            yield Problem(
                machine.ref,
                ("metadata", "name"),
                f"{other.ref} has this name already; machines of all kinds share one space of names",
            )


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'web01'?`` or, with nothing near, what is allowed (at most ten); empty without candidates."""
    names = sorted(set(allowed))
    if near := difflib.get_close_matches(word, names, n=1):
        return f"; did you mean {near[0]!r}?"
    if not names:
        return ""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"; there are: {', '.join(names[:10])}{more}"
