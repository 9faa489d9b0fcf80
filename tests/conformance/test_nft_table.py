"""The packet filter with a real nft: made, spoilt, killed half-way, added to, loaded at boot; hostile text in it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings

from drivers.base import Absent, Present
from drivers.items import nft_text
from drivers.items.nft_script import FOLDER, UNIT_FILE
from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from tests.conformance.items import Example, needed
from tests.conformance.nft_world import HERE, Box, allowing
from tests.hostile import rule_sets

pytestmark = pytest.mark.conformance

RULES = RuleSet(
    ingress=(
        Rule(Action.ALLOW, "Firewall/f spec.ingress[0]", "web", Protocol.TCP, (Ports(22, 22), Ports(80, 90))),
        Rule(Action.ALLOW, "Firewall/f spec.ingress[1]", protocol=Protocol.ICMP, per_minute=60, log=True),
        Rule(Action.DENY, "Firewall/f spec.ingress[2]", interface="eth1", log=True),
    ),
    egress=(Rule(Action.DENY, "Firewall/f spec.egress[0]", "all", Protocol.UDP),),
    groups=(Group("web", ("10.0.0.1/32", "10.1.0.0/16", "fd00::1/128")), Group("all", ("0.0.0.0/0", "::/0"))),
)
ITEM = NftTable(RULES)
WEB = nft_text.members(RULES)[0].split(" ")[0]
# But for what is there for a while only.
RULES_THERE = "nft -s list ruleset | sed '/^.set older {/,/^.}$/d'"
DAMAGES = (
    "nft add rule inet salvus input tcp dport 9 accept",
    "nft insert rule inet salvus output drop",
    "nft 'add chain inet salvus more { type filter hook input priority -1; policy drop; }'",
    f"nft 'add element inet salvus {WEB}_4 {{ 10.9.9.9 }}'",
    f"nft 'delete element inet salvus {WEB}_6 {{ fd00::1 }}'",
    "nft flush chain inet salvus input",
    "nft flush table inet salvus",
    "nft delete table inet salvus",
    "nft flush ruleset",
    "nft 'add set inet salvus trial { typeof meta nfproto; flags timeout; }'",
    f"rm {FOLDER}/boot.nft",
    f"echo 'add rule inet salvus input accept' >>{FOLDER}/boot.nft",
    f"rm {FOLDER}/listing",
    f"rm {UNIT_FILE}",
    f"echo >>{UNIT_FILE}",
    "rm /etc/systemd/system/sysinit.target.wants/salvus-firewall.service",
)


def test_applied_twice_it_writes_nothing(box: Box) -> None:
    box.machine.making_it_twice_writes_nothing(Example(ITEM))
    box.machine.mended(ITEM)
    before = box.sh(f"nft -s -a list ruleset; stat -c %i.%Y {FOLDER}/* {UNIT_FILE}")
    box.machine.mended(ITEM)
    assert box.sh(f"nft -s -a list ruleset; stat -c %i.%Y {FOLDER}/* {UNIT_FILE}") == before


def test_every_damage_is_seen_and_mended(box: Box) -> None:
    box.machine.mended(ITEM)
    box.machine.every_damage_is_seen_and_mended(Example(ITEM, damages=DAMAGES))


def test_what_was_done_by_hand_can_be_read(box: Box) -> None:
    box.machine.mended(ITEM)
    box.sh(f"nft 'add rule inet salvus output tcp dport 9 accept; delete element inet salvus {WEB}_4 {{ 10.0.0.1 }}'")
    state = box.machine.see(ITEM)
    assert isinstance(state, Present)
    assert state.fields["by_hand"] == "-10.0.0.1\n+tcp dport 9 accept"


def test_killed_anywhere_it_converges(box: Box) -> None:
    def clean() -> None:
        box.sh(f"nft flush ruleset; rm -rf {FOLDER} /etc/systemd/system/*")

    assert box.machine.killed_anywhere_it_converges(Example(ITEM), clean) > 20


def test_a_confirmation_killed_when_the_kernel_had_the_rules_can_be_made_again(box: Box) -> None:
    box.machine.mended(ITEM)
    other = NftTable(allowing(1))
    change = needed(other, box.machine.see(other))
    assert change is not None
    confirmation = other.confirmation(change)
    move = 'mv -fT -- "$dir/boot.new"'
    killed = box.machine.run(
        ["sh", "-eu"], other.script(change) + confirmation.replace(move, f"kill -KILL $$\n{move}"), b""
    )
    assert killed.returncode in (-9, 137), killed.stderr.decode()
    assert "set trial" not in box.sh("nft list table inet salvus")
    assert box.machine.run(["sh", "-eu"], ITEM.confirmation(change), b"").returncode != 0, "others are in force"
    box.sh(confirmation)
    assert needed(other, box.machine.see(other)) is None
    assert box.sh(f"cat {FOLDER}/boot.nft") == nft_text.whole(other.rules)


def test_who_denies_all_egress_still_renews_its_address(box: Box) -> None:
    subprocess.run(["ip", "address", "add", "fe80::c0/64", "dev", "c0", "nodad"], check=True)
    box.sh("ip address add fe80::e0/64 dev eth0 nodad")
    box.machine.mended(NftTable(RuleSet(default_egress=Action.DENY)))
    assert _arrives(box, HERE, 68, 67)
    assert _arrives(box, "fe80::c0%{}", 546, 547)
    assert not _arrives(box, HERE, 1024, 67)
    assert not _arrives(box, HERE, 68, 53)
    assert not _arrives(box, "fe80::c0%{}", 1024, 547)


def _arrives(box: Box, to: str, sport: int, dport: int) -> bool:
    """Whether a datagram of the machine reaches the network beside it."""
    send = "import socket, sys; host, sport, dport = sys.argv[1], *map(int, sys.argv[2:])\n"
    send += "*kind, _, to = socket.getaddrinfo(host, dport, type=socket.SOCK_DGRAM)[0]\n"
    send += "with socket.socket(*kind) as s: s.bind(('', sport)); s.sendto(b'x', to)\n"
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as there:
        there.bind(("", dport))
        there.settimeout(0.5)
        argv = [*box.into, sys.executable, "-c", send, to.format("eth0"), str(sport), str(dport)]
        subprocess.run(argv, stderr=subprocess.DEVNULL, check=False)
        with contextlib.suppress(TimeoutError):
            return there.recv(1) == b"x"
    return False


def test_deleted_nothing_is_left_and_what_others_have_there_was_never_touched(box: Box) -> None:
    box.sh("nft 'add table ip mine; add chain ip mine c { type filter hook forward priority 0; policy drop; }'")
    others = box.sh("nft list table ip mine")
    box.machine.mended(ITEM)
    assert box.sh("nft list table ip mine") == others
    box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))
    assert box.sh("nft list ruleset") == others
    assert box.sh("ls -A /var/lib/salvus; find /etc/systemd/system -type f -o -type l") == ""


def test_a_boot_brings_what_was_confirmed_last_and_nothing_else(box: Box) -> None:
    box.machine.mended(ITEM)
    before = box.sh(RULES_THERE)
    other = NftTable(allowing(1))
    change = needed(other, box.machine.see(other))
    assert change is not None
    box.sh(f"export SALVUS_WINDOW=60\n{other.script(change)}")
    start = re.search("^ExecStart=(.*)$", box.sh(f"cat {UNIT_FILE}"), re.MULTILINE)
    assert start is not None
    box.sh(f"nft flush ruleset; {start[1]}")
    assert box.sh(RULES_THERE) == before
    assert needed(ITEM, box.machine.see(ITEM)) is None


def test_where_the_table_was_taken_away_what_was_confirmed_is_back_also_when_the_trial_ends(box: Box) -> None:
    box.machine.mended(ITEM)
    chain = "nft -s list chain inet salvus input"
    before = box.sh(chain)
    box.sh("nft flush ruleset")
    other = NftTable(allowing(1))
    change = needed(other, box.machine.see(other))
    assert change is not None
    assert not other.gated(change)
    box.sh(f"export SALVUS_WINDOW=1\n{other.script(change)}")
    assert "@trial goto trial_input" in box.sh(chain)
    box.sh("sleep 1.5")
    assert "elements" not in box.sh("nft list set inet salvus trial")
    assert box.sh(f"{chain} | grep -v @trial") == before


def test_systemd_knows_what_the_unit_says(box: Box) -> None:
    box.machine.mended(ITEM)
    assert box.sh(f"systemd-analyze verify {UNIT_FILE} 2>&1 || :") == ""


def test_a_machine_without_nft_has_no_table_and_is_told_what_it_needs(box: Box) -> None:
    box.sh("mount --bind /dev/null /usr/sbin/nft")
    assert box.machine.see(ITEM) == Absent()
    change = needed(ITEM, Absent())
    assert change is not None
    assert "install the package nftables" in box.machine.tell(change).stderr.decode()


def test_more_members_are_added_and_nothing_else_is_touched(box: Box) -> None:
    few, more = (NftTable(allowing(22, members=some)) for some in (["10.0.0.1/32"], ["10.0.0.1/32", "fd00::/64"]))
    box.machine.mended(few)
    before = box.sh("nft -a -t list ruleset")
    change = needed(more, box.machine.see(more))
    assert change is not None
    assert not more.perilous(change)
    box.machine.mended(more)
    assert box.sh("nft -a -t list ruleset") == before
    assert "fd00::/64" in box.sh("nft list ruleset")
    back = needed(few, box.machine.see(few))
    assert back is not None
    assert few.perilous(back), "somebody is shut out"
    box.machine.mended(few)


def test_what_was_done_by_hand_meanwhile_is_not_taken_for_ours(box: Box) -> None:
    few, more = (NftTable(allowing(22, members=some)) for some in (["10.0.0.1/32"], ["10.0.0.1/32", "fd00::/64"]))
    box.machine.mended(few)
    change = needed(more, box.machine.see(more))
    assert change is not None
    box.sh("nft add rule inet salvus input tcp dport 9 accept")
    assert "meanwhile; nothing was added" in box.machine.tell(change).stderr.decode()
    assert "fd00::/64" not in box.sh("nft list table inet salvus")
    box.machine.mended(more)
    assert "dport 9" not in box.sh("nft list table inet salvus")


def test_ten_thousand_members_in_one_transaction(box: Box) -> None:
    networks = [f"10.{number // 250}.{number % 250}.0/30" for number in range(10_000)]
    item = NftTable(allowing(22, members=networks[:-1]))
    box.machine.mended(item)
    box.machine.mended(NftTable(allowing(22, members=networks)))


def test_on_a_full_disk_nothing_is_changed(box: Box) -> None:
    box.machine.mended(ITEM)
    before = box.sh("nft -s -a list ruleset")
    box.sh(f"mount -t tmpfs -o size=4k none {FOLDER}; head -c 9000 /dev/zero >{FOLDER}/large 2>/dev/null || :")
    change = needed(NftTable(allowing(1)), box.machine.see(ITEM))
    assert change is not None
    assert box.machine.tell(change).returncode != 0
    box.sh(f"umount {FOLDER}")
    assert box.sh("nft -s -a list ruleset") == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rule_sets())
def test_hostile_text_is_text(box: Box, rules: RuleSet) -> None:
    nft_text.check(rules)
    whole = nft_text.whole(rules)
    assert nft_text.taken_apart(whole) == (nft_text.lines(rules), nft_text.members(rules))
    for text in (whole, nft_text.on_trial(rules) + "add element inet salvus trial { ipv4 timeout 1s }\n"):
        done = subprocess.run([*box.into, "nft", "-f", "-"], input=text.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    assert box.sh("nft list tables") == "table inet salvus\n"
    listed = box.sh("nft -t list table inet salvus")
    chains = re.findall("^\tchain (?!trial_)(.*) {$", listed, re.MULTILINE)
    sides = {"input": rules.ingress, "output": rules.egress}
    more = {f"{side}_{n}" for side, some in sides.items() for n, one in enumerate(some, 1) if one.log or one.per_minute}
    assert set(chains) == {"input", "output"} | more
    box.sh("nft delete table inet salvus")
