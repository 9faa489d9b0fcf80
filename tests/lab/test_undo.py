"""The dead-man switch of files and services, on a host with a real systemd: kept, or put back, once and whole."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from drivers.items import undo
from lab import Lab, breakage, exec_in, hosts
from tests.lab.fleet import eventually

pytestmark = pytest.mark.lab

FOLDER = "/etc/salvus-test"
FILE, OTHER = f"{FOLDER}/a file's $(id)", f"{FOLDER}/other"
NAME = "test"
THEN = f"cat {FOLDER}/* >/run/salvus-test\n"


class Box:
    """The lab's first host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def sh(self, text: str, window: int = 600) -> int:
        """Runs it as a change is run; its status."""
        clock = f"export SALVUS_NOW=1700000000 SALVUS_WINDOW={window}\n"
        return exec_in(self.lab, self.lab.hosts[0], ["sh", "-euc", clock + text]).returncode

    def told(self, text: str) -> str:
        return exec_in(self.lab, self.lab.hosts[0], ["sh", "-euc", text]).stdout.decode()

    def tried(self, attempt: str, window: int = 600, then: str = THEN) -> None:
        """FILE is changed on trial, and OTHER comes."""
        arm = undo.arm(NAME, attempt, (FILE, OTHER), then)
        change = f"echo {attempt} >{shlex.quote(FILE)}; echo {attempt} >{OTHER}\n"
        assert self.sh(arm + change, window) == 0

    def files(self) -> str:
        return self.told(f"cd {FOLDER} && stat -c '%a %U %Y' * && cat -- *")


@pytest.fixture
def box(lab: Lab) -> Iterator[Box]:
    box = Box(lab)
    quoted = shlex.quote(FILE)
    assert box.sh(f"mkdir {FOLDER}; echo old >{quoted}; chmod 640 {quoted}; chown daemon {quoted}") == 0
    yield box
    assert box.sh(f"{undo.forget(NAME)}rm -rf {FOLDER} /run/salvus-test") == 0
    assert box.told("systemctl list-units --all --plain --no-legend 'salvus-undo-*'") == ""


def test_what_nobody_confirms_is_put_back_and_nothing_else(box: Box) -> None:
    before = box.files()
    box.tried("one", window=2)
    assert box.files() != before
    assert eventually(lambda: box.files() == before, 10)
    assert eventually(lambda: box.told("cat /run/salvus-test") == "old\n", 5), "it is read again"
    assert box.sh(undo.confirm(NAME, "one")) == 1, "that is too late"
    assert box.files() == before
    assert box.sh(undo.refuse(NAME, "one")) == 0
    note = box.told(f"cat {undo.notes(NAME)[1]}")
    assert undo.refusal(note, lambda: "one", "lost", "path") is not None
    assert undo.refusal(note, lambda: "two", "lost", "path") is None


def test_what_is_confirmed_stays_and_may_be_confirmed_again(box: Box) -> None:
    box.tried("one", window=2)
    changed = box.files()
    assert box.sh(undo.refuse(NAME, "zero") + undo.confirm(NAME, "one")) == 0
    assert box.sh(undo.confirm(NAME, "one")) == 0
    assert box.sh(undo.confirm(NAME, "two")) == 1
    assert box.told(f"ls {' '.join(undo.notes(NAME))} 2>/dev/null; sleep 2.5") == ""
    assert box.files() == changed
    box.tried("one", window=1)
    assert eventually(lambda: box.sh(f"[ ! -e {undo.notes(NAME)[0]} ]") == 0, 10)
    assert box.sh(undo.confirm(NAME, "one")) == 1, "what was confirmed was another trial of the same"
    assert box.files() == changed


def test_a_boot_within_the_window_comes_up_with_what_was_there_before(box: Box) -> None:
    before = box.files()
    box.tried("one")
    breakage.reboot(box.lab, box.lab.hosts[0])
    hosts.wait(box.lab, box.lab.hosts[0])
    assert box.files() == before
    assert box.sh("[ ! -e /run/salvus-test ]") == 0, "what reads the files starts after it anyway"
    assert box.sh(undo.confirm(NAME, "one")) == 1
    after = box.told("systemctl show --value -p After network-pre.target sysinit.target")
    assert after.split().count("salvus-undo.service") == 2
    assert "salvus-undo.service" in box.told("systemctl show --value -p WantedBy network-pre.target").split()


def test_a_disk_that_is_full_by_then_keeps_nobody_out(box: Box) -> None:
    assert box.sh(f"seq 5000 >{shlex.quote(FILE)}") == 0
    before = box.files()
    box.tried("one", window=4)
    try:
        breakage.fill(box.lab, box.lab.hosts[0])
        assert box.sh("head -c 8192 /dev/zero >/var/lib/lab-balloon/rest") == 1
        assert eventually(lambda: box.files() == before, 10)
        assert eventually(lambda: box.told("cat /run/salvus-test") == before.partition("\n")[2], 5)
    finally:
        breakage.free(box.lab, box.lab.hosts[0])


def test_another_trial_begins_with_what_was_there_before_the_first(box: Box) -> None:
    before = box.files()
    box.tried("one")
    box.tried("two", window=1)
    assert eventually(lambda: box.files() == before, 10)


def test_what_another_trial_cannot_put_back_is_tried_again_all_the_same(box: Box) -> None:
    before = box.files()
    box.tried("one", window=4, then="[ -e /run/salvus-test ]\n")
    assert box.sh(undo.arm(NAME, "two", (FILE, OTHER), THEN)) == 1
    assert box.sh("touch /run/salvus-test") == 0
    assert eventually(lambda: box.sh(f"[ ! -e {undo.notes(NAME)[0]} ]") == 0, 20)
    assert box.files() == before


def test_what_cannot_be_put_back_is_tried_again_and_not_confirmed_meanwhile(box: Box) -> None:
    before = box.files()
    box.tried("one", window=1, then="[ -e /run/salvus-test ]\n")
    assert eventually(lambda: box.files() == before, 10)
    assert box.sh(undo.confirm(NAME, "one")) == 1
    assert box.sh("touch /run/salvus-test") == 0
    assert eventually(lambda: box.sh(f"[ ! -e {undo.notes(NAME)[0]} ]") == 0, 20)
