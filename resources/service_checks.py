"""What can be wrong with services: in one manifest, and between several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from resources.base import AnyResource, Path, Problem, Reference, Resource
from resources.fleet import Fleet
from resources.ports import twice
from resources.service_spec import PERILOUS, PathSpec, ServiceSpec

# A field that is wrong, and why.
Finding = tuple[Path, str]


def alone(service: Resource[ServiceSpec]) -> Iterator[Problem]:
    """Contradictions in one manifest."""
    spec = service.spec
    yield from spec.machines.problems(service.ref, ("spec", "machines"))
    for path, message in (*_unit(spec), *_files(spec), *_needs(spec), *_ports(spec), *_rollout(spec)):
        yield Problem(service.ref, ("spec", *path), message)


def _unit(spec: ServiceSpec) -> Iterator[Finding]:
    given = _ways(spec)
    for field in given[1:]:
        yield (field,), f"spec.{given[0]} is written too; write one of unit, unitName and command"
    command_only = {"user": spec.user, "workingDirectory": spec.working_directory, "environment": spec.environment}
    for field, value in command_only.items():
        if value and spec.command is None:
            yield (field,), "is of use with spec.command only; add it, or remove this"
    if not given:
        for field in ("state", "enabled"):
            if field in spec.model_fields_set:
                yield (field,), "is of use with one of spec.unit, unitName and command; add one, or remove this"


def _ways(spec: ServiceSpec) -> tuple[str, ...]:
    """The fields that give the service a unit; one, when all is well."""
    ways = (("unit", spec.unit), ("command", spec.command), ("unitName", spec.unit_name))
    return tuple(field for field, value in ways if value is not None)


def _files(spec: ServiceSpec) -> Iterator[Finding]:
    for position, file in enumerate(spec.files):
        if (file.content is None) == (file.template is None):
            yield ("files", position), "write either content or template"


def _needs(spec: ServiceSpec) -> Iterator[Finding]:
    for position, need in enumerate(spec.needs):
        if len(need.named()) != 1:
            yield ("needs", position), "write one of service, virtualMachine and host"


def _ports(spec: ServiceSpec) -> Iterator[Finding]:
    yield from twice(("ports",), [port.name for port in spec.ports])
    for position, port in enumerate(spec.ports):
        if (port.port, port.protocol) in [(other.port, other.protocol) for other in spec.ports[:position]]:
            yield ("ports", position, "port"), f"{port.port}/{port.protocol} is there already"
    if spec.clients is not None and not spec.ports:
        yield ("clients",), "is of use with spec.ports only; add it, or remove this"


def _rollout(spec: ServiceSpec) -> Iterator[Finding]:
    if "rollout" in spec.model_fields_set and not spec.perilous:
        yield ("rollout",), f"is of use with files under {', '.join(PERILOUS)} only; remove this"


def template_references(spec: ServiceSpec) -> Iterator[Reference]:
    """The services that templates name with a text, as in ``service("hub")``."""
    for position, file in enumerate(spec.files):
        if file.template is not None:
            # Here, because Jinja takes its time, and few manifests have templates.
            from resources.templates import named

            for name in named(file.template, "service"):
                yield Reference(("spec", "files", position, "template"), ("Service",), name)


def together(fleet: Fleet) -> Iterator[Problem]:
    """Services that need each other in a circle; two that describe one file or unit of a machine."""
    yield from _circles(fleet)
    yield from _claims(fleet)


def _circles(fleet: Fleet) -> Iterator[Problem]:
    """One problem a circle, at the need that closes it."""
    needed = {s.name: {need.service for need in s.spec.needs if need.service} for s in fleet.of("Service")}
    while True:
        try:
            TopologicalSorter(needed).prepare()
        except CycleError as error:
            # graphlib lists every service before the one that needs it.
            circle: list[str] = error.args[1][::-1]
            yield _circle(fleet, circle)
            needed[circle[0]].discard(circle[1])
        else:
            return


def _circle(fleet: Fleet, circle: list[str]) -> Problem:
    service = fleet.by_kind["Service"][circle[0]]
    position = next(at for at, need in enumerate(service.spec.needs) if need.service == circle[1])
    message = f"the services need each other in a circle: {' → '.join(circle)}"
    return Problem(service.ref, ("spec", "needs", position, "service"), message)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A service describes something on its machines; ``shared`` is what must be equal for others to have it too."""

    service: AnyResource
    path: Path
    shared: PathSpec | None = None


def _claims(fleet: Fleet) -> Iterator[Problem]:
    claims: defaultdict[str, list[_Claim]] = defaultdict(list)
    # Without its wrong fields a service could claim what is not meant: a selector without labels selects all machines.
    for service in (one for one in fleet.of("Service") if one.whole):
        for what, claim in _claimed(service):
            claims[what].append(claim)
    # Most paths are described once: only for the others it matters on which machines that is.
    for what, claimants in claims.items():
        if len(claimants) > 1:
            yield from _collisions(what, claimants, fleet)


def _claimed(service: AnyResource) -> Iterator[tuple[str, _Claim]]:
    spec: ServiceSpec = service.spec
    for position, directory in enumerate(spec.directories):
        where: Path = ("spec", "directories", position, "path")
        yield f"the path {directory.path}", _Claim(service, where, shared=directory)
    for position, file in enumerate(spec.files):
        yield f"the path {file.path}", _Claim(service, ("spec", "files", position, "path"))
    for field in _ways(spec)[:1]:
        yield f"the unit {spec.unit_of(service.name)}", _Claim(service, ("spec", field))
        if (path := spec.unit_path(service.name)) is not None:
            yield f"the path {path}", _Claim(service, ("spec", field))


def _collisions(what: str, claimants: list[_Claim], fleet: Fleet) -> Iterator[Problem]:
    first: dict[str, _Claim] = {}
    for claim in claimants:
        for machine in claim.service.spec.machines.names_in(fleet):
            other = first.setdefault(machine, claim)
            if other is claim or (claim.shared is not None and claim.shared == other.shared):
                continue
            who = "this service" if other.service is claim.service else other.service.ref
            message = f"{who} describes {what} on {machine} already; only one may, or leave it to one of them"
            yield Problem(claim.service.ref, claim.path, message)
            break
