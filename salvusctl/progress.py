"""How far resources are, while they are brought about: live on a terminal, a line for each turn in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from controller.store.records import Condition
from salvusctl import out

# Shows which resources are pending; the others are where they are to be.
Show = Callable[[Mapping[str, Condition]], None]


@contextmanager
def board(refs: Collection[str], done: str) -> Iterator[Show]:
    """Shows on stderr how the resources stand; ``done`` is the word for those that are not pending any more."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        yield _Lines(refs, done).show
        return
    began = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield lambda pending: live.update(_picture(refs, pending, done, time.monotonic() - began, console.height - 2))


class _Lines:
    def __init__(self, refs: Collection[str], done: str) -> None:
        self._refs = refs
        self._done = done
        self._shown: dict[str, tuple[str, str]] = {}

    def show(self, pending: Mapping[str, Condition]) -> None:
        for ref in self._refs:
            condition = pending.get(ref)
            state = (condition.status, condition.reason) if condition else (self._done, "")
            if self._shown.get(ref) != state:
                self._shown[ref] = state
                out.note(f"{ref}: {f'{condition.reason}: {condition.message}' if condition else self._done}")


def _picture(refs: Collection[str], pending: Mapping[str, Condition], done: str, seconds: float, height: int) -> Group:
    """One line a resource, the pending ones first, as many as there is room for."""
    width = max((len(ref) for ref in refs), default=0)
    ordered = sorted(refs, key=lambda ref: ref not in pending)
    room = max(1, height - 1)
    lines = [_line(ref, pending.get(ref), done, width) for ref in ordered[:room]]
    more = f", {len(ordered) - room} more not shown" if len(ordered) > room else ""
    total = f"{len(ordered) - len(pending)} of {len(ordered)} {done} after {out.age(seconds)}{more}"
    return Group(*lines, Text(total, "dim", no_wrap=True, overflow="ellipsis"))


def _line(ref: str, condition: Condition | None, done: str, width: int) -> Text:
    line = Text(f"{out.clean(ref):<{width}}   ", no_wrap=True, overflow="ellipsis")
    if condition is None:
        return line.append(done, "green")
    line.append(condition.reason, "red" if condition.status == "False" else "yellow")
    return line.append(f"   {out.clean(condition.message)}")
