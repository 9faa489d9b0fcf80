"""One script that asks for items of all types, and its answer read. Pure text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.base import DriverError, State, Unknown
from drivers.items.shell import ShellItem
from drivers.ssh.frames import SAY, Frame, Frames, clean

Groups = Mapping[type[ShellItem], Sequence[ShellItem]]

# Each type asks in a shell of its own: what fails, exits or changes folder there does not reach the others. Standard
# output goes its way through 3, what is said on stderr is kept for when the answer makes no sense.
_SECTION = """\
{{ e=$( {{
{probe}
}} 2>&1 >&3 3>&-); r=$?; }} 3>&1
say "section {number} $r" "$e"
"""
_TIMED_OUT = ("124", "137")


def grouped(items: Sequence[ShellItem]) -> Groups:
    """The items by type."""
    groups: dict[type[ShellItem], list[ShellItem]] = {}
    for item in items:
        groups.setdefault(type(item), []).append(item)
    return groups


def script(groups: Groups, boundary: str) -> str:
    """Shell text that asks for all the items."""
    sections = (
        _SECTION.format(number=number, probe=kind.probe(items)) for number, (kind, items) in enumerate(groups.items())
    )
    return SAY.format(boundary=boundary) + "".join(sections)


def read(groups: Groups, output: bytes, status: str, boundary: str) -> dict[str, State]:
    """The states of all items by key. Of those whose part is missing or makes no sense, Unknown with the reason.

    ``output`` and ``status`` are those of the script.
    """
    frames = Frames(boundary)
    frames.feed(output)
    answers: dict[str, Frame] = {}
    while (frame := frames.next()) is not None:
        answers[frame.words[1]] = frame
    said = clean(frames.rest) or "the answer ended too early"
    reason = "the machine took too long to answer" if status in _TIMED_OUT else said
    states: dict[str, State] = {}
    for number, (kind, items) in enumerate(groups.items()):
        answer = answers.get(str(number))
        known = _section(kind, items, answer) if answer else {}
        states |= {item.key: known.get(item.key) or Unknown(reason) for item in items}
    return states


def _section(kind: type[ShellItem], items: Sequence[ShellItem], frame: Frame) -> Mapping[str, State]:
    said = clean(frame.text)
    try:
        states = kind.read(items, frame.before.decode("utf-8", "backslashreplace"))
    except (DriverError, ValueError, LookupError, TypeError) as error:
        states = {item.key: Unknown(f"the answer could not be read: {error}") for item in items}
    missing = Unknown(f"the machine did not tell of it (status {frame.words[2]})")
    found = {item.key: states.get(item.key, missing) for item in items}
    return {key: _because(state, said) for key, state in found.items()}


def _because(state: State, said: str) -> State:
    return Unknown(f"{state.reason}: {said}") if said and isinstance(state, Unknown) else state
