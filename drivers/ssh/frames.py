"""How a machine's answers are told from whatever else a shell may print: frames under a random boundary. Pure.

A frame is ``\\nBOUNDARY WORDS…\\nTEXT\\nBOUNDARY .\\n``. The boundary is drawn anew for each shell and is never in
argv or the environment there, so that nothing that is printed can pass for a frame.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

# For a shell that a login started: without its settings, the same bytes everywhere.
ENVIRONMENT = """\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
export PATH LC_ALL
unset ENV BASH_ENV
umask 022
cd /
"""
# ``say WORDS TEXT`` prints a frame. Its text is cut, so that it goes out in one write, and what runs beside can't come
# in between.
SAY = """\
B={boundary}
say() {{ printf '\\n%s %s\\n%.2000s\\n%s .\\n' "$B" "$1" "$2" "$B"; }}
"""
PRELUDE = ENVIRONMENT + SAY


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; ``before`` is what was printed since the last one."""

    words: tuple[str, ...]
    text: bytes
    before: bytes


def boundary() -> str:
    """A new one, which nobody can guess."""
    return secrets.token_hex(16)


class Frames:
    """Cuts a stream into frames."""

    def __init__(self, boundary: str) -> None:
        self._head = f"\n{boundary} ".encode()
        self._tail = f"\n{boundary} .\n".encode()
        self._buffer = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def rest(self) -> bytes:
        """What has come since the last frame."""
        return bytes(self._buffer)

    def next(self) -> Frame | None:
        """The next whole frame, if there is one."""
        end = self._buffer.find(self._tail, self._seen)
        if end < 0:
            self._seen = max(0, len(self._buffer) - len(self._tail))
            return None
        part = bytes(self._buffer[:end])
        del self._buffer[: end + len(self._tail)]
        self._seen = 0
        before, _, frame = part.partition(self._head)
        words, _, text = frame.partition(b"\n")
        return Frame(tuple(words.decode("ascii", "replace").split()), text, before)


_CONTROL = re.compile(r"[^\n\x20-\x7e\xa0-\uffff]+")


def clean(text: bytes, limit: int = 1000) -> str:
    """What a machine printed, fit for a message: no control characters, its last lines joined by ``; ``."""
    lines = _CONTROL.sub(" ", text.decode("utf-8", "replace")).splitlines()
    return "; ".join(stripped for line in lines if (stripped := line.strip()))[-limit:]
