"""Rule sets as ufw's text; which changes are perilous; what a machine's answer means."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from drivers.base import Absent, Change, Fields, Grade, Present, Rejected, RolledBack, Unknown, Verb, drift
from drivers.items import nft_text, ufw_text
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from drivers.items.ufw_rules import UfwRules

WEB = Group("web", ("10.0.0.1/32", "fd00::1/128"))
PORTS = "-p udp -m multiport --dports 2:4,9"
LIMIT = "-m conntrack --ctstate NEW -m limit --limit 3/min --limit-burst 10"
WHY = "comment=" + b"salvus: why".hex()


def lines(rule: Rule, version: int = 4, *groups: Group) -> list[str]:
    """What becomes of one rule of incoming packets."""
    return ufw_text.text(ufw_text.blocks(RuleSet((rule,), groups=groups), version)).strip("\n").split("\n")


@pytest.mark.parametrize(
    ("rule", "version", "expected"),
    [
        (
            Rule(Action.ALLOW, "why"),
            4,
            [f"### tuple ### allow any any 0.0.0.0/0 any 0.0.0.0/0 in {WHY}", "-A ufw-user-input -j ACCEPT"],
        ),
        (
            Rule(Action.DENY, "why", "web", Protocol.TCP, (Ports(22, 22),), "tun0"),
            6,
            [
                f"### tuple ### deny tcp 22 ::/0 any fd00::1 in_tun0 {WHY}",
                "-A ufw6-user-input -i tun0 -p tcp --dport 22 -s fd00::1 -j DROP",
            ],
        ),
        (
            Rule(Action.ALLOW, "why", protocol=Protocol.UDP, ports=(Ports(9, 9), Ports(2, 4)), log=True),
            4,
            [
                f"### tuple ### allow_log udp 2:4,9 0.0.0.0/0 any 0.0.0.0/0 in {WHY}",
                f'-A ufw-user-logging-input {PORTS} {LIMIT} -j LOG --log-prefix "[UFW ALLOW] "',
                f"-A ufw-user-logging-input {PORTS} -j RETURN",
                f"-A ufw-user-input {PORTS} -j ufw-user-logging-input",
                f"-A ufw-user-input {PORTS} -j ACCEPT",
            ],
        ),
    ],
)
def test_a_rule_is_a_tuple_for_ufw_and_lines_for_the_kernel(rule: Rule, version: int, expected: list[str]) -> None:
    assert lines(rule, version, WEB) == expected


def test_what_one_rule_of_ufw_can_not_say_is_several() -> None:
    assert len(ufw_text.shown(RuleSet((Rule(Action.ALLOW, "why", "web"),), groups=(WEB,)))) == 2
    both = ufw_text.blocks(RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(80, 80),)),)), 4)
    assert [block.tuple.split(" ")[4:6] for block in both] == [["tcp", "80"], ["udp", "80"]]
    many = tuple(Ports(port, port + 1) for port in range(1, 60, 3))
    found = [
        block.tuple.split(" ")[5]
        for block in ufw_text.blocks(RuleSet((Rule(Action.ALLOW, "w", "", Protocol.TCP, many),)), 4)
    ]
    assert [len(ports.replace(":", ",").split(",")) for ports in found] == [14, 14, 12]
    assert ",".join(found) == ",".join(f"{ports.first}:{ports.last}" for ports in many)


def test_an_address_is_written_as_ufw_writes_it() -> None:
    mapped = Group("web", ("::ffff:c000:201/128", "::/0", "10.0.0.0/8", "0.0.0.0/0"))
    tuples = [
        shown.split(" ")[6] for shown in ufw_text.shown(RuleSet((Rule(Action.ALLOW, "w", "web"),), groups=(mapped,)))
    ]
    assert tuples == ["10.0.0.0/8", "0.0.0.0/0", "::ffff:192.0.2.1", "::/0"]


def test_who_may_send_little_still_renews_its_address() -> None:
    said = ufw_text.shown(RuleSet(default_egress=Action.DENY))
    assert [line.partition(" # ")[0] for line in said] == [
        "IPv4 allow udp 67 0.0.0.0/0 68 0.0.0.0/0 out",
        "IPv6 allow udp 547 fe80::/10 546 ::/0 out",
        "IPv6 allow udp 547 ff02::1:2 546 ::/0 out",
    ]
    assert ufw_text.shown(RuleSet()) == ()


def test_a_comment_can_be_shown_by_ufw() -> None:
    assert ufw_text.comment("a 'b' \\ \n\u2028\x00é") == 'a "b" \\ ???é'
    assert ufw_text.comment("é" * 200) == "é" * 120


@pytest.mark.parametrize(
    "rules",
    [
        RuleSet((Rule(Action.ALLOW, "why", "nobody"),)),
        RuleSet((Rule(Action.ALLOW, "why", protocol=Protocol.ICMP),)),
        RuleSet((Rule(Action.ALLOW, "why", per_minute=5),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="eth0; drop"),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="eth+"),)),
        RuleSet((Rule(Action.ALLOW, "why", interface=".."),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="a" * 16),)),
        RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(0, 1),)),)),
        RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(2, 1),)),)),
        RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(1, 65536),)),)),
        RuleSet(groups=(Group("a", ("10.0.0.1/32\n-F",)),)),
        RuleSet(groups=(Group("a", ("10.0.0.1/8",)),)),
    ],
)
def test_what_ufw_can_not_say_is_rejected(rules: RuleSet) -> None:
    item = UfwRules(rules)
    with pytest.raises(Rejected):
        item.script(Change(item, Verb.CREATE, (), Grade.LIVE))


def grown(action: Action) -> tuple[UfwRules, Fields]:
    """Rules with a group that got a member, and the fields before."""
    ssh = Rule(Action.ALLOW, "ssh", protocol=Protocol.TCP, ports=(Ports(22, 22),))
    rules = RuleSet((Rule(action, "why", "web"), ssh), groups=(WEB,))
    more = replace(rules, groups=(Group("web", ("10.0.0.0/32", *WEB.networks)),))
    return UfwRules(more), UfwRules(rules).fields()


def perilous(item: UfwRules, before: Fields) -> bool:
    return item.perilous(Change(item, Verb.UPDATE, drift(item.fields(), before), Grade.LIVE))


def test_letting_more_in_is_not_perilous_and_anything_else_is() -> None:
    item, before = grown(Action.ALLOW)
    assert not perilous(item, before)
    assert not perilous(item, {**item.fields(), "at_boot": False})
    assert perilous(*grown(Action.DENY)), "who denies more may deny us"
    assert perilous(UfwRules(replace(item.rules, groups=(WEB,))), item.fields())
    assert perilous(UfwRules(replace(item.rules, ingress=item.rules.ingress[::-1])), item.fields())
    assert perilous(item, {**before, "trial": "pending"})
    assert perilous(item, {**before, "by_hand": "+x"})
    assert perilous(item, {**before, "enabled": False})
    assert perilous(item, {**before, "first": False})
    assert item.perilous(Change(item, Verb.CREATE, drift(item.fields(), {}), Grade.LIVE))
    assert item.perilous(Change(item, Verb.DELETE, (), Grade.LIVE)), "the operator's rules may let nobody in"


def test_rules_that_are_in_force_no_more_wait_for_no_turn() -> None:
    item, before = grown(Action.DENY)

    def gated(**fields: str | bool) -> bool:
        return item.gated(Change(item, Verb.UPDATE, drift(item.fields(), {**before, **fields}), Grade.LIVE))

    assert not gated(by_hand="-iptables -P INPUT DROP\n-iptables -A ufw-before-input -j ufw-user-input")
    assert gated(by_hand="-iptables -P INPUT DROP")
    assert gated(rules="", enabled=False), "put back, they never were"
    assert item.gated(Change(item, Verb.CREATE, drift(item.fields(), {}), Grade.LIVE))


def test_only_what_was_put_back_is_refused() -> None:
    item, _ = grown(Action.ALLOW)
    refused = {"refused": f"{nft_text.attempt(item.rules)} 1700000000"}
    error = item.refusal(refused)
    assert isinstance(error, RolledBack)
    assert "noted 2023-11-14 22:13:20Z" in str(error)
    assert UfwRules(RuleSet()).refusal(refused) is None
    assert item.refusal(item.fields()) is None


def test_a_removal_that_was_put_back_is_noted_and_only_that_keeps_the_rules() -> None:
    item, before = grown(Action.ALLOW)
    [line] = re.findall(r"'%s %s\\n' (\w+) ", item.refused(Change(item, Verb.DELETE, (), Grade.LIVE)))
    error = item.stays({**before, "refused": f"{line} 1700000000"})
    assert isinstance(error, RolledBack)
    assert "without these rules nobody could log in anew" in str(error)
    assert "/ufw/refused" in error.hint
    assert item.stays({**before, "refused": f"{nft_text.attempt(item.rules)} 1700000000"}) is None
    assert item.stays(before) is None


def answer(item: UfwRules, *more: str, defaults: tuple[str, str] = ("drop", "accept")) -> str:
    ours = "".join(
        f"{version} {line}\n"
        for version in ufw_text.VERSIONS
        for block in ufw_text.blocks(item.rules, version)
        for line in (block.tuple, *block.kernel)
    )
    rest = "".join(f"{line}\n" for line in more)
    return f"B\n{ours}E yes\nV yes\nI {defaults[0]}\nO {defaults[1]}\nL\n{rest}end\n"


def test_what_the_machine_answers() -> None:
    item, _ = grown(Action.ALLOW)

    def read(output: str) -> object:
        return UfwRules.read([item], output)[item.key]

    there = item.fields()
    assert read(answer(item)) == Present(there)
    assert read(answer(item, "A")) == Present({**there, "first": False})
    assert read(answer(item, "D +x", "D -y")) == Present({**there, "by_hand": "+x\n-y"})
    assert read("N 0 12ab\n" + answer(item)) == Present({**there, "trial": "pending"})
    assert read("N 1 12ab 5\n" + answer(item)) == Present({**there, "refused": "12ab 5"})
    assert read(answer(item, defaults=("reject", "drop"))) == Present(
        {**there, "incoming": "reject", "outgoing": "deny"}
    )
    edited = read(answer(item).replace("-s 10.0.0.1 ", ""))
    assert isinstance(edited, Present)
    assert [line.endswith(" (edited)") for line in str(edited.fields["rules"]).splitlines()].count(True) == 1
    assert read("E no\nV yes\nI drop\nO accept\nend\n") == Absent(), "ufw is not ours"
    assert read("end\n") == Absent(), "there is no ufw"
    assert isinstance(read("N 1 12ab 5\nend\n"), Present), "the note is to be read"
    assert isinstance(read(answer(item).removesuffix("end\n")), Unknown)
