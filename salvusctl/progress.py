"""How far resources are, while they are brought about: live on a terminal, a line for each turn in a pipe."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.text import Text

from controller.store.records import Condition
from salvusctl import out


class Board(Protocol):
    """Where progress is shown. Safe for threads."""

    def show(self, pending: Mapping[str, Condition]) -> None:
        """Shows which resources are pending; the others are where they are to be."""
        ...

    def note(self, text: str) -> None:
        """One line that stays."""
        ...


@contextmanager
def board(refs: Collection[str], done: str) -> Iterator[Board]:
    """Shows on stderr how the resources stand; ``done`` is the word for those that are not pending any more."""
    console = out.console(stderr=True, soft_wrap=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(refs, done)
        return
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield _Picture(live, refs, done)


class _Picture:
    """Live, on a terminal: one line a resource, the pending ones first, as many as there is room for."""

    def __init__(self, live: Live, refs: Collection[str], done: str) -> None:
        self._live = live
        self._refs = refs
        self._done = done
        self._width = max((len(ref) for ref in refs), default=0)
        self._began = time.monotonic()

    def show(self, pending: Mapping[str, Condition]) -> None:
        ordered = sorted(self._refs, key=lambda ref: ref not in pending)
        room = max(1, self._live.console.height - 3)
        lines = [self._line(ref, pending.get(ref)) for ref in ordered[:room]]
        more = f", {len(ordered) - room} more not shown" if len(ordered) > room else ""
        seconds = out.age(time.monotonic() - self._began)
        total = f"{len(ordered) - len(pending)} of {len(ordered)} {self._done} after {seconds}{more}"
        self._live.update(Group(*lines, Text(total, "dim", no_wrap=True, overflow="ellipsis")))

    def note(self, text: str) -> None:
        self._live.console.print(out.clean(text), soft_wrap=True)

    def _line(self, ref: str, condition: Condition | None) -> Text:
        line = Text(f"{out.clean(ref):<{self._width}}   ", no_wrap=True, overflow="ellipsis")
        if condition is None:
            return line.append(self._done, "green")
        line.append(condition.reason, "red" if condition.status == "False" else "yellow")
        return line.append(f"   {out.clean(condition.message)}")


class _Lines:
    """In a pipe: a line for each turn."""

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

    def note(self, text: str) -> None:
        out.note(text)
