"""Quantities as Kubernetes writes them (``2Gi``, ``512M``) and durations (``30s``, ``1h30m``), as pydantic types."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = r"^(0|[1-9][0-9]*)(k|M|G|T|Ki|Mi|Gi|Ti)?$"
_DURATION = r"^(?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?$"


def parse_bytes(text: object) -> int:
    """``2Gi`` → 2147483648. Raises ValueError with the allowed units for anything else."""
    match = re.fullmatch(_QUANTITY, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("not a size; write a whole number with a unit: k, M, G, T, Ki, Mi, Gi or Ti, as in 2Gi")
    return int(match[1]) * _UNITS[match[2] or ""]


def format_bytes(size: int) -> str:
    """2147483648 → ``2Gi``: the largest binary unit that loses nothing."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def parse_duration(text: object) -> int:
    """``1h30m`` → 5400 seconds. Raises ValueError with the allowed form for anything else."""
    match = re.fullmatch(_DURATION, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("not a duration; write hours, minutes and seconds, as in 30s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def format_duration(seconds: int) -> str:
    """5400 → ``1h30m``: what ``parse_duration`` reads as the same number."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def whole_mebibytes(size: int) -> int:
    """The size rounded up to a whole MiB: what memory and disks are made in."""
    return -(-size // 2**20) * 2**20


# Written back as they are read, so that a stored or printed specification can be loaded again.
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(format_bytes, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _QUANTITY, "examples": ["2Gi"]}),
]
Seconds = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["30s"]}),
]
