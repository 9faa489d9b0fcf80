"""What systemctl says of a unit, and what it means for one that is to run, and for one that is not."""

from __future__ import annotations

import pytest

from drivers.base import Absent, Present, Unknown
from drivers.items import systemd_script as sh
from drivers.items.systemd_unit import SystemdUnit, Watched

ON = SystemdUnit("a.service", True, True)
OFF = SystemdUnit("a.service", False, False)


def said(active: str, sub: str, enabled: str, load: str = "loaded", more: str = "") -> str:
    lines = f"Names=alias.service a.service\nLoadState={load}\nActiveState={active}\nSubState={sub}\n"
    return f"{lines}UnitFileState={enabled}\n{more}\n@ \n"


def fields(item: SystemdUnit, output: str) -> tuple[object, object]:
    state = SystemdUnit.read([item], output)[item.key]
    assert isinstance(state, Present)
    return state.fields["running"], state.fields["enabled"]


@pytest.mark.parametrize(
    ("active", "sub", "on", "off"),
    [
        ("active", "running", True, True),
        ("active", "exited", True, True),
        ("active", "waiting", True, True),
        ("reloading", "reload", True, True),
        ("inactive", "dead", False, False),
        ("failed", "failed", "failed", False),
        ("activating", "auto-restart", "auto-restart", "auto-restart"),
        ("activating", "start", "start", "start"),
        ("deactivating", "stop-sigterm", "stop-sigterm", "stop-sigterm"),
    ],
)
def test_whether_it_runs(active: str, sub: str, on: object, off: object) -> None:
    assert fields(ON, said(active, sub, "enabled"))[0] == on
    assert fields(OFF, said(active, sub, "enabled"))[0] == off


@pytest.mark.parametrize(
    ("word", "on", "off"),
    [
        ("enabled", True, True),
        ("disabled", False, False),
        ("linked", False, False),
        ("enabled-runtime", "enabled-runtime", "enabled-runtime"),
        ("static", True, False),
        ("indirect", True, False),
        ("generated", True, False),
        ("transient", True, False),
        ("", True, False),
        ("masked", "masked", False),
        ("bad", "bad", "bad"),
    ],
)
def test_whether_it_starts_at_boot(word: str, on: object, off: object) -> None:
    assert fields(ON, said("active", "running", word))[1] == on
    assert fields(OFF, said("active", "running", word))[1] == off


@pytest.mark.parametrize(
    ("restarts", "young", "running"),
    [("2", "Young=75", "flapping"), ("12", "Young=75", "flapping"), ("1", "Young=75", True), ("2", "Young=7", True)],
)
def test_a_unit_that_is_started_again_and_again_does_not_run(restarts: str, young: str, running: object) -> None:
    more = f"NRestarts={restarts}\nActiveEnterTimestampMonotonic=75\n\n{young}\n"
    assert fields(ON, said("active", "running", "enabled", more=more))[0] == running


def test_a_name_with_a_backslash_is_known_again() -> None:
    unit = SystemdUnit(r"srv-my\x2ddata.mount", True, True)
    output = said("active", "mounted", "enabled").replace("a.service", r'"srv-my\\x2ddata.mount"')
    assert fields(unit, output) == (True, True)


def test_only_not_found_is_absent() -> None:
    for load in ("bad-setting", "error", "masked", "merged", "stub"):
        assert isinstance(SystemdUnit.read([ON], said("inactive", "dead", "", load))[ON.key], Present)
    assert SystemdUnit.read([ON], said("inactive", "dead", "", "not-found"))[ON.key] == Absent()
    assert isinstance(SystemdUnit.read([ON], said("inactive", "dead", "", ""))[ON.key], Unknown)


def marked(mtime: str, marker: str) -> object:
    """What is observed of ``restart_on`` with a file of this time and this marker."""
    unit = SystemdUnit("a.service", True, True, (Watched("/etc/a", "a" * 64),))
    output = said("active", "running", "enabled").replace("@ ", "@ +")
    output += f"S:81a4:0:root:0:root:1:2:{mtime}\nN 0 {marker}\n"
    state = SystemdUnit.read([unit], output)[unit.key]
    assert isinstance(state, Present)
    return state.fields["restart_on"] == unit.fields()["restart_on"] or state.fields["restart_on"]


def test_what_it_was_started_with_counts_only_while_the_file_was_not_written_since() -> None:
    wanted, other, tag = "a" * 64, "b" * 64, sh.tag("/etc/a")
    assert marked("1.5", f"{tag} {wanted} 1.5") is True
    assert marked("2.5", f"{tag} {wanted} 1.5") == ("/etc/a aaaaaaaaaaaa at the start, written again since",)
    assert marked("1.5", f"{tag} {other} 1.5") == (f"/etc/a {other}",), "not written since, and not what is wanted"
    assert marked("1.5", "") == ("/etc/a not known to be started with it",)
