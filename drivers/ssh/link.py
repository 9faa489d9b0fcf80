"""One live ssh connection: made, authenticated, watched, ended."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from drivers.base import DriverError, Rejected, SshTarget, Unreachable
from drivers.ssh.errors import RAISED, Silent, translate
from drivers.ssh.guard import Guard

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what it has to say is raised as well, and worded by us

# Makes a socket to (address, port) within seconds.
Dial = Callable[[str, int, float], socket.socket]
# Seconds that paramiko gets to notice an end that its channels have noticed.
SETTLE = 0.2
# Seconds after which a machine is cut off whose kernel acknowledges nothing of what was sent: sooner than the deadline
# on silence, as a busy machine may take long for an answer, but not for that.
CUT_OFF = 15.0
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


class _Transport(paramiko.Transport):
    """Its thread sleeps while nothing comes, instead of waking ten times a second; Link.abort wakes it at the end."""

    _active_check_timeout = 60.0


class Link:
    """A transport with its socket. ``abort`` ends all calls on it at once, from any thread, without blocking."""

    def __init__(self, machine: str, sock: socket.socket, transport: paramiko.Transport) -> None:
        self.machine = machine
        self._sock = sock
        self._transport = transport
        self._aborted = False

    @property
    def alive(self) -> bool:
        """False once it has ended; a frozen peer is not noticed here."""
        return not self._aborted and self._transport.is_active()

    def abort(self) -> None:
        """Ends the connection; whoever waits on it gets Unreachable."""
        self._aborted = True
        abort(self._sock)

    def ended(self) -> bool:
        """Whether it has ended: paramiko tells the channels a moment before it says so."""
        self._transport.join(SETTLE)
        return not self.alive

    @contextmanager
    def call(self, seconds: float, doing: str) -> Iterator[Guard]:
        """A deadline on silence, and paramiko's errors as ours: Silent, Unreachable, Failed."""
        with guarded(self.machine, self.abort, seconds, doing) as guard:
            yield guard

    def execute(self, command: str, *, combine: bool = True) -> paramiko.Channel:
        """Starts a command, its stderr among its output if ``combine``. To be used inside ``call``."""
        channel = self._transport.open_session()
        channel.set_combine_stderr(combine)
        channel.exec_command(command)
        return channel

    def forward(self, host: str, port: int, seconds: float) -> paramiko.Channel:
        """A connection from the machine to somewhere else. To be used inside ``call``."""
        return self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=seconds)


def abort(sock: socket.socket) -> None:
    """Wakes everybody who waits on the socket, connecting ones too."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def hang_up(channel: paramiko.Channel) -> None:
    """Closes a channel, whatever has become of its connection."""
    with contextlib.suppress(*RAISED):
        channel.close()


@contextmanager
def guarded(machine: str, end: Callable[[], None], seconds: float, doing: str) -> Iterator[Guard]:
    """See Link.call."""
    with Guard(seconds, end) as guard:
        try:
            yield guard
        except RAISED as error:
            if not guard.expired:
                raise translate(error, machine, doing) from error
            raise Silent(
                f"{machine}: {doing}: no answer for {seconds:g} s",
                machine=machine,
                hint="the machine or its sshd is frozen or cut off; spec.ssh has the deadlines",
            ) from error


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP socket. paramiko never sets TCP_NODELAY, without which an exec costs ten times as much."""
    sock = socket.create_connection((address, port), timeout=seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(CUT_OFF * 1000))  # tcp(7)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


def open_link(machine: str, target: SshTarget, dial: Dial, opened: Callable[[socket.socket], None]) -> Link:
    """Tries the addresses in order. ``opened`` gets each socket before anything is waited for on it.

    Raises Unreachable, or Rejected for keys that can't be used as they are.
    """
    pinned = [_public_key(machine, line) for line in target.host_keys]
    errors: list[DriverError] = []
    for address in target.addresses:
        try:
            return _open(machine, target, address, pinned, dial, opened)
        except DriverError as error:
            errors.append(error)
    if not errors:
        raise Unreachable(f"{machine}: no address is known", machine=machine, hint="set spec.address")
    if len(errors) == 1:
        raise errors[0]
    said = "; ".join(str(error).removeprefix(f"{machine}: ") for error in errors)
    raise type(errors[0])(f"{machine}: {said}", machine=machine, hint=errors[0].hint)


