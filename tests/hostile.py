"""Texts that are more than text to some program, and rule sets that are full of them."""

from __future__ import annotations

from hypothesis import strategies as st

from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
HOSTILE = st.sampled_from(
    ["'", '"', "$(reboot)", "`reboot`", "; reboot", "\nreboot\n", "\\", "SALVUS_EOF", "-rf", "é\u2028"]
)
PORT = st.integers(0, 65535)
HOSTILE_TEXT = st.builds("{}{}{}".format, TEXT, HOSTILE, TEXT)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    """Any that can be said in a packet filter's words, with hostile text wherever a user may write text."""
    network = st.ip_addresses().map(lambda address: f"{address}/{address.max_prefixlen}")
    groups = tuple(
        Group(name, tuple(sorted(draw(st.sets(network, max_size=3)), key=lambda one: (":" in one, one))))
        for name in draw(st.sets(HOSTILE_TEXT, max_size=3))
    )
    rule = st.builds(
        Rule,
        st.sampled_from(Action),
        HOSTILE_TEXT,
        st.sampled_from(["", *(group.name for group in groups)]),
        st.sampled_from(Protocol),
        st.lists(st.lists(PORT, min_size=2, max_size=2).map(lambda two: Ports(*sorted(two))), max_size=3).map(tuple),
        st.sampled_from(["", "eth0", "br-3.1@x", "$(x);{}'"]),
        st.integers(0, 10**6),
        st.booleans(),
    )
    some, action = st.lists(rule, max_size=3).map(tuple), st.sampled_from(Action)
    return RuleSet(draw(some), draw(some), draw(action), draw(action), groups)
