"""The header of a qcow2 image (QEMU, docs/interop/qcow2.txt): what a disk is, without opening it. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"QFI\xfb"
_VERSION_2 = struct.Struct(">4sIQIIQ")
_VERSION_2_LENGTH = 72
_HEADER_LENGTH_AT = 100
_BACKING_FORMAT = 0xE2792ACA


@dataclass(frozen=True, slots=True)
class Header:
    """``size`` is what a guest sees, in bytes; ``backing`` is empty when the image stands alone."""

    size: int
    backing: str
    backing_format: str


def parse(data: bytes) -> Header:
    """The header that ``data``, the first kilobytes of an image, begins with. Raises ValueError."""
    try:
        magic, version, offset, length, _, size = _VERSION_2.unpack_from(data)
        if magic != MAGIC or version not in (2, 3):
            raise ValueError("not a qcow2 image of version 2 or 3")
        begin = _VERSION_2_LENGTH if version == 2 else struct.unpack_from(">I", data, _HEADER_LENGTH_AT)[0]
        kind = _extensions(data, begin).get(_BACKING_FORMAT, b"") if offset else b""
    except struct.error:
        raise ValueError("its qcow2 header is cut short") from None
    if offset + length > len(data):
        raise ValueError("its qcow2 header has the name of its base where it is not looked for")
    return Header(size, data[offset : offset + length].decode(errors="replace") if offset else "", kind.decode("ascii"))


def _extensions(data: bytes, at: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while True:
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 0:
            return found
        found[kind] = data[at + 8 : at + 8 + length]
        at += 8 + -(-length // 8) * 8
