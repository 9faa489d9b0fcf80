"""Quantities as Kubernetes writes them (``2Gi``, ``512M``) and durations (``30s``, ``1h30m``), as pydantic types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from resources.words import WORDS, as_text, got, meant, quoted

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_BINARY, _DECIMAL = ("Ti", "Gi", "Mi", "Ki"), ("T", "G", "M", "k")
_QUANTITY = r"^(0|[1-9][0-9]*)(k|M|G|T|Ki|Mi|Gi|Ti)?$"
_DURATION = r"^(?=[0-9])(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?$"
_SIZE = "a whole number with a unit: k, M, G, T, Ki, Mi, Gi or Ti"
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME = "days, hours, minutes and seconds"
_SHARE = "a number from 1, or a percentage from 1% to 100%"


def parse_bytes(text: object) -> int:
    """``2Gi`` → 2147483648. Raises ValueError with the allowed units for anything else."""
    match = re.fullmatch(_QUANTITY, text) if isinstance(text, str) else None
    if match is None:
        near = meant(*_near_sizes(text)) if isinstance(text, str) else ""
        raise ValueError(f"must be a size, but {got(text)}; write {_SIZE}, as in 2Gi{near}")
    return int(match[1]) * _UNITS[match[2] or ""]


def _near_sizes(text: str) -> Iterator[str]:
    """``2GB`` → ``2G`` and ``2Gi``, as people mean the one or the other; ``1.5 GiB`` → ``1536Mi``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)\s*([kmgt])(i?)(?:b|bytes?)?", text.strip().lower())
    if match is None:
        return
    number, letter = Fraction(match[1].replace(",", ".")), match[2]
    units = {"k": ("k", "Ki")}.get(letter, (letter.upper(), f"{letter.upper()}i"))
    for unit in units[1:] if match[3] else units:
        size = number * _UNITS[unit]
        if size.denominator == 1:
            yield _in_units(int(size), _BINARY if unit.endswith("i") else _DECIMAL)


def _in_units(size: int, units: Sequence[str]) -> str:
    return next((f"{size // _UNITS[u]}{u}" for u in units if size and size % _UNITS[u] == 0), str(size))


def share(text: str) -> str:
    """``5`` or ``25%``, at least 1. Raises ValueError."""
    found = re.fullmatch("([1-9][0-9]{0,8})(%?)", text)
    if found is None or (found[2] and int(found[1]) > 100):
        raise ValueError(f"{quoted(text)} is not {_SHARE}, as in 5 or 25%")
    return text


def share_of(text: str, total: int) -> int:
    """What a ``Share`` is of so many: of a percentage the whole part, at least 1."""
    number = int(text.removesuffix("%"))
    return max(1, total * number // 100) if text.endswith("%") else number


def format_bytes(size: int) -> str:
    """2147483648 → ``2Gi``: the largest binary unit that loses nothing."""
    return _in_units(size, _BINARY)


def parse_duration(text: object) -> int:
    """``1h30m`` → 5400 seconds. Raises ValueError with the allowed form for anything else."""
    match = re.fullmatch(_DURATION, text) if isinstance(text, str) else None
    if match is None:
        near = meant(*_near_durations(text))
        raise ValueError(f"must be a duration, but {got(text)}; write {_TIME}, as in 30s, 1h30m or 2d{near}")
    return sum(int(number or 0) * unit for number, unit in zip(match.groups(), _SECONDS.values(), strict=True))


_SPELT = r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|)(?![a-z])[\s,]*"


def _near_durations(value: object) -> Iterator[str]:
    """``5 min`` → ``5m``, ``1.5h`` → ``1h30m``; a number without a unit is taken for seconds."""
    text = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    parts = re.findall(_SPELT, text)
    total = sum(Fraction(number.replace(",", ".")) * _SECONDS[unit[:1] or "s"] for number, unit in parts)
    if parts and not re.sub(_SPELT, "", text) and Fraction(total).denominator == 1:
        yield format_duration(int(total))


def format_duration(seconds: int) -> str:
    """5400 → ``1h30m``: what ``parse_duration`` reads as the same number."""
    parts: list[str] = []
    for unit, size in _SECONDS.items():
        number, seconds = divmod(seconds, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"


def some_time(seconds: int) -> int:
    """A duration that is not nothing. Raises ValueError."""
    if seconds < 1:
        raise ValueError("must be at least 1s")
    return seconds


def whole_mebibytes(size: int) -> int:
    """The size rounded up to a whole MiB: what memory and disks are made in."""
    return -(-size // 2**20) * 2**20


# Written back as they are read, so that a stored or printed specification can be loaded again.
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(format_bytes, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _QUANTITY, WORDS: f"a size: {_SIZE}", "examples": ["2Gi"]}),
]
Seconds = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION, WORDS: f"a duration: {_TIME}", "examples": ["1h30m"]}),
]
Timeout = Annotated[Seconds, AfterValidator(some_time)]
Share = Annotated[
    str,
    AfterValidator(share),
    BeforeValidator(as_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], WORDS: _SHARE, "examples": ["25%"]}),
]
