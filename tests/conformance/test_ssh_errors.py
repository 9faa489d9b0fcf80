"""Every error that paramiko knows is one of ours."""

from __future__ import annotations

import inspect
import socket

import pytest
from paramiko import ssh_exception

from drivers.base import DriverError, Failed, Rejected, Unreachable
from drivers.ssh.errors import RAISED, TABLE, translate

PARAMIKO = [cls for _, cls in inspect.getmembers(ssh_exception, inspect.isclass) if issubclass(cls, Exception)]


@pytest.mark.parametrize("cls", PARAMIKO, ids=lambda cls: cls.__name__)
def test_paramikos_whole_list_is_in_the_table(cls: type[Exception]) -> None:
    assert cls in TABLE
    assert issubclass(cls, RAISED)


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_every_row_says_what_to_do(cls: type[Exception]) -> None:
    kind, hint = TABLE[cls]
    assert kind in (Unreachable, Failed, Rejected)
    assert hint


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Unreachable, "Connection refused"),
        (EOFError(), Unreachable, "the connection ended"),
        (OSError(), Unreachable, "the connection ended"),
        (socket.gaierror(-2, "Name or service not known"), Unreachable, "not known"),
        (ssh_exception.ChannelException(1, "Administratively prohibited"), Failed, "prohibited"),
    ],
)
def test_translation(error: Exception, kind: type[DriverError], said: str) -> None:
    ours = translate(error, "web01", "asking")
    assert type(ours) is kind
    assert str(ours).startswith("web01: asking: ")
    assert said in str(ours)
    assert ours.machine == "web01"
    assert ours.hint
