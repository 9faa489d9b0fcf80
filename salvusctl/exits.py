"""Exit codes, and the one way in which an expected error is shown."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    from salvusctl.out import complain

    try:
        yield
    except SalvusError as error:
        complain(error)
        raise typer.Exit(code_of(error)) from error
    except typer.Abort as error:
        raise typer.Exit(Code.INTERRUPTED) from error
    except BrokenPipeError as error:
        # What is still buffered must not raise again when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        raise typer.Exit(Code.PIPE) from error
