"""What git says, as a sentence; nothing secret or harmful of it is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.sources.git_sentences import unreadable
from controller.sources.settings import GitSettings

GIT = GitSettings(
    "https://git.example.org/fleet.git", "refs/tags/v1", "", Path("/srv/copies"), ssh_key=Path("/etc/key")
)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("fatal: couldn't find remote ref refs/tags/v1", "it has no tag v1: it was deleted, or never pushed"),
        (
            "fatal: unable to access 'https://me:secret@git.example.org/': The requested URL returned error: 403",
            "the user may not read it",
        ),
        (
            "fatal: unable to access 'https://git.example.org/': Could not resolve host: git.example.org",
            "the name of its host, git.example.org, cannot be resolved",
        ),
        ("ssh: Could not resolve hostname git.example.org: Name or service", "the name of its host, git.example.org,"),
        ("kex_exchange_identification: Connection closed by remote host", "its server cannot be reached (kex_exch"),
        ("error: file write error: No space left on device", "there is no room for its copy in /srv/copies"),
        ("root@git.example.org: Permission denied (publickey).", "its host does not let /etc/key in"),
        ("error: insufficient permission for adding an object", "somebody else's file is in the way (insuff"),
        ("", "git says: nothing"),
        ("hint: do it\nwarning: x\nfatal: 7 of https://me:secret@a/b", "git says: 7 of https://a/b"),
        ("remote: \x1b[31mred\nfatal: odd", "git says: remote: ?[31mred; odd"),
    ],
)
def test_a_sentence_for_what_git_says(said: str, sentence: str) -> None:
    found = unreadable(GIT, said)
    assert str(found).startswith(sentence)
    assert found.hint
    assert "secret" not in str(found)
    assert str(found).isprintable()


def test_a_long_answer_is_cut() -> None:
    assert len(str(unreadable(GIT, "fatal: " + "x" * 5000))) < 400
