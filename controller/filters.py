"""The packet filters that salvus made on a machine, and taking them away by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from controller import by_hand
from controller.session import Session
from controller.store.records import Event
from drivers.base import Absent, Change, Driver, Failed, Grade, Item, SalvusError, Unknown, Verb
from drivers.items.nft_table import NftTable
from drivers.items.rules import RuleSet
from drivers.items.ufw_rules import UfwRules
from resources.base import AnyResource

_UNDONE = "nothing was removed"
# Item type → what is taken away of it, and what is there then.
WORDS = {
    NftTable.type(): "table inet salvus of nftables, and the unit that loads it at boot",
    UfwRules.type(): "the rules of salvus in ufw; its defaults, and whether it is enabled, are as before salvus",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What salvus made on a machine that no Firewall selects any more; ``found`` says which."""

    found: Sequence[Item]
    _session: Session
    _machine: AnyResource
    _driver: Driver

    def remove(self) -> None:
        """Takes them away; under the dead-man switch, where rules of others remain. Raises DriverError, Conflict."""
        changes = [Change(item, Verb.DELETE, (), Grade.LIVE) for item in self.found]
        by_hand.make(self._session, self._machine.name, self._driver, changes, "not everything was removed")
        now, text = time.time(), f"removed by hand: {'; '.join(WORDS[item.type()] for item in self.found)}"
        told = Event(self._machine.ref, self._machine.name, "Normal", "FirewallRemoved", text, now, now)
        self._session.ledger.tell([told])


@contextmanager
def opened(session: Session, machine: AnyResource) -> Iterator[Filters]:
    """What is on the machine now. Raises SalvusError where a Firewall selects it, or a pause is in force; Failed when
    the machine does not tell.
    """
    with by_hand.opened(session) as (view, machines):
        firewalls = [one.ref for one in view.fleet.of("Firewall") if one.spec.machines.includes(machine)]
        if firewalls:
            those = ", ".join(firewalls)
            raise SalvusError(
                f"{those} selects {machine.name}: what is removed would be made again",
                hint=f"take {machine.name} out of spec.machines, or delete {those}: then controllers remove it",
            )
        by_hand.not_paused(session, machine.name, [machine.ref], _UNDONE)
        driver = machines.driver(machine.name, view.lowered)
        if driver is None:
            raise Failed(f"{machine.name}: {_UNDONE}: the way to it is not known yet", machine=machine.name)
        yield Filters(_found(driver, machine.name), session, machine, driver)


def _found(driver: Driver, machine: str) -> Sequence[Item]:
    items = (NftTable(RuleSet()), UfwRules(RuleSet()))
    seen = {key: one.state for key, one in driver.observe(items).items()}
    for state in seen.values():
        if isinstance(state, Unknown):
            raise Failed(f"{machine} does not tell what is there, so {_UNDONE}: {state.reason}", machine=machine)
    return [item for item in items if not isinstance(seen[item.key], Absent)]
