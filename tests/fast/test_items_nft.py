"""Rule sets as nft's text; which changes are perilous; what a machine's answer means."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, RolledBack, Unknown, Verb, drift
from drivers.items import nft_text
from drivers.items.nft_script import FOLDER, UNIT
from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet

WEB = Group("Web servers", ("10.0.0.1/32", "fd00::1/128"))
SET = "peers_web_servers_" + nft_text.members(RuleSet(groups=(WEB,)))[0].split(" ")[0][-8:]


def matches(rule: Rule) -> list[str]:
    """The lines of the one rule of incoming packets."""
    lines = nft_text.lines(RuleSet((rule,), groups=(WEB,)))
    return [line for line in lines if 'comment "why"' in line]


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        (Rule(Action.ALLOW, "why"), ['accept comment "why"']),
        (Rule(Action.DENY, "why", protocol=Protocol.UDP), ['meta l4proto udp drop comment "why"']),
        (
            Rule(Action.ALLOW, "why", protocol=Protocol.TCP, ports=(Ports(22, 22),), interface="eth0"),
            ['iifname "eth0" tcp dport { 22 } accept comment "why"'],
        ),
        (
            Rule(Action.ALLOW, "why", ports=(Ports(90, 95), Ports(80, 91), Ports(96, 96), Ports(7, 7))),
            ['meta l4proto { tcp, udp } th dport { 7, 80-96 } accept comment "why"'],
        ),
        (
            Rule(Action.ALLOW, "why", "Web servers", Protocol.ICMP),
            [
                f'ip saddr @{SET}_4 meta l4proto icmp accept comment "why"',
                f'ip6 saddr @{SET}_6 meta l4proto ipv6-icmp accept comment "why"',
            ],
        ),
        (
            Rule(Action.ALLOW, "why", protocol=Protocol.ICMP, per_minute=5),
            ['meta l4proto { icmp, ipv6-icmp } jump input_1 comment "why"'],
        ),
    ],
)
def test_a_rule_is_a_line_for_each_version_of_ip_that_it_has_peers_of(rule: Rule, lines: list[str]) -> None:
    assert matches(rule) == lines


def test_a_rate_is_for_all_peers_together_and_what_is_above_it_goes_on() -> None:
    rules = RuleSet((Rule(Action.ALLOW, "a", "Web servers", per_minute=5, log=True),), groups=(WEB,))
    text = nft_text.whole(rules)
    assert text.count("limit rate over 5/minute burst 5 packets return") == 1
    assert 'log prefix "salvus allow ingress: a "' in text


def test_rules_stand_in_order_behind_what_always_passes_and_before_the_default() -> None:
    rules = RuleSet((Rule(Action.DENY, "first"), Rule(Action.ALLOW, "second")), (Rule(Action.DENY, "out"),))
    lines = nft_text.lines(rules)
    order = ["ct state established,related accept", "ct state invalid drop", 'drop comment "first"']
    order += ['accept comment "second"', 'drop comment "default of ingress"', 'drop comment "out"']
    order += ['accept comment "default of egress"']
    assert [lines.index(line) for line in order] == sorted(lines.index(line) for line in order)


def test_a_text_that_is_too_long_or_has_quotes_is_made_to_fit() -> None:
    assert nft_text.quoted('a "b" \\ \n\u2028\x00é') == "\"a 'b' / ???é\""
    assert nft_text.quoted("é" * 100, 11) == f'"{"é" * 5}"'


@pytest.mark.parametrize(
    "rules",
    [
        RuleSet((Rule(Action.ALLOW, "why", "nobody"),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="eth0; drop"),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="eth*"),)),
        RuleSet((Rule(Action.ALLOW, "why", interface="a" * 16),)),
        RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(2, 1),)),)),
        RuleSet((Rule(Action.ALLOW, "why", ports=(Ports(1, 65536),)),)),
        RuleSet((Rule(Action.ALLOW, "why", per_minute=-1),)),
        RuleSet(groups=(Group("a", ("10.0.0.1/32 }; flush ruleset",)),)),
        RuleSet(groups=(Group("a", ("10.0.0.1/8",)),)),
    ],
)
def test_what_nft_can_not_say_is_rejected(rules: RuleSet) -> None:
    item = NftTable(rules)
    with pytest.raises(Rejected):
        item.script(Change(item, Verb.CREATE, drift(item.fields(), {}), Grade.LIVE))


def grown(action: Action) -> tuple[NftTable, Fields]:
    """A table with a group that got a member, and the fields before."""
    rules = RuleSet((Rule(action, "why", "Web servers"),), groups=(WEB,))
    more = replace(rules, groups=(Group(WEB.name, (*WEB.networks, "fd00::2/128")),))
    return NftTable(more), NftTable(rules).fields()


def perilous(item: NftTable, before: Fields) -> bool:
    return item.perilous(Change(item, Verb.UPDATE, drift(item.fields(), before), Grade.LIVE))


def test_letting_more_in_is_not_perilous_and_anything_else_is() -> None:
    item, before = grown(Action.ALLOW)
    assert not perilous(item, before)
    assert perilous(*grown(Action.DENY)), "who denies more may deny us"
    assert perilous(NftTable(replace(item.rules, groups=(WEB,))), item.fields())
    assert perilous(item, {**before, "rules": ""})
    assert perilous(item, {**before, "trial": "expired"})
    assert perilous(item, {**item.fields(), "by_hand": "+accept"})
    assert not perilous(item, {**item.fields(), "at_boot": False})
    assert item.perilous(Change(item, Verb.CREATE, drift(item.fields(), {}), Grade.LIVE))
    assert not item.perilous(Change(item, Verb.DELETE, (), Grade.LIVE))


def test_what_is_gone_waits_for_no_turn_and_what_was_confirmed_comes_first() -> None:
    item, before = grown(Action.DENY)

    def change(**fields: str) -> Change:
        return Change(item, Verb.UPDATE, drift(item.fields(), {**before, **fields}), Grade.LIVE)

    gone, less = change(by_hand="-table inet salvus"), change(by_hand="-drop")
    assert (item.gated(gone), item.perilous(gone)) == (False, True)
    assert item.gated(less)
    assert item.gated(Change(item, Verb.CREATE, drift(item.fields(), {}), Grade.LIVE))
    again = f'include "{FOLDER}/boot.nft"'
    assert item.script(gone).index(again) < item.script(gone).index("SALVUS_WINDOW")
    assert again not in item.script(less)


def test_only_what_was_put_back_is_refused() -> None:
    item, _ = grown(Action.ALLOW)
    refused = {"refused": f"{nft_text.attempt(item.rules)} 1700000000"}
    error = item.refusal(refused)
    assert isinstance(error, RolledBack)
    assert "noted 2023-11-14 22:13:20Z" in str(error)
    assert NftTable(RuleSet()).refusal(refused) is None
    assert item.refusal(item.fields()) is None


def test_a_pass_with_nothing_to_do_makes_no_text_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 rules that takes 25 ms, and all else of a pass one."""
    item = NftTable(RuleSet(groups=(WEB,)))
    fields = item.fields()
    monkeypatch.setattr(nft_text, "lines", None)
    with pytest.raises(TypeError):
        item.refusal({**fields, "refused": "12ab 5"})
    assert item.refusal(fields) is None


