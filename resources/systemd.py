"""Unit files for commands, with everything quoted. Pure.

Sources: systemd.service(5) "COMMAND LINES", systemd.syntax(7) "QUOTING", systemd.unit(5) "SPECIFIERS".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command that runs as long as its service does.

    Attributes:
        argv: the program, by its absolute path, and its arguments. None is seen by a shell.
        user: the user it runs as; root when empty.
        directory: its working directory; ``/`` when empty.
        environment: variables in addition to systemd's own.
    """

    argv: tuple[str, ...]
    user: str = ""
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def unit_file(description: str, command: Command) -> str:
    """A service unit that starts at boot, and again whenever its command ends."""
    service = [
        ("Type", "exec"),
        ("ExecStart", command_line(command.argv)),
        *(("Environment", assignment(*pair)) for pair in sorted(command.environment.items())),
        *([("User", command.user)] if command.user else []),
        *([("WorkingDirectory", percent(command.directory))] if command.directory else []),
        ("Restart", "always"),
        ("RestartSec", "1"),
    ]
    unit = [
        ("Description", percent(description)),
        ("Wants", "network-online.target"),
        ("After", "network-online.target"),
        ("StartLimitIntervalSec", "0"),
    ]
    sections = {"Unit": unit, "Service": service, "Install": [("WantedBy", "multi-user.target")]}
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in pairs) for name, pairs in sections.items()
    )


def command_line(argv: Sequence[str]) -> str:
    """Arguments as ``ExecStart=`` reads them back. A variable or a specifier in them is plain text."""
    program, *arguments = argv
    # systemd takes the program literally, but for specifiers: no variable is looked for there.
    return " ".join([quoted(percent(program)), *(quoted(percent(word).replace("$", "$$")) for word in arguments)])


def assignment(name: str, value: str) -> str:
    """``NAME=value`` as ``Environment=`` reads it; dollar signs mean nothing there."""
    return quoted(percent(f"{name}={value}"))


def percent(text: str) -> str:
    """Text without specifiers."""
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    """One word: in double quotes with C escapes, unless it is plain."""
    if re.fullmatch(r"[A-Za-z0-9_./:=,@%+$-]+", text):
        return text
    return '"' + re.sub(r'[\\"\x00-\x1f\x7f]', _escaped, text) + '"'


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\x{ord(match[0]):02x}"
