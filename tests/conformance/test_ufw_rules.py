"""The packet filter by a real ufw: made, spoilt, killed half-way, put back, taken away; hostile text in it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.base import Absent, Change, Grade, Present, RolledBack, Verb
from drivers.items import ufw_text
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from drivers.items.ufw_rules import UfwRules
from drivers.items.ufw_script import FOLDER
from drivers.items.ufw_script import RULES as RULES_FILES
from tests.conformance.items import Example, needed
from tests.conformance.nft_world import HERE, Box, allowing
from tests.conformance.ufw_world import TIMER
from tests.hostile import rule_sets

pytestmark = pytest.mark.conformance

RULES = RuleSet(
    ingress=(
        Rule(Action.ALLOW, "Firewall/f spec.ssh", "web", Protocol.TCP, (Ports(22, 22),)),
        Rule(Action.ALLOW, "Firewall/f spec.ingress[0]", "web", Protocol.ANY, (Ports(80, 90), Ports(99, 99)), log=True),
        Rule(Action.DENY, "Firewall/f spec.ingress[2]", interface="eth1"),
    ),
    egress=(Rule(Action.DENY, "Firewall/f spec.egress[0]", "all", Protocol.UDP, interface="tun0"),),
    groups=(Group("web", ("10.0.0.1/32", "10.1.0.0/16", "fd00::1/128")), Group("all", ("0.0.0.0/0", "::/0"))),
)
ITEM = UfwRules(RULES)
WRITTEN = f"iptables -S; ip6tables -S; stat -c %i.%Y /etc/ufw/* /etc/default/ufw {FOLDER}/*"


DAMAGES = (
    "ufw insert 1 deny 9/tcp",
    "ufw insert 2 allow 9/tcp comment 'salvus: by hand'",
    "ufw default allow incoming",
    "ufw --force reset",
    "sed -i 's/ -s 10.0.0.1 -j/ -j/' /etc/ufw/user.rules",
    "sed -i 's/^IPV6=.*/IPV6=no/' /etc/default/ufw",
    "iptables -I ufw-user-input -j ACCEPT",
    "iptables -F INPUT",
    "ip6tables -P INPUT ACCEPT; ip6tables -D ufw6-before-input -j ufw6-user-input",
    "rm /etc/systemd/system/multi-user.target.wants/ufw.service",
    f"rm {FOLDER}/listing",
)
# Of an operator, some of whose rules look like ours.
OPERATORS = """\
ufw --force enable
ufw allow from 10.0.0.1 to any port 22 proto tcp
ufw deny 24/tcp comment 'not of salvus: mine'
ufw limit log 25/tcp
ufw reject out on eth7 to 10.7.0.0/16
ufw route allow in on eth7 out on eth8
ufw allow in on eth7 from fd00::7 to any port 7,70:77 proto udp
"""


def others(box: Box) -> str:
    """The rules that are not ours, in order."""
    return box.sh("grep -hv ' comment=73616c7675733a20' /etc/ufw/user.rules /etc/ufw/user6.rules | grep '^### tuple'")


def state(box: Box) -> str:
    """All that ufw has, and all that it changes; of its files of rules, the rules."""
    return box.sh(
        "iptables -S; ip6tables -S; grep -h ^###.tuple -A9 /etc/ufw/user.rules /etc/ufw/user6.rules || :\n"
        "cat /etc/ufw/ufw.conf /etc/default/ufw; sysctl -a -r 'net.ipv[46].conf'\n"
        "find /etc/systemd/system /var/lib/salvus '(' -type f -o -type l ')' ! -path '*undo*' | sort\n"
    )


def test_applied_twice_it_writes_nothing(ufw_box: Box) -> None:
    ufw_box.machine.making_it_twice_writes_nothing(Example(ITEM))
    before = ufw_box.sh(WRITTEN)
    ufw_box.machine.mended(ITEM)
    assert ufw_box.sh(WRITTEN) == before


def test_every_damage_is_seen_and_mended(ufw_box: Box) -> None:
    ufw_box.sh(OPERATORS)
    ufw_box.machine.mended(ITEM)
    ufw_box.machine.every_damage_is_seen_and_mended(Example(ITEM, damages=DAMAGES))


def test_what_was_done_by_hand_can_be_read(ufw_box: Box) -> None:
    ufw_box.machine.mended(ITEM)
    ufw_box.sh("iptables -I ufw-user-output -p tcp --dport 9 -j DROP")
    seen = ufw_box.machine.see(ITEM)
    assert isinstance(seen, Present)
    assert "+iptables -A ufw-user-output -p tcp -m tcp --dport 9 -j DROP" in str(seen.fields["by_hand"]).splitlines()


@pytest.mark.parametrize("damage", ["ufw --force disable", "nft flush ruleset", "ufw --force reset"])
def test_where_nothing_is_filtered_any_more_it_waits_for_no_turn(ufw_box: Box, damage: str) -> None:
    other = UfwRules(replace(RULES, ingress=RULES.ingress[:1]))
    ufw_box.machine.mended(ITEM)
    change = needed(other, ufw_box.machine.see(other))
    assert change is not None
    assert other.gated(change)
    ufw_box.sh(damage)
    lost = needed(other, ufw_box.machine.see(other))
    assert lost is not None
    assert other.perilous(lost)
    assert not other.gated(lost)


def test_killed_anywhere_it_converges(ufw_box: Box) -> None:
    def clean() -> None:
        ufw_box.sh(f"ufw --force reset; ufw --force disable; iptables -F; iptables -X; rm -rf {FOLDER}")

    assert ufw_box.machine.killed_anywhere_it_converges(Example(ITEM), clean, stride=41) > 100


def test_a_change_that_only_opens_and_is_not_loaded_is_seen(ufw_box: Box) -> None:
    few, more = (UfwRules(allowing(22, members=some)) for some in (["10.0.0.1/32"], ["10.0.0.1/32", "10.0.0.2/32"]))
    ufw_box.machine.mended(few)
    change = needed(more, ufw_box.machine.see(more))
    assert change is not None
    assert not more.perilous(change)
    broken = "/usr/local/sbin/iptables-restore"
    ufw_box.sh(f"printf '#!/bin/sh\\nexit 4\\n' >{broken}; chmod 755 {broken}")
    assert ufw_box.machine.tell(change).returncode == 4
    ufw_box.sh(f"rm {broken}")
    assert needed(more, ufw_box.machine.see(more)) is not None
    ufw_box.machine.mended(more)
    assert "-s 10.0.0.2/32" in ufw_box.sh("iptables -S ufw-user-input")


def test_the_operators_rules_survive_and_nothing_else_is_left(ufw_box: Box) -> None:
    """C6, of ufw that was in use before."""
    ufw_box.sh(f"{OPERATORS}sed -i 's/^IPV6=.*/IPV6=no/' /etc/default/ufw; ufw default allow outgoing")
    before, rules = state(ufw_box), others(ufw_box)
    ufw_box.machine.mended(ITEM)
    assert others(ufw_box) == rules
    ufw_box.sh("ufw allow 26/tcp")
    assert needed(ITEM, ufw_box.machine.see(ITEM)) is None, "what others add is no drift"
    ufw_box.machine.mended(UfwRules(replace(RULES, ingress=RULES.ingress[:1], default_egress=Action.DENY)))
    ufw_box.sh("ufw delete allow 26/tcp")
    assert others(ufw_box) == rules
    ufw_box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))
    assert state(ufw_box) == before


def test_where_ufw_was_not_enabled_it_is_not_again(ufw_box: Box) -> None:
    ufw_box.sh(
        "rm -f /etc/systemd/system/multi-user.target.wants/ufw.service; iptables -A INPUT -p tcp --dport 9 -j DROP"
    )
    before = state(ufw_box)
    ufw_box.machine.mended(ITEM)
    assert "-P INPUT DROP" in ufw_box.sh("iptables -S")
    ufw_box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))
    assert state(ufw_box) == before


def test_what_the_kernel_had_before_is_kept_when_ufw_is_disabled_by_hand(ufw_box: Box) -> None:
    ufw_box.sh("sysctl -w net.ipv4.conf.all.log_martians=1 net.ipv6.conf.all.accept_redirects=1")
    before = state(ufw_box)
    ufw_box.machine.mended(ITEM)
    ufw_box.sh("ufw disable")
    ufw_box.machine.mended(ITEM)
    assert "log_martians = 0" in ufw_box.sh("sysctl net.ipv4.conf.all.log_martians")
    ufw_box.machine.deleting_it_twice_leaves_nothing(Example(ITEM))
    assert state(ufw_box) == before


@pytest.mark.parametrize(("four", "six"), [("ACCEPT", "ACCEPT"), ("DROP", "ACCEPT"), ("DROP", "DROP")])
def test_whether_packets_are_forwarded_is_left_to_others(ufw_box: Box, four: str, six: str) -> None:
    ufw_box.sh(f"iptables -P FORWARD {four}; ip6tables -P FORWARD {six}; iptables -I FORWARD -i virbr0 -j ACCEPT")
    forward = "for tool in iptables ip6tables; do $tool -S FORWARD | grep -v ' -j ufw'; done"
    before = ufw_box.sh(forward)
    ufw_box.machine.mended(ITEM)
    assert ufw_box.sh(forward) == before
    # As a boot does, before whatever else filters.
    ufw_box.sh("/lib/ufw/ufw-init force-stop; /lib/ufw/ufw-init start")
    assert ("-P FORWARD DROP" in ufw_box.sh("ip6tables -S")) == (six == "DROP")
    assert needed(ITEM, ufw_box.machine.see(ITEM)) is None


def test_what_nobody_confirms_is_put_back(ufw_box: Box) -> None:
    before = state(ufw_box)
    change = needed(ITEM, ufw_box.machine.see(ITEM))
    assert change is not None
    ufw_box.sh(f"export SALVUS_WINDOW=60\n{ITEM.script(change)}")
    seen = ufw_box.machine.see(ITEM)
    assert isinstance(seen, Present)
    assert seen.fields["trial"] == "pending"
    ufw_box.sh(f"sh {TIMER}")
    assert state(ufw_box) == before
    ufw_box.sh(f"export SALVUS_NOW=5\n{ITEM.refused(change)}")
    seen = ufw_box.machine.see(ITEM)
    assert isinstance(seen, Present)
    assert isinstance(ITEM.refusal(seen.fields), RolledBack)
    assert UfwRules(allowing(22)).refusal(seen.fields) is None


def test_a_removal_that_nobody_confirms_is_put_back(ufw_box: Box) -> None:
    ufw_box.sh(OPERATORS)
    ufw_box.machine.mended(ITEM)
    before = state(ufw_box)
    change = Change(ITEM, Verb.DELETE, (), Grade.LIVE)
    assert ITEM.perilous(change)
    ufw_box.sh(f"export SALVUS_WINDOW=60\n{ITEM.script(change)}")
    assert state(ufw_box) != before
    ufw_box.sh(f"sh {TIMER}")
    assert state(ufw_box) == before
    assert needed(ITEM, ufw_box.machine.see(ITEM)) is None
    ufw_box.sh(f"export SALVUS_NOW=5\n{ITEM.refused(change)}")
    seen = ufw_box.machine.see(ITEM)
    assert isinstance(seen, Present)
    assert isinstance(ITEM.stays(seen.fields), RolledBack)
    assert ITEM.refusal(seen.fields) is None


def test_more_members_come_in_without_a_moment_in_which_everybody_does(ufw_box: Box) -> None:
    few, more = (UfwRules(allowing(22, members=some)) for some in (["10.0.0.1/32"], ["10.0.0.1/32", "fd00::/64"]))
    ufw_box.machine.mended(few)
    # ufw, started again, would not have it any more.
    ufw_box.sh("iptables -A ufw-before-input -p tcp --dport 9 -j DROP")
    change = needed(more, ufw_box.machine.see(more))
    assert change is not None
    assert not more.perilous(change)
    ufw_box.machine.mended(more)
    back = needed(few, ufw_box.machine.see(few))
    assert back is not None
    assert few.perilous(back), "somebody is shut out"
    ufw_box.machine.mended(few)
    assert "--dport 9 -j DROP" in ufw_box.sh("iptables -S ufw-before-input")


def test_without_ufw_it_is_told_what_it_needs(ufw_box: Box) -> None:
    ufw_box.sh("mount --bind /dev/null /usr/sbin/ufw")
    assert ufw_box.machine.see(ITEM) == Absent()
    change = needed(ITEM, Absent())
    assert change is not None
    assert "install the package ufw" in ufw_box.machine.tell(change).stderr.decode()


def test_locked_out_the_machine_puts_it_back_and_connections_are_filtered(ufw_box: Box) -> None:
    controller, other = ufw_box.sshd(), ufw_box.sshd()
    driver = ufw_box.driver(controller, window=5)
    good, shut = UfwRules(allowing(controller.port)), UfwRules(RuleSet())
    for item, error in ((good, None), (shut, RolledBack)):
        change = needed(item, driver.observe([item])[item.key].state)
        assert change is not None
        [done] = driver.apply([change], 1)
        assert done.error is None if error is None else isinstance(done.error, error)
    fresh = ufw_box.driver(controller)
    assert needed(good, fresh.observe([good])[good.key].state) is None
    seen = fresh.observe([shut])[shut.key].state
    assert isinstance(seen, Present)
    assert isinstance(shut.refusal(seen.fields), RolledBack)
    controller.knock()
    with pytest.raises(OSError, match="timed out"):
        other.knock()
    ufw_box.sh(f"ufw allow from {HERE} to any port {other.port} proto tcp")
    other.knock()


@st.composite
def sayable(draw: st.DrawFn) -> RuleSet:
    """What ufw can say, of rule sets full of hostile text."""
    drawn = draw(rule_sets())

    def said(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(
            replace(
                one,
                per_minute=0,
                protocol=Protocol.ANY if one.protocol is Protocol.ICMP else one.protocol,
                ports=() if one.protocol is Protocol.ICMP else tuple(p for p in one.ports if p.first),
                interface="" if "$" in one.interface else one.interface,
            )
            for one in rules
        )

    return replace(drawn, ingress=said(drawn.ingress), egress=said(drawn.egress))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayable())
def test_hostile_text_is_text_and_ufw_itself_writes_the_same(ufw_box: Box, rules: RuleSet) -> None:
    ufw_text.check(rules)
    written = {version: ufw_text.text(ufw_text.blocks(rules, version)) for version in ufw_text.VERSIONS}
    for version, path in RULES_FILES.items():
        virgin = f"/usr/share/ufw/iptables/{path.rpartition('/')[2]}"
        text = base64.b64encode(written[version].encode()).decode()
        ufw_box.sh(
            f"sed '/^### RULES/q' {virgin} >{path}; echo {text} | base64 -d >>{path}\n"
            f"sed '1,/^### RULES/d' {virgin} >>{path}"
        )
    # It prints its files as it would write them; its own rule is behind ours.
    printed = ufw_box.sh("ufw --dry-run allow 1/tcp comment 'not ours'").replace("\n\n", "\n")
    for version in ufw_text.VERSIONS:
        assert written[version].replace("\n\n", "\n").strip("\n") in printed
    assert len(re.findall("^### tuple ###", printed, re.MULTILINE)) == len(ufw_text.shown(rules)) + 2
