"""The fleet that a question is about which no machine is asked: what is in force, or manifests laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from resources.world import World
from salvusctl.config import Context
from salvusctl.fleet import comparing, reading
from salvusctl.manifests import read_manifests

OverOption = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="Manifests as if they were in force; else what is. May be repeated."),
]


def world_of(context: Context, files: Sequence[Path] | None) -> World:
    """All that is written and known. Raises SalvusError; with ``files`` a store that is not there counts as empty."""
    if not files:
        with reading(context) as session:
            knowledge = session.knowledge()
            return knowledge.world()
    with comparing(context) as session:
        from controller.difference import overlay

        knowledge = session.knowledge()
        laid = overlay(knowledge, read_manifests(files, knowledge.fleet), session.ledger.identity())
        return World(laid.fleet, laid.known)
