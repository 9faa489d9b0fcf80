"""What is kept of the store in memory is what is in the store, however it came there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.store.base import Table
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from controller.store.mirror import Mirror
from controller.store.records import FLEET_PASS, Status

REFS = ("Service/a", "Service/b", "Host/m")
MACHINES = ("m", "n")
statuses = st.none() | st.sampled_from([Status(detail={"n": str(number)}) for number in range(3)])
writes = st.lists(st.tuples(st.sampled_from(REFS), st.sampled_from((FLEET_PASS, *MACHINES)), statuses), max_size=6)


def write(ledger: Ledger, ref: str, machine: str, status: Status | None) -> None:
    if machine:
        ledger.put_statuses(machine, {ref: status})
    elif status:
        ledger.put_placement(ref, status)
    else:
        ledger.store.write(Table.STATUS, ref, {}, [FLEET_PASS])


@given(st.lists(writes, max_size=5))
def test_a_mirror_that_followed_has_what_a_new_one_reads(rounds: list[list[tuple[str, str, Status | None]]]) -> None:
    ledger = Ledger(MemoryStore())
    followed, wanted = Mirror(ledger.store), dict[tuple[str, str], Status]()
    for several in rounds:
        for ref, machine, status in several:
            write(ledger, ref, machine, status)
            wanted.pop((ref, machine), None)
            if status:
                wanted[ref, machine] = status
        followed.refresh()
    new = Mirror(ledger.store)
    new.refresh()
    assert (followed.statuses, followed.said) == (new.statuses, new.said)
    assert {(ref, name): said for ref, by in new.statuses.items() for name, said in by.items()} == wanted
