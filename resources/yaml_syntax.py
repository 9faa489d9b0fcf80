"""Where and why a text is not YAML, in sentences that say what to do."""

from __future__ import annotations

import re
from typing import Final

import yaml

from resources.base import Path

# YAML 1.2 §5.1 (printable characters), without the breaks of YAML 1.1 that 1.2 took back and libyaml still knows.
_BAD: Final = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

# libyaml's words → what a user can do. The first that occurs in its problem or context counts.
_SENTENCES: Final = {
    "mapping values are not allowed": "a ': ' is not allowed here; put the text in quotes, or mend the indentation",
    "could not find expected ':'": "a key has no ': ' behind it; add it, mend the indentation or quote the text",
    "did not find expected key": "does not fit the lines above; mend the indentation, or put the text in quotes",
    "did not find expected '-'": "does not fit the list above; mend the indentation",
    "did not find expected ',' or": "a ',' or the closing bracket is missing",
    "invalid Unicode character escape": "an escape means no character; beyond U+FFFF write \\U and eight digits",
    "while parsing a quoted scalar": "the quotes hold an escape that YAML does not know; write a backslash as \\\\",
    "while scanning a quoted scalar": "the quotes are not closed",
    "block sequence entries are not": "a list cannot begin here; put its '- ' on a line of its own, indented",
    "did not find expected node content": "a value is missing, or is a text that needs quotes here",
    "found undefined tag handle": "tags (!) are not allowed; leave it out or put the text in quotes",
    "while scanning an anchor": "not an anchor; put a text that begins with & in quotes",
    "while scanning an alias": "not an alias; put a text that begins with * in quotes",
    "while parsing a tag": "tags (!) are not allowed; leave it out or put the text in quotes",
    "while scanning a tag": "tags (!) are not allowed; leave it out or put the text in quotes",
    "while scanning a block scalar": "behind | or > there may be only - or +, and the text begins on the next line",
    "document start": "another document begins without '---' before it",
}


def first_bad_character(text: str) -> tuple[int, str] | None:
    """Offset of the first character that a manifest cannot hold, and a sentence about it; None without one."""
    if (match := _BAD.search(text)) is None:
        return None
    code = ord(match[0])
    return match.start(), f"the character U+{code:04X} is not allowed; in double quotes it can be written \\u{code:04x}"


def position_of(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset; -1 is the end."""
    before = text if offset < 0 else text[:offset]
    lines = _lines(before)
    return len(lines), len(lines[-1]) + 1


def from_line(text: str, line: int) -> str:
    """The text from a line, counted from 0, on."""
    return "\n".join(_lines(text)[line:])


def syntax_problem(error: yaml.MarkedYAMLError, text: str) -> tuple[int, int, Path, str]:
    """What libyaml did not understand, as (line, column, path, sentence)."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return line, column, (), f"is not YAML: {_sentence(error, _line(text, line), column)}"


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def _line(text: str, line: int) -> str:
    lines = _lines(text)
    return lines[line - 1] if 0 < line <= len(lines) else ""


def _sentence(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    problem, context = error.problem or "", error.context or ""
    if "cannot start any token" in problem:
        character = line[column - 1 : column]
        if character == "\t":
            return "a tab cannot indent; use spaces"
        return f"a text cannot begin with {character!r}; put it in quotes"
    for words, sentence in _SENTENCES.items():
        if words in problem or words in context:
            start = error.context_mark
            return f"{sentence} ({context} that begins at line {start.line + 1})" if start and context else sentence
    return ", ".join(part for part in (context, problem) if part)