def _open(
    machine: str,
    target: SshTarget,
    address: str,
    pinned: list[paramiko.PKey],
    dial: Dial,
    opened: Callable[[socket.socket], None],
) -> Link:
    doing = f"ssh to {target.user}@{address} port {target.port}"
    try:
        sock = dial(address, target.port, target.connect_timeout)
    except OSError as error:
        raise translate(error, machine, doing) from error
    try:
        opened(sock)
        with guarded(machine, lambda: abort(sock), target.connect_timeout, doing):
            transport = _Transport(sock)
            transport.banner_timeout = transport.auth_timeout = target.connect_timeout
            _negotiate(transport, address, pinned)
            _log_in(machine, transport, target)
            return Link(machine, sock, transport)
    except BaseException:
        abort(sock)
        sock.close()
        raise


def _public_key(machine: str, line: str) -> paramiko.PKey:
    try:
        kind, encoded = line.split()[:2]
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        hint = "copy it from the machine: /etc/ssh/ssh_host_ed25519_key.pub"
        raise Rejected(f"{machine}: not a host key: {line[:80]!r}", machine=machine, hint=hint) from error


def _negotiate(transport: paramiko.Transport, address: str, pinned: list[paramiko.PKey]) -> None:
    """The handshake, up to the host key, which must be a pinned one: nothing is ever learnt (rule 14)."""
    options = transport.get_security_options()
    options.ciphers = sorted(options.ciphers, key=lambda name: "gcm" not in name)
    names = {key.get_name() for key in pinned}
    types = [name for name in options.key_types if name in names or (name in _RSA and "ssh-rsa" in names)]
    if not types:
        raise paramiko.SSHException("no host key is pinned, so none is trusted")
    options.key_types = types
    transport.start_client()
    shown = transport.get_remote_server_key()
    if shown not in pinned:
        raise paramiko.BadHostKeyException(address, shown, pinned[0])


def _log_in(machine: str, transport: paramiko.Transport, target: SshTarget) -> None:
    """With the first key that is taken. A file that can't be used does not keep the other keys from being tried."""
    refused: Exception = paramiko.AuthenticationException("there is no key to log in with")
    for path in target.identity_files:
        try:
            return _offer(transport, target.user, _private_key(machine, path))
        except (paramiko.AuthenticationException, DriverError) as error:
            refused = error
    if target.use_agent:
        with contextlib.closing(paramiko.Agent()) as agent:
            for key in agent.get_keys():
                try:
                    return _offer(transport, target.user, key)
                except paramiko.AuthenticationException as error:
                    refused = error
    raise refused


def _offer(transport: paramiko.Transport, user: str, key: paramiko.PKey) -> None:
    if transport.auth_publickey(user, key):
        raise paramiko.ssh_exception.PartialAuthentication(["more than a key"])


def _private_key(machine: str, path: str) -> paramiko.PKey:
    """The key in a file. Raises Unreachable when there is none, Rejected when it can't be used."""
    try:
        return paramiko.PKey.from_path(Path(path).expanduser())
    except OSError as error:
        hint = "spec.ssh.identityFiles are on the controller, readable for the user it runs as"
        raise Unreachable(f"{machine}: {path}: {error.strerror}", machine=machine, hint=hint) from error
    except (TypeError, paramiko.PasswordRequiredException) as error:  # cryptography's word for a missing passphrase
        hint = "give the key to an ssh-agent, and set spec.ssh.useAgent"
        raise Rejected(f"{machine}: {path} has a passphrase", machine=machine, hint=hint) from error
    except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        hint = "it must be a private key of type ed25519, ecdsa or rsa"
        raise Rejected(f"{machine}: {path}: not a key: {error}", machine=machine, hint=hint) from error
