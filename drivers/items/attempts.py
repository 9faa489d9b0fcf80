"""Connections that a machine tries to make now. Nothing is wanted of them: the machine is only asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Present, State, Unknown
from drivers.items import paths as fs
from drivers.items.rules import Protocol
from drivers.items.shell import Question


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection: ``TCP`` or ``UDP``, between IP addresses of one version; ``source`` is the machine's own."""

    protocol: Protocol
    source: str
    destination: str
    port: int


CONNECTED = "connected"
ANSWERED = "answered"
SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Attempts(Question):
    """What is tried, all at the same time.

    Observed is ``answers``, one for each: ``connected``, ``answered`` (UDP), ``silent`` after ``PATIENCE`` seconds, or
    an error number's name (errno(3)), as in ``ECONNREFUSED``. Nothing is said over a TCP connection; the datagrams of
    UDP are empty.
    """

    attempts: tuple[Attempt, ...]

    @property
    def name(self) -> str:
        """There is one of these on a machine."""
        return "live"

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. perl-base is essential in Debian: it is there, other than python or nc."""
        calls = (
            f"salvus_attempts {number} {fs.words([word for one in item.attempts for word in _words(one)])}\n"
            for number, item in enumerate(items)
        )
        return _ATTEMPTS + "".join(calls)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        lines = output.splitlines()
        return {item.key: _state(number, len(item.attempts), lines) for number, item in enumerate(items)}


def _words(one: Attempt) -> tuple[str, ...]:
    return (one.protocol.value, one.source, one.destination, str(one.port))


# More than the 3 s after which the kernel knows that nobody on the own network has an address.
PATIENCE = 5
# Of many so many at a time: each is an open file.
_AT_ONCE = 900
_ATTEMPTS = f"""\
salvus_attempts() {{
    command -v perl >/dev/null || return 0
    perl -e '
        use strict;
        use Errno;
        use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 SOCK_NONBLOCK);
        my ($n, @words) = @ARGV;
        my ($i, %open) = (0);
        sub failed {{ (sort grep {{ $!{{$_}} }} keys %!)[0] || "E" . ($! + 0) }}
        sub told {{ print "A $n $_[0] $_[1]\\n"; delete $open{{$_[0]}} }}
        sub at {{
            my ($port, $address) = @_;
            return pack_sockaddr_in($port, inet_pton(AF_INET, $address)) unless $address =~ /:/;
            pack_sockaddr_in6($port, inet_pton(AF_INET6, $address));
        }}
        sub begin {{
            my ($i, $protocol, $from, $to, $port) = @_;
            my $tcp = $protocol eq "tcp";
            my ($s, $type) = (undef, $tcp ? SOCK_STREAM : SOCK_DGRAM);
            socket($s, $to =~ /:/ ? AF_INET6 : AF_INET, $type | SOCK_NONBLOCK, 0) && bind($s, at(0, $from))
                or return told($i, failed());
            my $done = connect($s, at($port, $to));
            return told($i, failed()) unless $done || $!{{EINPROGRESS}};
            $open{{$i}} = [$s, $tcp];
        }}
        sub speak {{
            for (keys %open) {{
                my ($s, $tcp) = @{{$open{{$_}}}};
                told($_, failed()) unless $tcp || defined send($s, "", 0);
            }}
        }}
        sub look {{
            my ($i, $in, $out) = @_;
            my ($s, $tcp) = @{{$open{{$i}}}};
            if ($tcp) {{
                return unless vec($out, fileno($s), 1);
                $! = unpack("i", getsockopt($s, SOL_SOCKET, SO_ERROR));
                told($i, $! + 0 ? failed() : "{CONNECTED}");
            }} elsif (vec($in, fileno($s), 1)) {{
                told($i, defined recv($s, my $data, 1, 0) ? "{ANSWERED}" : failed());
            }}
        }}
        while (@words) {{
            begin($i++, splice(@words, 0, 4)) for 1 .. (@words / 4 < {_AT_ONCE} ? @words / 4 : {_AT_ONCE});
            my ($next, $end) = (0, time + {PATIENCE} + 1);
            while (%open && time < $end) {{
                if (time >= $next) {{ speak(); $next = time + 1 }}
                my ($in, $out) = ("", "");
                vec($open{{$_}}[1] ? $out : $in, fileno($open{{$_}}[0]), 1) = 1 for keys %open;
                next unless select($in, $out, undef, 0.5) > 0;
                look($_, $in, $out) for keys %open;
            }}
            told($_, "{SILENT}") for keys %open;
        }}
        print "D $n\\n";
    ' "$@"
}}
"""


def _state(number: int, count: int, lines: Sequence[str]) -> State:
    found = (re.fullmatch(rf"A {number} ([0-9]+) (\w+)", line) for line in lines)
    answers = {int(match[1]): match[2] for match in found if match}
    if f"D {number}" not in lines or answers.keys() != set(range(count)):
        return Unknown("nothing can be tried from there; is perl-base installed?")
    return Present({"answers": tuple(answers[position] for position in range(count))})
