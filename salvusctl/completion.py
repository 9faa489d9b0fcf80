"""``salvusctl completion``: the script that teaches a shell to complete commands, kinds and names."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from typer.completion import shell_complete

from salvusctl.app import app as salvusctl_app
from salvusctl.flags import verb_app


class Shell(enum.StrEnum):
    """The shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


app = verb_app()


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="Which shell.")]) -> None:
    """Print a completion script for a shell.

    For bash: source <(salvusctl completion bash)
    """
    root = typer.main.get_command(salvusctl_app)
    shell_complete(root, {}, "salvusctl", "_SALVUSCTL_COMPLETE", f"source_{shell}")
