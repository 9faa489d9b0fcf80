"""``spec.machines``: on which machines a resource is, by names or by labels."""

from __future__ import annotations

from collections.abc import Iterator

from resources.base import AnyResource, Model, Name, Path, Problem, Reference, Requirement, Selector
from resources.fleet import Fleet
from resources.world import World


class Targets(Model):
    """Machines, by names or by labels; hosts and virtual machines alike."""

    names: tuple[Name, ...] | None = None
    """The machines' names."""
    selector: Selector | None = None
    """Labels that the machines have; an empty selector is all machines."""

    def __str__(self) -> str:
        """In a few words, for people; labels as kubectl writes them."""
        return ", ".join(self.names or ()) if self.selector is None else shown(self.selector)

    def references(self, path: Path) -> Iterator[Reference]:
        """The machines named, for the check that they are there; ``path`` is where this field stands."""
        for position, name in enumerate(self.names or ()):
            yield Reference((*path, "names", position), ("Host", "VirtualMachine"), name)

    def problems(self, ref: str, path: Path) -> Iterator[Problem]:
        """Both or neither of the ways written, or one machine twice."""
        if (self.names is None) == (self.selector is None):
            yield Problem(ref, path, "write either names or selector, as in: machines: {selector: {matchLabels: {…}}}")
        for position, name in enumerate(self.names or ()):
            if name in (self.names or ())[:position]:
                yield Problem(ref, (*path, "names", position), f"{name!r} is there twice")

    def select(self, world: World) -> tuple[AnyResource, ...]:
        """The machines that are there, by name."""
        if self.selector is not None:
            found = world.select_machines(self.selector)
        else:
            found = tuple(m for name in self.names or () if (m := world.machine(name)) is not None)
        return tuple(sorted(found, key=lambda machine: machine.name))

    def includes(self, machine: AnyResource) -> bool:
        """Whether the machine is one of them: told by it alone, so that no other is looked at."""
        if self.selector is not None:
            return self.selector.matches(machine.metadata.labels)
        return machine.name in (self.names or ())

    def names_in(self, fleet: Fleet) -> tuple[str, ...]:
        """The machines' names, without noting what was read: for checks of a whole fleet."""
        if self.selector is None:
            return self.names or ()
        return tuple(m.name for kind in fleet.machine_kinds for m in fleet.select(kind, self.selector))


def shown(selector: Selector) -> str:
    """A selector as kubectl writes it: ``role=web,tier notin (old)``; ``all`` for the empty one."""
    exact = (f"{key}={value}" for key, value in selector.match_labels.items())
    return ",".join((*exact, *map(_shown, selector.match_expressions))) or "all"


def _shown(requirement: Requirement) -> str:
    key, values = requirement.key, f"({', '.join(requirement.values)})"
    match requirement.operator:
        case "In":
            return f"{key} in {values}"
        case "NotIn":
            return f"{key} notin {values}"
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"


def parse_selector(text: str) -> Selector:
    """``role=web,tier!=old,ssd,!broken`` as kubectl reads it. Raises ValueError (pydantic's for impossible labels)."""
    exact: dict[str, str] = {}
    expressions: list[dict[str, object]] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        if "!=" in term:
            key, _, value = term.partition("!=")
            expressions.append({"key": key.strip(), "operator": "NotIn", "values": [value.strip()]})
        elif "=" in term:
            key, _, value = term.replace("==", "=", 1).partition("=")
            exact[key.strip()] = value.strip()
        elif term.startswith("!"):
            expressions.append({"key": term[1:].strip(), "operator": "DoesNotExist"})
        else:
            expressions.append({"key": term, "operator": "Exists"})
    return Selector.model_validate({"matchLabels": exact, "matchExpressions": expressions})
