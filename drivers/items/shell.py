"""What all items that go over ssh have in common: shell text out, shell text back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from drivers.base import Change, Drift, Fields, Grade, Item, Rejected, State, Transport


class ShellItem(Item):
    """An item probed and changed by POSIX ``sh`` on the machine, as root.

    The three methods are pure: text in, text out. ``drivers/ssh`` carries the text.

    Class attributes:
        uninterruptible: what a script leaves when it is ended half-way needs hands: a newer controller waits for its
            end. All others get a SIGTERM.
    """

    transport: ClassVar[Transport] = Transport.SHELL
    uninterruptible: ClassVar[bool] = False

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """Shell text that prints the state of all ``items`` of this type, in as few processes as possible.

        It must not change anything, must not read standard input, and should print the same bytes while nothing
        changed (no times of day): the connection sends an answer over the wire only when its digest is new.
        """
        raise NotImplementedError

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """What ``probe`` printed, as states by item key. An item the output does not tell of is Unknown."""
        raise NotImplementedError

    def script(self, change: Change) -> str:
        """Shell text that makes the change; runs under ``set -eu``; what it prints to stderr explains a failure.

        ``SALVUS_NOW`` is the controller's clock then, in seconds since the epoch.
        """
        raise NotImplementedError

    def perilous(self, change: Change) -> bool:
        """Whether the change can cut the controller off (rule 8).

        Then ``script`` has the machine put back what was there before by itself, ``SALVUS_WINDOW`` seconds later, at
        the next boot at the latest, whatever becomes of our sessions. Such a change goes alone.
        """
        return False

    def gated(self, change: Change) -> bool:
        """See Item. What can lock nobody out goes at once."""
        return self.perilous(change)

    def confirmation(self, change: Change) -> str:
        """Shell text that lets a perilous change stay; it is run over a new connection.

        It fails when what was there before was put back already. Told twice, it does nothing the second time.
        """
        raise NotImplementedError

    def refused(self, change: Change) -> str:
        """Shell text that notes on the machine that the change was put back: then ``refusal`` tells of it."""
        raise NotImplementedError

    @property
    def payload(self) -> str:
        """A file on the controller that is sent as the script's standard input; empty when there is none.

        Such a change goes alone, with a deadline on silence and none on the whole.
        """
        return ""


class Question(ShellItem):
    """What a machine is only asked, when somebody wants to know: nothing is wanted of it, and nothing ever changed."""

    def fields(self) -> Fields:
        """Nothing is wanted."""
        return {}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Never asked, as there is never drift."""
        return Grade.LIVE

    def script(self, change: Change) -> str:
        """There is nothing to change."""
        raise Rejected(f"{self.key} is only looked at")


def here(content: bytes) -> str:
    """A shell command that prints ``content`` byte by byte: data never stands in argv (rule 13), nor needs quoting."""
    text = base64.encodebytes(content).decode("ascii")
    return f"base64 -d <<'SALVUS_EOF'\n{text}SALVUS_EOF\n"
