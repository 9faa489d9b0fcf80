"""Between words and sites: whom a sentence speaks of, and whether it is true. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from resources.base import AnyResource
from resources.fleet import did_you_mean
from resources.reach import THE_WORLD, WORLD, Answer, Site, Trial, reach, site_of
from resources.reach_claims import Claim, Target
from resources.world import World


@dataclass(slots=True)
class Ends:
    """The machines that sentences speak of, each looked at once."""

    world: World
    _sites: dict[str, Site] = field(default_factory=dict)

    def of(self, subject: str) -> tuple[Site, ...]:
        """A machine, all machines of a service, or the world.

        Raises ValueError for what is none or both, and for machines without a known address.
        """
        if subject == WORLD:
            return (THE_WORLD,)
        kind, _, name = subject.rpartition("/")
        machine = self.world.machine(name) if kind != "service" else None
        service = self.world.get("Service", name) if kind != "machine" else None
        if machine is not None and service is not None:
            raise ValueError(f"{name!r} is a machine and a Service; write machine/{name} or service/{name}")
        if service is not None:
            found: tuple[AnyResource, ...] = service.spec.machines.select(self.world)
            if not found:
                raise ValueError(f"Service/{name} is on no machine: nothing can be said of it")
            return tuple(map(self._site, found))
        if machine is None:
            fleet = self.world.fleet
            known = {WORLD, *(one.name for one in (*fleet.machines(), *fleet.of("Service")))}
            raise ValueError(f"there is no machine or Service named {name!r}{did_you_mean(name, known)}")
        return (self._site(machine),)

    def _site(self, machine: AnyResource) -> Site:
        if machine.name not in self._sites:
            found = site_of(machine, self.world)
            if not found.addresses:
                raise ValueError(f"no IP address of {machine.ref} is known: nothing can be said of it")
            self._sites[machine.name] = found
        return self._sites[machine.name]

    def pairs(self, source: str, target: Target) -> Iterator[tuple[Site, Site]]:
        """Who is to reach whom; a machine that is in both is not asked for itself. Raises ValueError."""
        sources, destinations = self.of(source), self.of(target.subject)
        alone = len(sources) == len(destinations) == 1
        for one in sources:
            for other in destinations:
                if alone or one.name != other.name:
                    yield one, other

    def answers(self, source: str, target: Target) -> Iterator[Answer]:
        """Of each pair. Raises ValueError."""
        for one, other in self.pairs(source, target):
            yield reach(one, other, target.port, target.protocol)


def broken(claim: Claim, ends: Ends) -> Answer | None:
    """The first pair of machines for which a sentence is not true; None when it holds. Raises ValueError."""
    answers = ends.answers(claim.source, claim.target)
    return next((answer for answer in answers if answer.reached == claim.never), None)


def told(answer: Answer) -> str:
    """``web03 (10.1.3.3) → cassandra01 (10.1.1.2), tcp 9042: out allow (…), in deny (…)``."""
    trial = answer.trial
    if trial is None:
        return f"{answer.source} and {answer.destination} have no addresses of the same IP version in one network"
    return f"{way(answer.source, answer.destination, trial)}: {decided(trial)}"


def way(source: str, destination: str, trial: Trial) -> str:
    """``web03 (10.1.3.3) → cassandra01 (10.1.1.2), tcp 9042``."""
    packet = trial.packet
    return f"{_named(source, packet.source)} → {_named(destination, packet.destination)}, {_what(trial)}"


def decided(trial: Trial) -> str:
    """``out allow (…), in deny (…)``."""
    out, into = trial.egress, trial.ingress
    return f"out {out.action} ({out.why}), in {into.action} ({into.why})"


def _named(name: str, address: str) -> str:
    return f"{name} ({address})" if address else name


def _what(trial: Trial) -> str:
    packet = trial.packet
    return f"{packet.protocol} {packet.port}" if packet.port else str(packet.protocol)
