"""Domain: fields, grades, and what of the observed state counts as different."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Drift, Grade, drift
from drivers.items import codec
from drivers.items.domain import MEBIBYTE, Disk, Domain, Interface, Seen, whole_mebibytes
from tests.fast.domains import DOMAIN, ROOT, SEED, domains


def seen(item: Domain, *, running: bool | str = True, autostart: bool = True) -> Seen:
    definition = item.definition()
    return Seen(definition, definition if running else None, running, autostart)


def grade(item: Domain, found: Seen) -> Grade:
    return item.grade(drift(item.fields(), item.present(found).fields))


@given(domains())
def test_what_is_as_wanted_has_no_drift(item: Domain) -> None:
    found = seen(item, running=bool(item.running), autostart=bool(item.running))
    assert drift(item.fields(), item.present(found).fields) == ()


@given(domains())
def test_the_inventory_gives_the_item_back(item: Domain) -> None:
    assert codec.restore("Domain", codec.dump(item)) == item


def test_manual_leaves_running_and_autostart_alone() -> None:
    item = replace(DOMAIN, running=None)
    for running in (True, False, "paused"):
        assert drift(item.fields(), item.present(seen(item, running=running, autostart=False)).fields) == ()


def test_killed_is_started_live_and_stopping_is_a_restart() -> None:
    assert grade(DOMAIN, seen(DOMAIN, running=False)) is Grade.LIVE
    assert grade(replace(DOMAIN, running=False), seen(DOMAIN)) is Grade.RESTART


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"vcpus": 3}, Grade.LIVE),
        ({"vcpus": 1}, Grade.RESTART),
        ({"vcpus_max": 8}, Grade.RESTART),
        ({"memory": 700 * MEBIBYTE}, Grade.LIVE),
        ({"memory": 300 * MEBIBYTE}, Grade.LIVE),
        ({"memory_max": 4096 * MEBIBYTE}, Grade.RESTART),
        ({"machine": "pc"}, Grade.RESTART),
        ({"kernel": "/other"}, Grade.RESTART),
        ({"vnc": False}, Grade.RESTART),
        ({"interfaces": ()}, Grade.RESTART),
        ({"disks": (ROOT, SEED, Disk("/data", "vdb"))}, Grade.RESTART),
        ({"disks": (replace(ROOT, cache="none"), SEED)}, Grade.RESTART),
        ({"disks": (ROOT, replace(SEED, source="/other.iso"))}, Grade.RESTART),
        ({"disks": (replace(ROOT, source="/other"), SEED)}, Grade.REPLACE),
    ],
)
def test_the_smallest_grade_for_a_running_domain(changed: dict[str, Any], expected: Grade) -> None:
    wanted = replace(DOMAIN, **changed)
    assert grade(wanted, seen(DOMAIN)) is expected
    off = Grade.REPLACE if expected is Grade.REPLACE else Grade.LIVE
    assert grade(wanted, seen(DOMAIN, running=False)) is off
    assert grade(replace(wanted, running=False), seen(DOMAIN, running=False, autostart=False)) is off


def test_a_new_definition_under_a_running_instance_is_not_fresh() -> None:
    """kill -9 between define and restart: the definition is right, the instance is not (rule 11)."""
    bigger = replace(DOMAIN, memory_max=8192 * MEBIBYTE)
    found = Seen(bigger.definition(), DOMAIN.definition(), True, True)
    assert drift(bigger.fields(), bigger.present(found).fields) == (Drift("fresh", True, False),)
    assert grade(bigger, found) is Grade.RESTART


def test_a_cpu_that_was_defined_and_not_plugged_is_plugged_live() -> None:
    more = replace(DOMAIN, vcpus=3)
    found = Seen(more.definition(), DOMAIN.definition(), True, True)
    assert drift(more.fields(), more.present(found).fields) == (Drift("vcpus", 3, 2),)
    assert grade(more, found) is Grade.LIVE


def test_fewer_cpus_than_the_instance_has_need_a_restart() -> None:
    fewer = replace(DOMAIN, vcpus=1)
    found = Seen(fewer.definition(), DOMAIN.definition(), True, True)
    assert drift(fewer.fields(), fewer.present(found).fields) == (Drift("fresh", True, False),)


def test_an_instance_that_cannot_take_more_cpus_waits_for_its_restart() -> None:
    """Nobody restarts a VM that is run by hand: its definition is as wanted, and there is nothing to do."""
    more = replace(DOMAIN, vcpus=8, vcpus_max=8, running=None)
    found = Seen(more.definition(), replace(DOMAIN.definition(), vcpus=4), True, True)
    assert drift(more.fields(), more.present(found).fields) == ()


@given(domains(), domains())
def test_only_a_domain_with_our_mark_and_name_is_not_refused(wanted: Domain, other: Domain) -> None:
    """Whatever else it is (rule 6)."""
    ours = replace(other, domain=wanted.domain, owner_uid=wanted.owner_uid)
    assert wanted.refusal(wanted.present(seen(ours)).fields) is None
    for theirs in (replace(ours, owner_uid=""), replace(ours, owner_uid="x"), replace(ours, domain="before")):
        refusal = wanted.refusal(wanted.present(seen(theirs)).fields)
        assert refusal is not None
        assert "left alone" in str(refusal)


def test_the_balloon_of_the_moment_is_not_drift() -> None:
    live = replace(DOMAIN.definition(), memory=100 * MEBIBYTE)
    found = Seen(DOMAIN.definition(), live, True, True)
    assert drift(DOMAIN.fields(), DOMAIN.present(found).fields) == ()


@pytest.mark.parametrize(
    ("wanted", "told"), [("q35", "pc-q35-7.2"), ("pc", "pc-i440fx-9.0"), ("virt", "virt-7.2"), ("pc-q35-7.2",) * 2]
)
def test_a_machine_alias_is_what_libvirt_made_of_it(wanted: str, told: str) -> None:
    item = replace(DOMAIN, machine=wanted)
    found = Seen(replace(item.definition(), machine=told), None, True, True)
    assert drift(item.fields(), item.present(found).fields) == ()


def test_another_machine_is_drift() -> None:
    found = Seen(replace(DOMAIN.definition(), machine="pc-i440fx-7.2"), None, True, True)
    assert drift(DOMAIN.fields(), DOMAIN.present(found).fields) == (Drift("machine", "q35", "pc-i440fx-7.2"),)


def test_words_that_mean_the_same_give_no_drift() -> None:
    """libvirt makes CDs read-only, MACs small, has no name for the default cache; qemu takes whole mebibytes."""
    item = replace(
        DOMAIN,
        memory=100 * MEBIBYTE + 1,
        disks=(replace(ROOT, cache="default"), replace(SEED, readonly=False)),
        interfaces=(Interface("br0", "52:54:00:AB:CD:EF"),),
    )
    other = replace(
        DOMAIN,
        memory=101 * MEBIBYTE,
        disks=(SEED, replace(ROOT, cache="")),
        interfaces=(Interface("br0", "52:54:00:ab:cd:ef"),),
    )
    assert item.fields() == other.fields()


@given(st.integers(1, 2**45))
def test_memory_is_rounded_up(size: int) -> None:
    rounded = whole_mebibytes(size)
    assert rounded % MEBIBYTE == 0
    assert 0 <= rounded - size < MEBIBYTE
