"""What a plain (unquoted) YAML scalar means: the core schema of YAML 1.2, section 10.3.2, and what it leaves unsafe."""

from __future__ import annotations

import re
from typing import Final

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBER_STARTS: Final = frozenset("-+.0123456789")


class Odd(Exception):
    """A scalar that YAML 1.2 takes for something its writer hardly meant; the text says what to write instead."""


def plain_scalar(text: str) -> bool | int | float | str | None:
    """The value of an unquoted scalar. Raises Odd for numbers that are unclear or cannot be kept."""
    if text in _NULLS:
        return None
    if text[0] not in _NUMBER_STARTS:
        return _BOOLS.get(text, text)
    if _DECIMAL.fullmatch(text):
        return _decimal(text)
    if _BASED.fullmatch(text):
        return _within(text, int(text, 0))
    if _FLOAT.fullmatch(text):
        return _float(text)
    if _ENDLESS.fullmatch(text):
        raise Odd(f'is no number a manifest can hold; for the text write "{text}" in quotes')
    return text


def _decimal(text: str) -> int:
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0":
        # 0755 is 493 in YAML 1.1 and 755 in YAML 1.2: nobody who writes it means the second.
        raise Odd(f'a number cannot begin with 0; write "{text}" in quotes (a file mode, a text), or without the 0')
    return _within(text, int(text) if len(digits) < 20 else 2**64)


def _within(text: str, number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise Odd(f'is a number of more than 64 bits; for the text write "{text[:20]}…" in quotes')
    return number


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Odd("is too large for a number; for the text write it in quotes")
    return number
