"""Whole passes on a machine: from any start state and after any single fault it converges, and then nothing is written.

The machine has one item of every real type, wired as the kinds wire them, and some things that salvus left there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.lower import Lowered
from controller.plan import Circumstances, Owned
from controller.reconcile import Outcome, reconcile
from drivers.base import (
    Absent,
    Applied,
    Change,
    Drift,
    DriverError,
    Failed,
    Fenced,
    Fields,
    Grade,
    Item,
    Observation,
    Present,
    Rejected,
    State,
    Unknown,
    Unreachable,
    Verb,
    drift,
)
from drivers.items.codec import dump, item_types, restore
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.file_block import FileBlock
from drivers.items.file_set import FileSet
from drivers.items.host_key import HostKey
from drivers.items.hypervisor import Hypervisor
from drivers.items.image_file import ImageFile
from drivers.items.key_pair import KeyPair
from drivers.items.nft_table import NftTable
from drivers.items.package import Package
from drivers.items.rules import Action, Group, Rule, RuleSet
from drivers.items.seed import Seed
from drivers.items.system import System
from drivers.items.systemd_unit import SystemdUnit
from drivers.items.trash import Trash
from drivers.items.ufw_rules import UfwRules
from drivers.items.unit_files import UnitFiles
from drivers.items.volume import Volume
from drivers.simulated import SimulatedDriver, SimulatedFleet, SimulatedMachine, Timing
from tests.fast.domains import DOMAIN
from tests.fast.things import wanted

CEILING = Grade.REPLACE
OWNER, GONE = "Service/s", "Service/gone"

FOLDER = Directory("/srv/vms")
IMAGE = ImageFile("/srv/images/debian.qcow2", "/var/lib/images/debian.qcow2", "ab" * 32)
VOLUME = Volume("/srv/vms/web/root.qcow2", 2**30, IMAGE.path, "qcow2")
KEY = HostKey("/srv/vms/web/key")
SEED = Seed("/srv/vms/web/seed.iso", KEY.path, "i-1", "web", "#cloud-config\n", "")
PACKAGE = Package("haproxy")
CONFIG = File("/etc/haproxy/haproxy.cfg", "global\n")
UNIT = SystemdUnit("haproxy.service", running=True, enabled=True)
NFT = NftTable(RuleSet((Rule(Action.ALLOW, "Firewall/f", peers="web"),), groups=(Group("web", ("10.0.0.1/32",)),)))
UFW = UfwRules(NFT.rules)
PAIR = KeyPair("/etc/wireguard/net/key", "wireguard", "public_key/m")
TRUSTED = FileSet("/etc/tinc/net/hosts", (("web", "Subnet = 10.0.0.1/32\n"),))
START = UnitFiles("tinc@net.service", (File("/etc/tinc/net/tinc-up", "a"),), (File("/etc/tinc/net/routes", "b"),))
NAMES = FileBlock("/etc/hosts", "VPN/net", "10.0.0.1 web\n")
WANTED = (
    wanted(FOLDER),
    wanted(IMAGE, FOLDER.key),
    wanted(VOLUME, IMAGE.key),
    wanted(KEY, FOLDER.key),
    wanted(SEED, KEY.key),
    wanted(DOMAIN, VOLUME.key, SEED.key),
    wanted(PACKAGE),
    wanted(CONFIG, PACKAGE.key),
    wanted(UNIT, PACKAGE.key, CONFIG.key),
    wanted(NFT),
    wanted(UFW),
    wanted(PAIR),
    wanted(TRUSTED, PAIR.key),
    wanted(START, PAIR.key, TRUSTED.key),
    wanted(NAMES),
    wanted(Hypervisor()),
    wanted(Trash("/srv/trash", 604800)),
)
LOWERED = Lowered("m", WANTED, refs=frozenset({OWNER}), ceilings={OWNER: CEILING})
REAL = tuple(w.item for w in WANTED if w.fields)
# What salvus made for a resource that is gone, and what it found there and never owned.
LEFT = (Directory("/srv/old"), File("/srv/old/file", "x"), replace(DOMAIN, domain="old"))
FOUND = (File("/etc/motd", "hello"), Package("curl"))


def mendable(item: Item) -> list[str]:
    """The fields that can be set right without losing data, whatever is in them."""
    return [
        name
        for name, value in item.fields().items()
        if item.grade((Drift(name, value, "by hand"),)) <= CEILING
        and item.refusal({**item.fields(), name: "by hand"}) is None
    ]


def spoilt(item: Item) -> st.SearchStrategy[Fields | None]:
    """The item as it may be found: as wanted, absent, or with one field changed."""
    right = item.fields()
    wrong = [{**right, name: "by hand"} for name in mendable(item)]
    return st.sampled_from([right, None, *wrong])


STARTS = st.fixed_dictionaries({item.key: spoilt(item) for item in REAL})
ORPHANS = st.fixed_dictionaries({item.key: st.booleans() for item in (*LEFT, *FOUND)})
EMPTY = dict.fromkeys(item.key for item in REAL)
RIGHT = {item.key: item.fields() for item in REAL}
NO_ORPHANS = dict.fromkeys((item.key for item in (*LEFT, *FOUND)), False)


class Killed(BaseException):
    """The controller was killed here."""


@dataclass
class KillSwitch:
    """A driver whose controller is killed after the next batch was made."""

    driver: SimulatedDriver
    armed: bool = False

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        return self.driver.observe(items)

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        made = self.driver.apply(changes, epoch)
        if self.armed:
            self.armed = False
            raise Killed
        return made

    def close(self) -> None:
        self.driver.close()


@dataclass
class Controller:
    """What is left of a controller when its threads and its store are taken away."""

    machine: SimulatedMachine
    inventory: dict[str, Owned] = field(default_factory=dict)
    killed_before_writing: bool = False

    def __post_init__(self) -> None:
        self.driver = KillSwitch(SimulatedDriver(self.machine))

    def remember(self, rows: Sequence[Owned]) -> None:
        # As through the store: what an item forgets is not there for its deletion.
        self.inventory.update({o.key: replace(o, item=restore(o.item.type(), dump(o.item))) for o in rows})
        if self.killed_before_writing:
            self.killed_before_writing = False
            raise Killed

    def pass_(self) -> Outcome | None:
        """One pass as the engine makes it, its jobs included; None when the controller was killed in it."""
        about = Circumstances(time.time(), living={OWNER})
        try:
            outcome = reconcile(
                LOWERED, tuple(self.inventory.values()), self.driver, about, epoch=1, remember=self.remember
            )
            for change in outcome.jobs:
                self.driver.apply((change,), 1)
        except Killed:
            return None
        for key in outcome.left.forgotten:
            self.inventory.pop(key, None)
        return outcome

    def passes(self, most: int = 12) -> None:
        """Passes until one finds nothing to do."""
        for _ in range(most):
            if (outcome := self.pass_()) is not None and outcome.result == "synced" and not outcome.jobs:
                return
        raise AssertionError(f"no end after {most} passes: {outcome and (outcome.result, outcome.left)}")


def controller(start: Mapping[str, Fields | None], orphans: Mapping[str, bool]) -> Controller:
    """A controller and a machine in any state."""
    made = Controller(SimulatedFleet(Timing(sleep=lambda seconds: None)).machine("m"))
    for item in REAL:
        if (fields := start[item.key]) is not None:
            made.machine.put(item)
            made.machine.alter(item.key, **fields)
    for item in (*LEFT, *FOUND):
        if orphans[item.key]:
            made.machine.put(item)
        made.inventory[item.key] = Owned(item, GONE, created=item in LEFT)
    return made


def needed(start: Mapping[str, Fields | None], orphans: Mapping[str, bool]) -> Counter[str]:
    """The writes that a faultless way takes, by item."""
    found = Counter(item.key for item in REAL if start[item.key] is None or drift(item.fields(), start[item.key] or {}))
    found.update(item.key for item in LEFT if orphans[item.key])
    return found


def made(machine: SimulatedMachine) -> Counter[str]:
    return Counter(one.key for one in machine.log)


def check_converged(now: Controller, orphans: Mapping[str, bool]) -> None:
    """Everything is as wanted, nothing else was touched, and another look writes nothing."""
    there = now.machine.items
    assert {item.key: drift(item.fields(), there.get(item.key, {})) for item in REAL} == {i.key: () for i in REAL}
    assert there.keys() == {i.key for i in REAL} | {i.key for i in FOUND if orphans[i.key]}
    for one in now.machine.log:
        if one.verb is Verb.CREATE:
            assert now.inventory[one.key].created, "what is made is known before it is made"
    writes = now.machine.writes
    for _ in range(2):
        outcome = now.pass_()
        assert outcome is not None
        assert outcome.result == "synced"
        assert (outcome.planned.changes, outcome.planned.held) == ((), ())
    assert now.machine.writes == writes, "rule 2"


def test_every_item_type_takes_part() -> None:
    # Undeleted is told to a machine by hand.
    assert {type(item).__name__ for item in REAL} | {"Attempts", "System", "Hypervisor", "Tunnel", "Undeleted"} == set(
        item_types()
    )
    assert all(mendable(item) for item in REAL)


@given(STARTS, ORPHANS)
@settings(deadline=None)
def test_from_any_state_with_each_write_made_once(
    start: Mapping[str, Fields | None], orphans: Mapping[str, bool]
) -> None:
    now = controller(start, orphans)
    now.passes()
    check_converged(now, orphans)
    assert made(now.machine) == needed(start, orphans)


def break_unreachable(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.unreachable = True


def break_frozen(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.frozen = True


def break_too_slow(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.latency = 1000.0


def break_slow(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.latency = 5.0


def break_cut(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.cut_after = number


ERRORS = (Failed("no room"), Rejected("never"), Unreachable("gone"), DriverError("what?"))


def break_refuses(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.refuses[item.key] = ERRORS[number % len(ERRORS)]


def break_pretends(now: Controller, item: Item, number: int) -> None:
    now.machine.faults.pretends.add(item.key)


def break_lies(now: Controller, item: Item, number: int) -> None:
    right = item.fields()
    wrong = {**right, mendable(item)[0]: "a lie"}
    # A lie that something of ours is gone, told when it is to be deleted, is believed: nobody looks for it again.
    gone: State = Unknown("?") if item in LEFT else Absent()
    lies: tuple[State, ...] = (gone, Unknown("?"), Present({}), Present(right), Present(wrong))
    now.machine.faults.lies[item.key] = lies[number % len(lies)]


def break_killed_before(now: Controller, item: Item, number: int) -> None:
    now.killed_before_writing = True


def break_killed_after(now: Controller, item: Item, number: int) -> None:
    now.driver.armed = True


Fault = Callable[[Controller, Item, int], None]
FAULTS: tuple[Fault, ...] = (
    break_unreachable,
    break_frozen,
    break_too_slow,
    break_slow,
    break_cut,
    break_refuses,
    break_pretends,
    break_lies,
    break_killed_before,
    break_killed_after,
)


@pytest.mark.parametrize("fault", FAULTS)
@given(
    start=STARTS,
    orphans=ORPHANS,
    item=st.sampled_from((*REAL, *LEFT)),
    number=st.integers(0, 12),
    before=st.integers(0, 2),
    during=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_after_any_single_fault_with_each_write_made_at_most_once_more(
    fault: Fault,
    start: Mapping[str, Fields | None],
    orphans: Mapping[str, bool],
    item: Item,
    number: int,
    before: int,
    during: int,
) -> None:
    now = controller(start, orphans)
    for _ in range(before):
        now.pass_()
    fault(now, item, number)
    for _ in range(during):
        now.pass_()
    # What lasts is taken back; what happens once may have found no occasion.
    now.machine.faults = type(now.machine.faults)()
    now.killed_before_writing = now.driver.armed = False
    now.passes()
    check_converged(now, orphans)
    assert made(now.machine) <= needed(start, orphans) + Counter(item.key for item in (*REAL, *LEFT))


@pytest.mark.parametrize("fault", [break_unreachable, break_frozen, break_too_slow])
@given(start=STARTS, orphans=ORPHANS)
@settings(max_examples=20, deadline=None)
def test_unknown_is_never_absent(fault: Fault, start: Mapping[str, Fields | None], orphans: Mapping[str, bool]) -> None:
    now = controller(start, orphans)
    fault(now, UNIT, 0)
    outcome = now.pass_()
    assert outcome is not None
    assert outcome.result == "unreachable"
    assert outcome.planned.changes == outcome.left.changes == ()
    assert set(outcome.planned.forgotten) <= {item.key for item in FOUND}, "only what was never ours is let go"
    assert outcome.planned.unknown.keys() >= {item.key for item in (*REAL, *LEFT)}
    assert now.inventory.keys() == {item.key for item in LEFT}
    assert now.machine.writes == 0


@given(STARTS, ORPHANS, st.sampled_from(REAL), st.data())
@settings(max_examples=40, deadline=None)
def test_drift_by_hand_is_mended_with_one_write(
    start: Mapping[str, Fields | None], orphans: Mapping[str, bool], item: Item, data: st.DataObject
) -> None:
    now = controller(start, orphans)
    now.passes()
    if (name := data.draw(st.sampled_from([*mendable(item), None]))) is None:
        now.machine.remove(item.key)
    else:
        now.machine.alter(item.key, **{name: "by hand"})
    now.passes()
    check_converged(now, orphans)
    assert made(now.machine) == needed(start, orphans) + Counter([item.key])


def test_a_dead_domain_is_started_with_one_write() -> None:
    now = controller(RIGHT, NO_ORPHANS)
    now.passes()
    now.machine.die(DOMAIN.key)
    now.passes()
    assert [(one.verb, one.key) for one in now.machine.log] == [(Verb.UPDATE, DOMAIN.key)]


def test_a_newer_controller_ends_the_older_ones_writing() -> None:
    now = controller(EMPTY, NO_ORPHANS)
    SimulatedDriver(now.machine).fence(2)
    with pytest.raises(Fenced):
        now.pass_()
    assert now.machine.writes == 0


def test_facts_come_with_what_is_seen() -> None:
    now = controller(RIGHT, NO_ORPHANS)
    outcome = now.pass_()
    assert outcome is not None
    assert outcome.facts[OWNER, "ssh_host_key"].startswith("ssh-ed25519 ")
    assert outcome.facts[OWNER, "domain_type"] == "qemu"
    assert isinstance(outcome.seen[System().key].state, Present)


def test_a_thing_that_machines_refuse_for_good_stops_only_what_needs_it() -> None:
    now = controller(EMPTY, NO_ORPHANS)
    now.machine.faults.refuses[PACKAGE.key] = Rejected("no such package")
    for _ in range(4):
        now.pass_()
    assert {i.key for i in REAL} - now.machine.items.keys() == {PACKAGE.key, CONFIG.key, UNIT.key}


def test_files_of_an_older_salvus_become_those_of_a_unit_and_nothing_is_written() -> None:
    now = controller(RIGHT, NO_ORPHANS)
    for file in START.files:
        now.machine.put(file)
        now.inventory[file.key] = Owned(file, OWNER, created=True)
    now.killed_before_writing = True
    now.passes()
    assert now.machine.writes == 0
    assert not now.inventory.keys() & {file.key for file in START.files}
    assert now.inventory[START.key].created, "it goes with what wants it, as these files would have"
    assert not now.inventory[CONFIG.key].created, "what was there before stays"
