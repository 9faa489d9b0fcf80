"""How it is known that a perilous change is made when the connection that it was told by does not say. Pure text.

A connection counts as a new one only if it was opened after that: else it may have come in by what was there before.
"""

from __future__ import annotations

import shlex


def marked(script: str, mark: str, state: str) -> str:
    """The script, which leaves the mark in the state folder at its end."""
    return f"{script}\nprintf '%s\\n' {mark} >{_file(state)}\n"


def awaited(mark: str, state: str, seconds: int) -> str:
    """A script that waits until the mark is there; it fails if that takes longer than so many seconds."""
    return f"""\
left={seconds}
until [ -e {_file(state)} ] && read -r mark <{_file(state)} && [ "$mark" = {mark} ]; do
[ "$left" -gt 0 ] || {{ echo 'the change did not come to its end' >&2; exit 1; }}
left=$((left - 1))
sleep 1
done
"""


def _file(state: str) -> str:
    return shlex.quote(f"{state}/trial")
