"""A ``sh`` kept open on a channel: a probe that was sent once is asked for by a few bytes, and answers in a few."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from paramiko import Channel

from drivers.base import DriverError, Failed
from drivers.ssh.frames import PRELUDE, Frame, Frames, boundary, clean
from drivers.ssh.guard import Guard
from drivers.ssh.link import Link

LARGEST_ANSWER = 64 * 1024 * 1024
CHUNK = 64 * 1024
SUDO = "let the user become root without a password: a line `{user} ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d/salvus"

# `ask N` runs `probe`. Its answer, status first, is kept, and told only when it is not equal to answer N, which the
# asker has.
# A variable of sh holds every byte but NUL, which no probe prints.
_PROGRAM = """\
ask() {
now=$(probe </dev/null)
now="$?
$now"
if [ "$1" = "$n" ] && [ "$now" = "$last" ]; then say same; return; fi
n=$((n + 1)); last=$now
printf '\\n%s new %s %s\\n%s .\\n' "$B" "$n" "$now" "$B"
}
say ready
"""
# The script comes through a file descriptor: neither in argv, which anybody may read, nor as a file, which may be left.
# It has a limit of its own, for when nobody is there any more to end it. `probe` is only ever run for its output, in a
# copy of the shell, which becomes the process that holds the limit.
_PROBE = Template("""\
probe() {
exec timeout -k 5 $limit sh /dev/fd/9 2>&1 9<<'$boundary.'
exec 9<&-
$script
$boundary.
}
last=; n=0
""")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script printed, and the status it ended with: 124 or 137 when it took too long (timeout(1))."""

    output: bytes
    status: str


class Shell:
    """One kept shell. Not safe for threads. After an error it is of no more use, and its link is ended with it.

    ``inner`` is the boundary for frames inside an answer.
    """

    def __init__(self, link: Link, user: str, become: str, seconds: float) -> None:
        self.link = link
        self.boundary = boundary()
        self.inner = boundary()
        self._seconds = seconds
        self._script: str | None = None
        self._number = 0
        self._frames = Frames(self.boundary)
        with link.call(seconds, "starting a shell") as guard:
            self._channel = link.execute(f"exec {become}sh -s")
            self._channel.sendall((PRELUDE.format(boundary=self.boundary) + _PROGRAM).encode())
            if self._frame(guard) is None:
                raise not_started(link.machine, self._channel, self._frames.rest, user)

    def ask(self, script: str) -> Answer | None:
        """The script's answer; None when that is the same as the last time."""
        try:
            with self.link.call(self._seconds, "asking") as guard:
                self._channel.sendall(self._request(script))
                frame = self._frame(guard)
                if frame is None:
                    raise EOFError
        except DriverError:
            self.link.abort()
            raise
        if frame.words == ("same",):
            return None
        _, number, status = frame.words
        self._number = int(number)
        return Answer(frame.text + b"\n", status)

    def _request(self, script: str) -> bytes:
        text = ""
        if script != self._script:
            limit = max(1, int(self._seconds * 0.8))
            text = _PROBE.substitute(limit=limit, boundary=self.boundary, script=script)
            self._script, self._number = script, 0
        return f"{text}ask {self._number}\n".encode()

    def _frame(self, guard: Guard) -> Frame | None:
        """The next frame; None when the shell has ended."""
        while (frame := self._frames.next()) is None:
            data = self._channel.recv(CHUNK)
            if not data:
                return None
            guard.renew()
            self._frames.feed(data)
            if len(self._frames) > LARGEST_ANSWER:
                raise Failed(f"{self.link.machine}: an answer of more than {LARGEST_ANSWER} bytes")
        return frame


def not_started(machine: str, channel: Channel, printed: bytes, user: str) -> Exception:
    """Why a channel ended before our shell said anything: it could not be started, or the connection was lost."""
    status = channel.recv_exit_status()
    if status == -1:
        return EOFError()
    said = clean(printed) or "nothing was said"
    hint = SUDO.format(user=user) if "sudo" in said else "can root run a POSIX shell there, and write to its disk?"
    return Failed(f"{machine}: its shell ended with status {status}: {said}", machine=machine, hint=hint)
