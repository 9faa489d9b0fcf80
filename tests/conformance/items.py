"""What a driver does with shell items, in a few lines, and the properties that every item type has to have.

``Run`` takes shell text to a machine: this one, or a host of the lab.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.base import Absent, Change, Drift, Grade, Present, State, Unknown, Verb, drift
from drivers.items.shell import ShellItem

Done = subprocess.CompletedProcess[bytes]
# Runs a program of this shell, given as text, with this standard input, as root.
Run = Callable[[Sequence[str], str, bytes], Done]


def here(shell: Sequence[str], text: str, stdin: bytes) -> Done:
    """On this machine. As in drivers/ssh, the program does not come by standard input."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*shell, f"/dev/fd/{reader}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(reader,),
    ) as process:
        os.close(reader)
        with os.fdopen(writer, "wb") as program:
            program.write(text.encode())
        out, err = process.communicate(stdin)
    return subprocess.CompletedProcess(shell, process.returncode, out, err)


@dataclass(frozen=True)
class Example:
    """An item, what must be there before it, and shell texts that spoil it."""

    item: ShellItem
    before: tuple[ShellItem, ...] = ()
    damages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """Where items are tried."""

    run: Run = here

    def probe(self, *items: ShellItem) -> str:
        done = self.run(["sh"], type(items[0]).probe(items), b"")
        return done.stdout.decode()

    def see(self, item: ShellItem) -> State:
        return item.read([item], self.probe(item))[item.key]

    def tell(self, change: Change, shell: Sequence[str] = ("sh", "-eu"), before: str = "") -> Done:
        assert isinstance(change.item, ShellItem)
        payload = Path(change.item.payload).read_bytes() if change.item.payload else b""
        confirmation = change.item.confirmation(change) if change.item.perilous(change) else ""
        return self.run(shell, before + change.item.script(change) + confirmation, payload)

    def sh(self, text: str) -> None:
        done = self.run(["sh", "-eu"], text, b"")
        assert done.returncode == 0, done.stderr.decode()

    def mend(self, item: ShellItem) -> None:
        change = needed(item, self.see(item))
        if change is not None:
            done = self.tell(change)
            assert done.returncode == 0, done.stderr.decode()

    def mended(self, item: ShellItem) -> None:
        """Makes it right in one go, and sees that it is."""
        self.mend(item)
        assert needed(item, self.see(item)) is None

    def delete(self, item: ShellItem) -> Done:
        return self.tell(Change(item, Verb.DELETE, (), Grade.LIVE))

    # --- the properties

    def making_it_twice_writes_nothing(self, example: Example) -> None:
        for item in (*example.before, example.item):
            assert isinstance(self.see(item), Absent)
            self.mended(item)
        item = example.item
        assert self.probe(item) == self.probe(item), "a probe prints the same bytes while nothing changes"
        again = self.tell(create(item))
        assert needed(item, self.see(item)) is None, again.stderr.decode()

    def every_damage_is_seen_and_mended(self, example: Example) -> None:
        assert example.damages, "nothing would be tried"
        for damage in example.damages:
            self.sh(damage)
            change = needed(example.item, self.see(example.item))
            assert change is not None, damage
            self.mended(example.item)

    def killed_anywhere_it_converges(self, example: Example, clean: Callable[[], None], stride: int = 1) -> int:
        """The making of it is killed before its first command, its second, and so on. Answers with how many.

        With a ``stride`` only every so many commands, where each of them takes long.
        """
        for step, done in self._stopped_anywhere("kill -KILL $$", example, clean, stride):
            assert not isinstance(self.see(example.item), Unknown)
            self.mended(example.item)
            if done.returncode == 0:
                return step
            assert done.returncode in (-9, 137), done.stderr.decode()
        raise AssertionError("it does not end")

    def failing_anywhere_it_leaves_nothing(
        self, example: Example, clean: Callable[[], None], left: Callable[[], Sequence[str]], stride: int = 1
    ) -> int:
        """The same with a failure instead of a kill; ``left`` tells what is there that should not be."""
        for step, done in self._stopped_anywhere("[ $BASH_SUBSHELL != 0 ] || exit 77", example, clean, stride):
            assert not left(), f"failed before command {step}"
            if done.returncode == 0:
                return step
            assert done.returncode == 77, done.stderr.decode()
        raise AssertionError("it does not end")

    def _stopped_anywhere(
        self, stop: str, example: Example, clean: Callable[[], None], stride: int
    ) -> Iterator[tuple[int, Done]]:
        for step in range(1, 1000, stride):
            clean()
            for item in example.before:
                self.mended(item)
            yield step, self.tell(create(example.item), ["bash", "--posix"], STOP.format(step=step, stop=stop))

    def deleting_it_twice_leaves_nothing(self, example: Example) -> None:
        for _ in range(2):
            done = self.delete(example.item)
            assert done.returncode == 0, done.stderr.decode()
        assert isinstance(self.see(example.item), Absent)


STOP = """\
n=0
trap 'n=$((n + 1)); [ $n -ne {step} ] || {stop}' DEBUG
set -euT
"""


def create(item: ShellItem) -> Change:
    missing = tuple(Drift(name, value, None) for name, value in item.fields().items())
    return Change(item, Verb.CREATE, missing, Grade.LIVE)


def needed(item: ShellItem, state: State) -> Change | None:
    """What the planner would do."""
    assert not isinstance(state, Unknown), state.reason
    if isinstance(state, Absent):
        return create(item)
    assert isinstance(state, Present)
    found = drift(item.fields(), state.fields)
    return Change(item, Verb.UPDATE, found, item.grade(found)) if found else None
