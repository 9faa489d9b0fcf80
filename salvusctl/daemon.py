"""``salvusctl controller run``."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from salvusctl.exits import UseError
from salvusctl.flags import context_of, verb_app


class LogStyle(enum.StrEnum):
    """How the log is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


app = verb_app(no_args_is_help=True)


@app.callback()
def controller() -> None:
    """The controller: keep the fleet as it is written."""


@app.command()
def run(
    ctx: typer.Context,
    manifests: Annotated[
        Path | None,
        typer.Option(help="Directory to follow, instead of the context's manifests; what leaves it is deleted."),
    ] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where /metrics, /healthz, /readyz, /sync are.")
    ] = None,
    resync: Annotated[float, typer.Option(min=1, help="Seconds after which a machine is looked at again.")] = 30.0,
    workers: Annotated[int, typer.Option(min=1, help="Machines worked on at the same time.")] = 16,
    log_format: Annotated[LogStyle, typer.Option(help="Style of the log on stderr.")] = LogStyle.TEXT,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged.")] = LogLevel.INFO,
) -> int:
    """Run until SIGTERM or Ctrl-C: follow the manifests, and keep every machine as it is written."""
    from controller import daemon
    from controller.http import BadAddress
    from controller.log import configure
    from salvusctl.fleet import settings_of
    from salvusctl.version import VERSION

    context = context_of(ctx)
    configure(log_format, log_level)

    def follow() -> daemon.Follow:
        """Read anew each time: SIGHUP may have come because the configuration changed."""
        now = context_of(ctx)
        found = manifests.absolute() if manifests else now.manifests
        if isinstance(found, Path) and not found.is_dir():
            raise UseError(f"{found} is not a directory of manifests", hint="give an existing one as --manifests")
        return daemon.Follow(found, now.budgets.budgets())

    follow()

    def enter() -> None:
        if context.namespace:
            from salvusctl.netns import enter as enter_namespace

            enter_namespace(context.namespace)

    settings = replace(settings_of(context), resync=resync, workers=workers)
    address = context.http if http is None else http
    try:
        return daemon.run(settings, manifests=follow, http=address, enter=enter, version=VERSION)
    except BadAddress as error:
        where = "--http" if http is not None else f"http of context {context.name!r}"
        raise UseError(f"{where}: {error}", hint=error.hint) from error
