"""A folder of manifests in a branch or tag of a git repository: fetched without its history, never checked out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from controller.log import log
from controller.sources import git_access, git_signatures, git_tree
from controller.sources.base import Reading, Unreadable
from controller.sources.git_program import REMOTE, GitFailed, GitProgram
from controller.sources.git_sentences import unreadable
from controller.sources.settings import GitSettings
from controller.store.records import SHORT
from resources.errors import ManifestError
from resources.fleet import Fleet
from resources.load import LoadCache, Loaded, load_files

# In our copy: what was fetched last, and what was last asked for by name.
_FETCHED = "refs/salvus/fetched"
_PINNED = "refs/salvus/pinned"
# Characters of what is said of a commit.
_LONGEST = 120


class GitSource:
    """See the module. A branch may be pushed anew (``--force``): what it is now counts."""

    def __init__(self, settings: GitSettings) -> None:
        self.settings = settings
        self.name = settings.source
        self.interval = settings.interval
        key = hashlib.sha256(f"{settings.url}\0{settings.ref}".encode()).hexdigest()[:16]
        self._git = GitProgram(
            settings.copies / key, git_access.settings_for(settings), git_access.environment_for(settings)
        )
        self._cache = LoadCache()
        self._files: tuple[str, tuple[git_tree.Found, ...]] = ("", ())

    @property
    def _noted(self) -> Path:
        """A file whose time tells when was fetched last."""
        return self._git.folder / "salvus.fetched"

    def watch(self, changed: Callable[[], None]) -> None:
        """Nothing tells of a push by itself: it is fetched in intervals, or when somebody pokes."""

    def read(self, others: Fleet | None = None, revision: str = "") -> Reading:
        """Fetches, and reads the newest commit, or the one that the ``revision`` is, in full. Raises Unreadable.

        A commit that was fetched before is read also while the repository is away. Our copy is only a copy: one that is
        damaged (a power cut) is made anew.
        """
        with self._git.alone():
            git_access.check_files(self.settings)
            try:
                return self._read(others, revision)
            except GitFailed as failed:
                folder, said = str(self._git.folder), failed.said.strip()
                log(logging.WARNING, "a damaged copy of a repository is made anew", folder=folder, error=said)
            self._git.renew()
            try:
                return self._read(others, revision)
            except GitFailed as failed:
                what = f"what was fetched into {self._git.folder} cannot be read: {failed.said.strip()}"
                raise Unreadable(what, hint="see whether its disk is in order") from failed

    def _read(self, others: Fleet | None, revision: str) -> Reading:
        """Raises Unreadable, and GitFailed when the copy is damaged."""
        newest = self._newest(there=bool(revision) and self._has(revision))
        if revision:
            self._bring(revision)
        commit = revision or newest
        return Reading(self._load(commit, others), newest, self._about(commit))

    def _newest(self, *, there: bool) -> str:
        """Empty when it is not known, and what is wanted is ``there``. Raises Unreadable, GitFailed as above."""
        try:
            return self._fetch()
        except GitFailed as failed:
            if self._git.damaged():
                raise
            if not there:
                raise unreadable(self.settings, failed.said) from failed
        except Unreadable:
            if not there:
                raise
        return ""

    def _has(self, commit: str) -> bool:
        try:
            self._git.run("cat-file", "-e", f"{commit}^{{commit}}")
        except GitFailed:
            return False
        return True

    def _bring(self, commit: str) -> None:
        """Has the commit here, and kept."""
        try:
            if not self._has(commit):
                self._fetch_into(_PINNED, commit)
            self._git.run("update-ref", "--no-deref", _PINNED, commit)
        except GitFailed as failed:
            what = f"its server does not give commit {commit[:SHORT]} out: {unreadable(self.settings, failed.said)}"
            raise Unreadable(what, hint="salvusctl revisions shows others") from failed

    def _about(self, commit: str) -> str:
        """Who made it, and the first line of what they say of it."""
        said = self._git.run("log", "-1", "--no-show-signature", "--format=%an <%ae>: %s", commit, "--")
        text = "".join(char if char.isprintable() else "?" for char in said.decode(errors="replace").strip())
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def kept(self, others: Fleet | None = None) -> tuple[Loaded, float] | None:
        """What was fetched last, and when, in seconds since the epoch; None for nothing. Raises Unreadable."""
        with self._git.alone():
            try:
                return self._load(self._commit(), others), self._noted.stat().st_mtime
            except (GitFailed, FileNotFoundError):
                return None

    def _fetch(self) -> str:
        """Raises GitFailed, Unreadable."""
        self._fetch_into(_FETCHED, self.settings.ref)
        self._noted.touch()
        return self._commit()

    def _fetch_into(self, ref: str, what: str) -> None:
        self._git.run(
            "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--force",
            "--", self.settings.url, f"+{what}:{ref}",
            timeout=REMOTE,
        )  # fmt: skip

    def _commit(self) -> str:
        return self._git.run("rev-parse", "--verify", f"{_FETCHED}^{{commit}}").decode().strip()

    def _load(self, commit: str, others: Fleet | None) -> Loaded:
        """Raises GitFailed, Unreadable."""
        return replace(load_files(self._manifests(commit), self._cache, others), revision=commit)

    def _manifests(self, commit: str) -> tuple[git_tree.Found, ...]:
        signers = self.settings.signers
        if signers and (why := git_signatures.refusal(self._git, commit, signers)):
            return (ManifestError(why, hint="sign it (git commit -S), or allow the signer"),)
        if self._files[0] != commit:
            self._files = commit, git_tree.manifests(self._git, commit, self.settings.path)
        return self._files[1]

    def close(self) -> None:
        """Ends a reading that waits."""
        self._git.close()
