"""Unit files of commands: what systemd reads back is what was written."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from resources.systemd import Command, assignment, command_line, unit_file

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
HARD = TEXTS | st.text("%$\\\"'; \n\t{}nux41", max_size=12)
ARGV = st.builds(lambda rest: ("/bin/x", *rest), st.lists(HARD, max_size=5))

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "s": " ", "a": "\a", "b": "\b", "f": "\f"}


def split(line: str) -> list[str]:
    """Words by the rules of systemd.syntax(7), QUOTING: an own reading, to check the writing against."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if char == "\\":
            word = word or ""
            if line[at] == "x":
                word += chr(int(line[at + 1 : at + 3], 16))
                at += 3
            else:
                word += _ESCAPES[line[at]]
                at += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'" and word is None:
            quote, word = char, ""
        elif char in " \t\n\r":
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + char
    assert not quote, "a quote is open"
    return words if word is None else [*words, word]


def unspecified(text: str) -> str:
    """Text with %% read; any other specifier is a failure."""
    assert re.fullmatch("([^%]|%%)*", text, re.DOTALL), text
    return text.replace("%%", "%")


def literal(text: str) -> str:
    """Text with $$ read; anything that would be a variable is a failure."""
    assert re.fullmatch(r"([^$]|\$\$)*", text, re.DOTALL), text
    return text.replace("$$", "$")


@given(ARGV)
def test_systemd_reads_the_words_that_were_written(argv: tuple[str, ...]) -> None:
    line = command_line(argv)
    assert tuple(literal(unspecified(word)) for word in split(line)) == argv
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
    assert not re.search(r"(^|\s);(\s|$)", bare), "a lone semicolon begins another command"


@given(HARD)
def test_systemd_reads_the_variable_that_was_written(value: str) -> None:
    words = split(assignment("NAME", value))
    assert [unspecified(word) for word in words] == [f"NAME={value}"]


@given(ARGV, st.dictionaries(st.sampled_from(["A", "B_2"]), HARD), HARD.filter(lambda text: "\n" not in text))
def test_no_text_begins_a_line_of_its_own(argv: tuple[str, ...], environment: dict[str, str], name: str) -> None:
    plain = unit_file("x", Command(("/bin/x",), "www-data", "/srv", dict.fromkeys(environment, "")))
    text = unit_file("x", Command(argv, "www-data", "/srv", environment))
    heads = [[line.partition("=")[0] for line in unit.split("\n")] for unit in (plain, text)]
    assert heads[0] == heads[1]
    assert not any(line.endswith("\\") for line in text.split("\n")), "the next line would be swallowed"


def test_the_whole_unit() -> None:
    command = Command(("/bin/echo", "50%", "$HOME", "it's"), "www-data", "/srv/100%", {"A": "$x y"})
    assert unit_file("Service/hub of salvus", command) == (
        "[Unit]\n"
        "Description=Service/hub of salvus\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        'ExecStart=/bin/echo 50%% $$HOME "it\'s"\n'
        'Environment="A=$x y"\n'
        "User=www-data\n"
        "WorkingDirectory=/srv/100%%\n"
        "Restart=always\n"
        "RestartSec=1\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_the_order_of_variables_changes_nothing() -> None:
    one, two = ({"A": "1", "B": "2"}, {"B": "2", "A": "1"})
    assert unit_file("x", Command(("/x",), environment=one)) == unit_file("x", Command(("/x",), environment=two))