def test_a_member_makes_another_attempt_only_where_one_logs_in() -> None:
    ssh = Rule(Action.ALLOW, "ssh", "admins", Protocol.TCP, (Ports(22, 22),))
    written = Rule(Action.ALLOW, "written", "more admins", Protocol.TCP, (Ports(20, 30),))
    web = Rule(Action.ALLOW, "web", WEB.name, Protocol.TCP, (Ports(80, 80),))
    dns = Rule(Action.ALLOW, "dns", "resolvers", Protocol.UDP)

    def attempt(*changed: Group, rules: tuple[Rule, ...] = (ssh, written, web, dns)) -> str:
        groups = {name: Group(name, WEB.networks) for name in ("admins", "more admins", WEB.name, "resolvers", "out")}
        groups |= {group.name: group for group in changed}
        return nft_text.attempt(RuleSet(rules, (Rule(Action.DENY, "out", "out"),), groups=tuple(groups.values())))

    for name in (WEB.name, "resolvers", "out"):
        assert attempt(Group(name, ("10.9.9.9/32",))) == attempt(), name
    for name in ("admins", "more admins"):
        assert attempt(Group(name, ("10.9.9.9/32",))) != attempt(), name
    assert attempt(rules=(ssh, written, dns)) != attempt()


def test_what_takes_a_name_is_on_the_disk_before_and_the_name_after() -> None:
    """Rule 11."""
    item, before = grown(Action.ALLOW)
    more = Change(item, Verb.UPDATE, drift(item.fields(), before), Grade.LIVE)
    for text in (item.confirmation(more), item.refused(more), item.script(more)):
        moves = list(re.finditer(r'^ *mv -fT -- ("\S+") "(\S+?)(?:/\w+)?(?:\.\w+)?"$', text, re.MULTILINE))
        assert len(moves) == text.count("mv ")
        for move in moves:
            assert f"sync -d -- {move[1]}\n" in text[: move.start()]
            folder = "${unit%/*}" if move[2] == "$unit" else move[2]
            assert f'sync -- "{folder}"' in text[move.end() :]


def answer(item: NftTable, *more: str, table: str = "there") -> str:
    boot = "".join(f"B {line}\n" for line in nft_text.whole(item.rules).splitlines())
    unit = "".join(f"U {line}\n" for line in UNIT.splitlines())
    return f"{boot}{unit}L\n{''.join(f'{line}{chr(10)}' for line in more)}T {table}\nend\n"


def test_what_the_machine_answers() -> None:
    item, before = grown(Action.ALLOW)

    def read(output: str) -> object:
        return NftTable.read([item], output)[item.key]

    assert read(answer(item)) == Present(item.fields())
    assert read(answer(item, "D +accept", "D -drop")) == Present({**item.fields(), "by_hand": "+accept\n-drop"})
    assert read(answer(item, "O pending")) == Present({**item.fields(), "trial": "pending"})
    assert read(answer(item, "R 12ab 5")) == Present({**item.fields(), "refused": "12ab 5"})
    assert read(answer(item, table="none")) == Present({**item.fields(), "by_hand": "-table inet salvus"})
    assert read(answer(item, table="no nft")) == Present({**item.fields(), "by_hand": "nft is not installed"})
    assert read("T none\nend\n") == Absent()
    assert isinstance(read("R 12ab 5\nT none\nend\n"), Present), "the note is to be read"
    assert isinstance(read(answer(item).removesuffix("end\n")), Unknown)
    assert isinstance(read("end\n"), Unknown)
    assert drift(item.fields(), before) == (Drift("members", item.fields()["members"], before["members"]),), (
        "a member more changes no line"
    )
