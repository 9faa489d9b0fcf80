"""Perilous changes: confirmed over a new connection, or put back by the machine, whatever becomes of the controller."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from controller.plan import Circumstances
from controller.reconcile import Outcome, reconcile
from controller.status import verdicts
from drivers.base import Applied, Change, Failed, Fenced, Present, RolledBack, Unreachable
from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, RuleSet
from drivers.ssh import ShellDriver
from tests.conformance.items import needed
from tests.conformance.nft_world import THERE, Box, allowing
from tests.conformance.ssh_world import Text, World, creation, errors, until
from tests.fast.things import lowered, wanted

pytestmark = pytest.mark.conformance

SHUT = NftTable(RuleSet())  # nobody comes in


@dataclass(frozen=True, slots=True)
class Risky(Text):
    """A perilous one, confirmed and noted by given shell text."""

    confirm: str = ""
    refuse: str = ""

    def perilous(self, change: Change) -> bool:
        return True

    def confirmation(self, change: Change) -> str:
        return self.confirm

    def refused(self, change: Change) -> str:
        return self.refuse


def mend(driver: ShellDriver, item: NftTable, epoch: int = 1) -> Applied:
    """One pass."""
    change = needed(item, driver.observe([item])[item.key].state)
    assert change is not None
    [done] = driver.apply([change], epoch)
    return done


def observed(driver: ShellDriver, item: NftTable) -> Present:
    state = driver.observe([item])[item.key].state
    assert isinstance(state, Present), state
    return state


@pytest.mark.parametrize("egress", Action)
def test_a_good_change_stays_and_who_is_connected_stays_so(box: Box, egress: Action) -> None:
    controller, other = box.sshd(), box.sshd()
    driver, connected = box.driver(controller), box.driver(other)
    connected.observe([SHUT])
    item = NftTable(replace(allowing(controller.port), default_egress=egress))
    assert mend(driver, item).error is None
    assert needed(item, observed(driver, item)) is None
    assert observed(connected, item).fields["trial"] == "", "its connection was there before"
    with pytest.raises(OSError, match="timed out"):
        other.knock()


def test_locked_out_the_machine_puts_it_back_and_the_same_is_not_tried_again(box: Box) -> None:
    sshd = box.sshd()
    good = NftTable(allowing(sshd.port))
    assert mend(box.driver(sshd), good).error is None
    before = box.sh("nft -s list ruleset")
    done = mend(box.driver(sshd, window=3), SHUT)
    assert isinstance(done.error, RolledBack)
    assert "nobody could log in anew within 3 s" in str(done.error)
    fresh = box.driver(sshd)
    seen = observed(fresh, SHUT)
    assert seen.fields["trial"] == "expired"
    refusal = SHUT.refusal(seen.fields)
    assert isinstance(refusal, RolledBack)
    assert good.refusal(seen.fields) is None
    assert mend(fresh, good).error is None
    assert box.sh("nft -s list ruleset") == before
    assert SHUT.refusal(observed(fresh, SHUT).fields) is None


def test_the_first_rules_of_all_lock_out_and_no_rules_are_back(box: Box) -> None:
    sshd = box.sshd()
    done = mend(box.driver(sshd, window=3), SHUT)
    assert isinstance(done.error, RolledBack)
    box.sh("nft flush ruleset")  # as a boot does
    assert isinstance(SHUT.refusal(observed(box.driver(sshd), SHUT).fields), RolledBack)


def test_killed_between_change_and_confirmation_the_machine_comes_back_by_itself(box: Box) -> None:
    sshd = box.sshd()
    good = NftTable(allowing(sshd.port))
    assert mend(box.driver(sshd), good).error is None
    target = sshd.target()
    argv = [str(target.port), THERE, *target.host_keys, *target.identity_files, "4"]
    command = [sys.executable, "-m", "tests.conformance.trial_controller", *argv]
    with subprocess.Popen(command) as other:
        try:
            until(lambda: "set trial" in box.sh("nft list table inet salvus"), "the trial")
        finally:
            other.send_signal(signal.SIGKILL)
    sshd.signal_sessions(signal.SIGKILL)
    with pytest.raises(OSError, match="timed out"):
        sshd.knock()
    fresh = box.driver(sshd)
    until(lambda: isinstance(fresh.observe([good])[good.key].state, Present), "the machine")
    seen = observed(fresh, SHUT)
    assert (seen.fields["trial"], SHUT.refusal(seen.fields)) == ("expired", None), "nobody knows whether it was good"
    assert mend(fresh, good).error is None
    assert needed(good, observed(fresh, good)) is None


def test_a_trial_that_is_under_way_gives_way_to_the_next(box: Box) -> None:
    sshd = box.sshd()
    item = NftTable(allowing(sshd.port))
    change = needed(SHUT, box.machine.see(SHUT))
    assert change is not None
    driver = box.driver(sshd)
    driver.observe([item])
    box.sh(SHUT.script(change))
    assert observed(driver, item).fields["trial"] == "pending"
    assert mend(driver, item).error is None
    assert needed(item, observed(driver, item)) is None


def test_everything_may_be_allowed_and_taken_away_over_ssh(box: Box) -> None:
    driver = box.driver(box.sshd())
    item = NftTable(RuleSet(default_ingress=Action.ALLOW, default_egress=Action.ALLOW))
    assert mend(driver, item).error is None
    box.machine.delete(item)
    assert box.sh("nft list ruleset") == ""


def pass_(driver: ShellDriver, item: NftTable) -> Outcome:
    """As a controller makes it that knows nothing of earlier ones."""
    about = Circumstances(time.time(), living={"Firewall/f"})
    return reconcile(lowered(wanted(item, owner="Firewall/f")), (), driver, about, epoch=1, remember=lambda rows: None)


def test_passes_say_that_it_was_put_back_and_do_not_try_it_again(box: Box) -> None:
    sshd = box.sshd()
    verdict = verdicts(pass_(box.driver(sshd, window=3), SHUT))["Firewall/f"][0]
    assert (verdict.status, verdict.reason) == ("False", "RolledBack")
    before = box.sh("nft -a -s list ruleset")
    again = pass_(box.driver(sshd), SHUT)
    assert (again.result, again.executed.applied) == ("held", ())
    assert verdicts(again)["Firewall/f"][0] == verdict
    assert box.sh("nft -a -s list ruleset") == before
    mended = pass_(box.driver(sshd), NftTable(allowing(sshd.port)))
    assert (mended.left.changes, mended.left.held) == ((), ())
    assert len(mended.executed.applied) == 1


# --- any perilous item

# Ends all connections of the sshd of that number.
CUT = "kill -9 $(cat /proc/{0}/task/{0}/children)"


def apply(ssh: World, items: Sequence[Text], **driver: int) -> tuple[Applied, ...]:
    return ssh.driver(**driver).apply([creation(item) for item in items], 1)  # type: ignore[arg-type]


def test_a_perilous_change_goes_alone_and_in_order(ssh: World) -> None:
    log = ssh.folder / "log"
    items = [
        Text("a", change=f"echo a >>{log}"),
        Risky("b", change=f"echo b $SALVUS_WINDOW >>{log}", confirm=f"echo confirmed >>{log}"),
        Text("c", change=f"echo c >>{log}"),
    ]
    assert errors(apply(ssh, items, window=9)) == ["", "", ""]
    assert log.read_text().split("\n") == ["a", "b 9", "confirmed", "c", ""]


def test_what_can_not_be_made_is_not_confirmed(ssh: World) -> None:
    never = ssh.folder / "never"
    done = apply(ssh, [Risky("a", change="exit 3", confirm=f"touch {never}"), Text("b", change=f"touch {never}")])
    assert errors(done) == ["Failed: web01: Risky:a: it ended with status 3"]
    assert not never.exists()


def test_what_the_machine_does_not_want_to_keep_is_a_failure(ssh: World) -> None:
    never = ssh.folder / "never"
    [done] = apply(ssh, [Risky("a", confirm="echo no >&2; false", refuse=f"touch {never}")])
    assert isinstance(done.error, Failed)
    assert not isinstance(done.error, RolledBack)
    assert str(done.error).endswith(": no")
    assert not never.exists()


def test_a_change_that_ends_its_own_connection_is_confirmed_over_another(ssh: World) -> None:
    sshd, made = ssh.sshd(), ssh.folder / "made"
    # Who came in before its end came in by what was there before.
    change = f"{CUT.format(sshd.pid)}; sleep 2; touch {made}"
    confirm = f"[ -e {made} ] && echo >>{made}"
    driver = ssh.driver(sshd, window=9)
    [done] = driver.apply([creation(Risky("a", change=change, confirm=confirm))], 1)
    assert done.error is None
    assert made.read_text() == "\n"


def test_a_change_that_ended_half_way_is_not_confirmed(ssh: World) -> None:
    sshd, never = ssh.sshd(), ssh.folder / "never"
    item = Risky("a", change=f"{CUT.format(sshd.pid)}; sleep 1; false", confirm=f"touch {never}")
    [done] = ssh.driver(sshd, window=3).apply([creation(item)], 1)
    assert isinstance(done.error, Failed)
    assert "the change did not come to its end" in str(done.error)
    assert not never.exists()


def test_an_answer_that_was_lost_is_asked_for_again(ssh: World) -> None:
    sshd, made, never = ssh.sshd(), ssh.folder / "made", ssh.folder / "never"
    confirm = f"[ ! -e {made} ] || exit 0; touch {made}; {CUT.format(sshd.pid)}; sleep 2"
    [done] = ssh.driver(sshd, window=2).apply([creation(Risky("a", confirm=confirm, refuse=f"touch {never}"))], 1)
    assert done.error is None
    assert (made.exists(), never.exists()) == (True, False)


def test_who_came_in_too_late_came_in_because_it_was_put_back(ssh: World) -> None:
    noted = ssh.folder / "noted"
    [done] = apply(ssh, [Risky("a", confirm="sleep 1.5; false", refuse=f"touch {noted}")], window=1)
    assert isinstance(done.error, RolledBack)
    assert noted.exists()


def test_it_is_confirmed_by_the_same_way_over_a_jump(ssh: World) -> None:
    jump, made = ssh.sshd(), ssh.folder / "made"
    driver = ShellDriver(ssh.connection(via=ssh.connection(jump)), state=str(ssh.folder / "state"))
    item = Risky("a", change=CUT.format(ssh.shared.pid), confirm=f"touch {made}")
    assert errors(driver.apply([creation(item)], 1)) == [""]
    assert made.exists()
    assert len(jump.sessions()) == 1


@pytest.mark.parametrize(
    ("change", "confirm"),
    [("true", "touch {begun}; exec sleep 60"), ("touch {begun}; kill -9 {pid}", "true")],
    ids=["in the midst of the confirmation", "while nobody can come in"],
)
def test_closing_the_driver_ends_a_trial_at_once(ssh: World, change: str, confirm: str) -> None:
    sshd, begun = ssh.sshd(), ssh.folder / "begun"
    driver = ssh.driver(sshd, window=30)
    change, confirm = (text.format(begun=begun, pid=sshd.pid) for text in (change, confirm))
    with ThreadPoolExecutor() as pool:
        applying = pool.submit(driver.apply, [creation(Risky("a", change=change, confirm=confirm))], 1)
        until(begun.exists, "the trial")
        time.sleep(0.3)
        driver.close()
        [done] = applying.result(5)
    assert isinstance(done.error, Unreachable)


def test_who_lost_the_lease_meanwhile_does_not_confirm(ssh: World) -> None:
    never = ssh.folder / "never"
    newer = f"echo 2 >{ssh.folder}/state/epoch"
    with pytest.raises(Fenced):
        apply(ssh, [Risky("a", change=newer, confirm=f"touch {never}", refuse=f"touch {never}")])
    assert not never.exists()


def test_a_machine_that_does_not_come_back_is_unreachable(ssh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ssh.driver.RETURN", 1)
    sshd, never = ssh.sshd(), ssh.folder / "never"
    driver = ssh.driver(sshd, window=1)
    driver.fence(1)
    [done] = driver.apply([creation(Risky("a", change=f"kill -9 {sshd.pid}", refuse=f"touch {never}"))], 1)
    assert isinstance(done.error, Unreachable)
    assert not never.exists()
