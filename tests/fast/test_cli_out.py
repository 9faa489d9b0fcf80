"""What is printed cannot harm a terminal, loses nothing in a pipe, and reads back as what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.values import change_lines, field_lines, line_difference, short
from drivers.base import Change, Drift, Grade, Verb
from resources.yaml12 import parse
from salvusctl import out
from salvusctl.yaml_out import to_yaml
from tests.fast.things import Thing

# What a manifest can hold: YAML has no surrogates, and the loader refuses control characters.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")) | st.just("\n"), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.text())
def test_clean_is_printable_and_on_one_line(text: str) -> None:
    assert out.clean(text).isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_clean_leaves_good_text_alone(text: str) -> None:
    assert out.clean(text) == text


@pytest.mark.parametrize("evil", ["\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egpj.exe", "line\nline", "\x7f"])
def test_clean_shows_what_was_there(evil: str) -> None:
    assert evil not in out.clean(evil)
    assert "\\" in out.clean(evil)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES))
def test_yaml_reads_back(value: dict[str, Any]) -> None:
    parsed = parse(to_yaml(value).encode())
    assert not parsed.broken
    assert [document.value for document in parsed.documents] == [value]


@pytest.mark.parametrize("text", ["1e3", "0o14", "no", "null", "~", "52:54:00:12:34:56", "0755", ".inf", "2026-01-01"])
def test_yaml_keeps_texts_that_look_like_something_else(text: str) -> None:
    assert parse(to_yaml({"a": text}).encode()).documents[0].value == {"a": text}


def test_yaml_cannot_speak_to_a_terminal() -> None:
    text = to_yaml({"a": "x\x1b[31m\ny\x9b"})
    assert text.rstrip("\n").isprintable()


def test_tables_are_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    out.table(["A", "B", "C"], [["x" * 300, "日本", "e\x1bnd"], ["y", "b", ""]])
    assert capsys.readouterr().out == (f"{'A':<300}   B      C\n{'x' * 300}   日本   e\\x1bnd\n{'y':<300}   b      \n")


def test_progress_and_answers_go_to_different_places(capsys: pytest.CaptureFixture[str]) -> None:
    out.say("answer")
    out.note("progress")
    out.warn("careful")
    assert capsys.readouterr() == ("answer\n", "progress\nwarning: careful\n")


def test_json_cannot_speak_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out.write_json({"a": "\x9b31m\x1b"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"a": "\x9b31m\x1b"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (3 * 86400, "3d")],
)
def test_age(seconds: float, text: str) -> None:
    assert out.age(seconds) == text


def test_short_values() -> None:
    assert short(None) == "-"
    assert short("plain") == "plain"
    assert short("") == '""'
    assert short(" x") == '" x"'
    assert short(True) == "true"
    assert short(("a", 1)) == '["a", 1]'
    assert short("z" * 500).endswith("(500 characters)")
    assert len(short("z" * 500)) < 130


def test_several_lines_are_a_difference() -> None:
    assert line_difference("a\nb\nc\nd\n", "a\nb\nX\nd\n") == [" b", "-c", "+X", " d"]
    assert line_difference(None, "a\nb\n") == ["+a", "+b"]
    assert line_difference(None, "\n".join(map(str, range(100))))[-1] == "… 60 more lines"
    assert field_lines("f", "a\nb\n") == ["f:", "  a", "  b"]
    assert field_lines("f", "a\n") == ['f: "a\\n"']


class Safe(Thing):
    """A Thing whose value is a secret."""

    secret_fields = frozenset({"value"})


def test_a_change_in_lines_says_from_what_to_what_and_no_secret() -> None:
    drift = (Drift("rules", "a\nnew\n", "a\nold\n"), Drift("value", "s3cret", "0ld"), Drift("boot", True, None))
    told = Change(Thing("x"), Verb.UPDATE, drift, Grade.LIVE)
    head = ["update Thing:x", "  rules:", "     a", "    -old", "    +new"]
    assert list(change_lines(told)) == [*head, "  value: 0ld → s3cret", "  boot: - → true"]
    safe = Change(Safe("x"), Verb.UPDATE, drift, Grade.LIVE)
    assert list(change_lines(safe)) == ["update Safe:x", *head[1:], "  value: *** → ***", "  boot: - → true"]
    assert list(change_lines(Change(Thing("x"), Verb.DELETE, (), Grade.LIVE))) == ["delete Thing:x"]
