"""The source that a configuration names."""

from __future__ import annotations

from pathlib import Path

from controller.sources.base import Source
from controller.sources.directory import Directory
from controller.sources.settings import GitSettings

# A directory, or a folder in a git repository.
Origin = Path | GitSettings


def open_source(origin: Origin) -> Source:
    """The source, not read yet."""
    if isinstance(origin, Path):
        return Directory(origin)
    from controller.sources.git import GitSource  # most fleets' manifests are in a directory

    return GitSource(origin)
