"""YAML 1.2 as manifests have it: what a scalar means, where everything stands, what is refused, what has limits."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.base import Path
from resources.yaml12 import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_FAULTS, Document, Fault, Plain, parse

# JSON escapes what is beyond as two halves, which YAML does not join.
TEXT = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(TEXT)
)
# YAML 1.2 §7.4.2: a key has at most 1024 characters, and an escape takes up to 12.
KEYS = st.text(TEXT, max_size=80)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def one(text: str) -> Document:
    """The only document of a text that has no fault."""
    parsed = parse(text.encode())
    assert parsed.broken == ()
    (document,) = parsed.documents
    assert document.faults == ()
    return document


def value(text: str) -> Plain:
    """What a text says."""
    return one(text).value


def faults(text: str | bytes) -> list[Fault]:
    """All that is wrong in a text."""
    parsed = parse(text.encode() if isinstance(text, str) else text)
    return [*(f for d in parsed.documents for f in d.faults), *parsed.broken]


def fault(text: str | bytes) -> str:
    """The only thing that is wrong, as ``line:column: what``."""
    (found,) = faults(text)
    return f"{found.line}:{found.column}: {found.what}"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("{mac: 52:54:00:12:34:56}", {"mac": "52:54:00:12:34:56"}),
        ("12:34:56", "12:34:56"),
        ("22:22", "22:22"),
        *((word, word) for word in ("no", "yes", "on", "off", "y", "n", "No", "NO", "Off")),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("10.1.1.1/24", "10.1.1.1/24"),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("null", "Null", "NULL", "~")),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("0o755", 0o755),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ('"0755"', "0755"),
        ("'no'", "no"),
        ('"true"', "true"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[a, 1, {b: }]", ["a", 1, {"b": None}]),
    ],
)
def test_what_scalars_mean(text: str, meaning: object) -> None:
    found = value(text)
    assert found == meaning
    assert type(found) is type(meaning)


@pytest.mark.parametrize("text", ["0755", "-01", "+00", "007"])
def test_a_leading_zero_is_asked_about_and_not_guessed(text: str) -> None:
    assert fault(f"mode: {text}") == (
        f'1:7: a number cannot begin with 0; write "{text}" in quotes (a file mode, a text), or without the 0'
    )


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", str(2**63), "9" * 400, "0x" + "f" * 17])
def test_numbers_that_nothing_could_keep(text: str) -> None:
    assert "in quotes" in fault(f"a: {text}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: is written twice; first at line 1, column 1"),
        ("- {a: 1, a: 1}", "1:10: is written twice; first at line 1, column 4"),
        ("1: a", '1:1: a key must be text; write "1" in quotes'),
        ("true: a", '1:1: a key must be text; write "true" in quotes'),
        ("x: &a {b: 1}\ny:\n  <<: *a", "3:3: merge keys (<<) are not part of YAML 1.2; write the fields out"),
        ("&k a: 1", "1:1: a key cannot have an anchor (&)"),
        ("a: !!str 1", "1:4: tags are not allowed; leave out 'tag:yaml.org,2002:str'"),
        (
            "a: !!python/object:os.system x",
            "1:4: tags are not allowed; leave out 'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("[1]: a", "1:1: a key must be text; it cannot be a list, a mapping or an alias"),
        ("a: *b", "1:4: there is no anchor &b complete before this alias"),
        ("a: &b [*b]", "1:8: there is no anchor &b complete before this alias"),
        ("%YAML 1.1\n---\na: 1", "1:1: directives are not allowed; leave out the lines that begin with %"),
        ("a:\n\t- b", "2:1: is not YAML: a tab cannot indent; use spaces"),
        ("a: @b", "1:4: is not YAML: a text cannot begin with '@'; put it in quotes"),
        ("a: b: c", "1:5: is not YAML: a ': ' is not allowed here; put the text in quotes, or mend the indentation"),
        (
            "a: 1\n b: 2",
            "2:3: is not YAML: a ': ' is not allowed here; put the text in quotes, or mend the indentation",
        ),
        ("a: b\x00c", "1:5: the character U+0000 is not allowed; in double quotes it can be written \\u0000"),
        ("a: 1\nb: \x1b[31m", "2:4: the character U+001B is not allowed; in double quotes it can be written \\u001b"),
        (b"a: 1\nb: \xff", "2:4: is not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_what_is_refused_where_and_why(text: str | bytes, message: str) -> None:
    assert fault(text) == message


@pytest.mark.parametrize(
    "text",
    [
        'a: "b',
        "a: [b",
        "a: {b",
        "a: *",
        "a: &",
        "a: |x\n b",
        "a: 1\n- b",
        'a: "\\q"',
        'a: "\\ud800"',
        "a: !<",
        "- a\nb: 1",
    ],
)
def test_what_is_not_yaml_says_where_and_what_to_do(text: str) -> None:
    (found,) = faults(text)
    assert found.line >= 1
    assert found.what.startswith("is not YAML: ")
    assert "expected" not in found.what, "libyaml's own words help nobody"


def test_all_faults_of_a_document_are_found_and_of_the_documents_after_it() -> None:
    text = "a: 01\nb: !x 1\n---\nc: 1\nc: 2\n---\nd: 1"
    found = [(f.line, f.path) for f in faults(text)]
    assert found == [(1, ("a",)), (2, ("b",)), (5, ("c",))]
    assert [d.value for d in parse(text.encode()).documents][2] == {"d": 1}


def test_documents_before_a_broken_one_are_kept() -> None:
    parsed = parse(b"a: 1\n---\nb: [")
    assert [d.value for d in parsed.documents] == [{"a": 1}]
    assert len(parsed.broken) == 1


def test_positions_are_those_of_keys_and_entries() -> None:
    text = "a:\n  b: 1\n  c:\n  - x\n  - {d: 2}\n"
    assert one(text).positions == {
        (): (1, 1),
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "c"): (3, 3),
        ("a", "c", 0): (4, 5),
        ("a", "c", 1): (5, 5),
        ("a", "c", 1, "d"): (5, 6),
    }


def test_a_byte_order_mark_and_other_line_ends_do_no_harm() -> None:
    assert value("\ufeffa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_a_file_may_be_empty(text: str) -> None:
    assert parse(text.encode()).documents == ()


def test_aliases_are_filled_in() -> None:
    assert value("a: &x {b: [1]}\nc: *x\nd: *x") == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1]}}


def test_the_size_of_a_file_has_a_limit() -> None:
    assert faults(b"a" * MAX_BYTES) == []
    assert fault(b"a" * (MAX_BYTES + 1)).startswith("0:0: has more than 1 MiB")


def test_the_depth_has_a_limit_also_through_aliases() -> None:
    assert faults("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []
    assert "deeper than 50 levels" in fault("[" * 100_000)
    half = MAX_DEPTH // 2
    deep = "[" * half + "]" * half
    assert faults(f"- &a {'[' * (half - 1)}{']' * (half - 1)}\n- {'[' * half}*a{']' * half}") == []
    assert "deeper than 50 levels" in fault(f"- &a {deep}\n- {'[' * half}*a{']' * half}")


def test_aliases_have_a_limit() -> None:
    aliases = ", ".join(["*a"] * MAX_ALIASES)
    assert faults(f"- &a x\n- [{aliases}]") == []
    assert "alias number 201; a file may have 200" in fault(f"- &a x\n- [{aliases}, *a]")


def test_an_alias_bomb_ends_early() -> None:
    bomb = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert "too large once its aliases are filled in" in fault(bomb)


def test_faults_have_a_limit() -> None:
    found = faults("".join(f"k{n}: 01\n" for n in range(10 * MAX_FAULTS)))
    assert len(found) == MAX_FAULTS + 1


@given(st.binary(max_size=200) | st.text("{}[]:,-&*!|>'\"%@#?\n\t ab01.~<=", max_size=60).map(str.encode))
def test_no_bytes_at_all_raise_or_have_faults_without_a_place(data: bytes) -> None:
    for found in faults(data):
        assert found.what
        assert (found.line >= 1) == (found.column >= 1)


@given(VALUES)
def test_json_means_what_it_means_in_json(data: Any) -> None:
    """YAML 1.2 is a superset of JSON (section 1.3)."""
    assert value(json.dumps(data)) == data


@given(VALUES)
def test_everything_has_a_place(data: Any) -> None:
    positions = one(json.dumps(data, indent=1)).positions
    assert set(positions) == set(paths(data, ()))


def paths(data: Any, here: Path) -> list[Path]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(path for key, part in inner for path in paths(part, (*here, key)))]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_stay_what_they_are(number: float) -> None:
    found = value(repr(number))
    assert isinstance(found, float)
    assert math.isclose(found, number, rel_tol=0)
