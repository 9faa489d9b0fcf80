"""Exit codes, and the one way in which an expected error is shown."""

from __future__ import annotations

import enum
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from drivers.base import DriverError, SalvusError


class Code(enum.IntEnum):
    """What ``salvusctl`` ends with; the table in ``docs/salvusctl.md`` is tested against this."""

    OK = 0
    DIFFERENT = 1
    INPUT = 2
    TROUBLE = 3
    INTERRUPTED = 130
    PIPE = 141


class UseError(SalvusError):
    """What was asked for cannot be meant: an unknown kind, options that exclude each other."""


class Missing(SalvusError):
    """A resource that was asked for by name is not there."""


def code_of(error: SalvusError) -> Code:
    """The exit code that an error ends the command with."""
    from resources.errors import ManifestError

    if isinstance(error, ManifestError | UseError):
        return Code.INPUT
    if isinstance(error, Missing | DriverError):
        return Code.DIFFERENT
    return Code.TROUBLE


@contextmanager
def expected_errors() -> Iterator[None]:
    """Shows an expected error as one block on stderr and ends with its code; a closed pipe ends quietly."""
    try:
        yield
    except SalvusError as error:
        raise _ended(error) from error
    except typer.TyperException as error:
        from salvusctl.misuse import misuse

        # Without words it has shown the help already, for who gave no verb.
        raise _ended(misuse(error)) if str(error) else typer.Exit(Code.INPUT) from error
    except typer.Abort as error:
        raise typer.Exit(Code.INTERRUPTED) from error
    except BrokenPipeError as error:
        _forget(sys.__stdout__, 1)
        raise typer.Exit(Code.PIPE) from error
    except SystemExit as error:
        # Rich turned the closed pipe into an end with a code of its own.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        raise typer.Exit(Code.PIPE) from error
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        _forget(sys.__stdout__, 1)
        what = error.filename or "the output"
        raise _ended(SalvusError(f"{what} cannot be written: {error.strerror}")) from error


# write(2): full, over a quota or a limit, damaged.
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def _ended(error: SalvusError) -> typer.Exit:
    from salvusctl.out import complain

    try:
        complain(error)
    except OSError:  # stderr may go where stdout goes
        _forget(sys.__stderr__, 2)
    return typer.Exit(code_of(error))


def _forget(stream: TextIO | None, number: int) -> None:
    """What is still buffered must not raise again when Python closes the stream: its exit code would be 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno() if stream else number)
