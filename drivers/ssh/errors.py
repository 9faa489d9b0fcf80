"""paramiko's and the socket's errors as ours: one table, held against paramiko's own list by a test."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from paramiko import ssh_exception as paramiko
from paramiko.pkey import UnknownKeyType

from drivers.base import DriverError, Failed, Rejected, Unreachable


class Silent(Unreachable):
    """The machine gave no sign of life for the whole deadline. Asking again at once would only cost another one."""


_DOWN = "is the machine up, and is sshd running there?"
_KEYS = "check spec.ssh: the user, identityFiles, useAgent; and authorized_keys on the machine"
_PINNED = (
    "this may be an attack, or the machine was made anew: compare its host key by another way, then pin the new one"
)

TABLE: Mapping[type[Exception], tuple[type[DriverError], str]] = {
    paramiko.SSHException: (Unreachable, _DOWN),
    paramiko.AuthenticationException: (Unreachable, _KEYS),
    paramiko.PasswordRequiredException: (Rejected, "the identity file has a passphrase: give the key to an ssh-agent"),
    paramiko.BadAuthenticationType: (Unreachable, "sshd must allow public keys: PubkeyAuthentication yes"),
    paramiko.PartialAuthentication: (Unreachable, "sshd wants more than a key: see AuthenticationMethods there"),
    paramiko.UnableToAuthenticate: (Unreachable, _KEYS),
    paramiko.ChannelException: (Failed, "see MaxSessions and AllowTcpForwarding of sshd_config(5) there"),
    paramiko.BadHostKeyException: (Unreachable, _PINNED),
    paramiko.IncompatiblePeer: (
        Unreachable,
        f"sshd has no host key of a type that is pinned, or is very old; {_PINNED}",
    ),
    paramiko.ProxyCommandFailure: (Unreachable, _DOWN),
    paramiko.NoValidConnectionsError: (Unreachable, _DOWN),
    paramiko.CouldNotCanonicalize: (Unreachable, "check the machine's address"),
    paramiko.ConfigParseError: (Rejected, "salvus reads no ssh_config; this is a defect of salvus"),
    paramiko.MessageOrderError: (Unreachable, "something between here and there changes the connection"),
    UnknownKeyType: (Rejected, "use a key of type ed25519, ecdsa or rsa"),
    socket.gaierror: (Unreachable, "the address does not resolve: check its spelling, and DNS"),
    EOFError: (Unreachable, _DOWN),
    OSError: (Unreachable, _DOWN),
}

# What a call into paramiko may raise.
RAISED = (paramiko.SSHException, UnknownKeyType, EOFError, OSError)


def translate(error: Exception, machine: str, doing: str) -> DriverError:
    """The error as ours, saying what was being done and where. The nearest class in the table counts."""
    kind, hint = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    said = error.strerror if isinstance(error, OSError) else "" if isinstance(error, EOFError) else str(error)
    what = said or str(error) or "the connection ended"
    return kind(f"{machine}: {doing}: {what}", machine=machine, hint=hint)
