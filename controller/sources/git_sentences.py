"""What git says on stderr, as a sentence with what to do. Pure."""

from __future__ import annotations

import re
from typing import Final

from controller.sources.base import Unreadable
from controller.sources.settings import GitSettings

# What is said (git 2.39 and curl, gnutls, OpenSSH behind it, in the C locale), the sentence, what to do.
_SENTENCES: Final = (
    (
        r"cannot run ([\w-]+):|\b(?:\d+: )(ssh): not found",
        "the program ssh is not installed here",
        "apt-get install openssh-client",
    ),
    (
        r"couldn't find remote ref",
        "it has no {branch}: it was deleted, or never pushed",
        "push it, or name another one in the configuration",
    ),
    (
        r"could not read Username|Authentication failed|returned error: 401",
        "it wants another user or password",
        "credentialsFile in the configuration has two lines: the user's name, and the password or token",
    ),
    (r"returned error: 403", "the user may not read it", "give the user of credentialsFile the right to read"),
    (
        r"certificate|SSL",
        "its server is not certified by whom we trust ({said})",
        "authorityFile in the configuration names who certifies it (PEM)",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the key of its host is another one than in {known_hosts}",
        "find out why; then put the new one there",
    ),
    (
        r"host key is known for|Host key verification failed",
        "its host is not in {known_hosts}",
        "put the key that its administrator tells you there; ssh-keyscan shows what the host says of itself",
    ),
    (
        r"Permission denied \(|Load key|invalid format",
        "its host does not let {ssh_key} in",
        "let the public half of it in there, for reading; it must have no passphrase, and mode 0600",
    ),
    (
        r"Permission denied|insufficient permission",
        "somebody else's file is in the way ({said})",
        "chown it to who runs this; copies of repositories are in {copies}",
    ),
    (r"Needed a single revision", "{branch} is no commit", "name another one in the configuration"),
    (
        r"dubious ownership",
        "it belongs to another user, and git does not read such ones as a file",
        "chown it, or serve it by ssh or https",
    ),
    (
        r"not found|does not appear to be a git repository|does not exist|No such file or directory",
        "there is no such repository, or we may not see it",
        "correct url in the configuration",
    ),
    (
        r"Could not resolve host(?:name)?:? ([^\s:;]+)",
        "the name of its host, {0}, cannot be resolved",
        "correct url in the configuration, or mend the name service",
    ),
    (
        r"Connection (?:refused|timed out|reset|closed)|connect to|unreachable|No route to|too slow|early EOF|hung up",
        "its server cannot be reached ({said})",
        "it is tried again",
    ),
    (
        r"redirect|returned error: 30[1278]",
        "its server sends us elsewhere, where nobody knows whom the password is told",
        "write in url where it is now",
    ),
    (r"No space left|Disk quota", "there is no room for its copy in {copies}", "make room"),
)
_LONGEST = 300


def unreadable(git: GitSettings, stderr: str) -> Unreadable:
    """Why the repository could not be read, as somebody who has to mend it wants to hear it."""
    whole = _plain(stderr)
    said = whole[:_LONGEST]
    for pattern, sentence, hint in _SENTENCES:
        if (found := re.search(pattern, whole, re.IGNORECASE)) is not None:
            files = {"copies": git.copies, "known_hosts": git.known_hosts, "ssh_key": git.ssh_key}
            values = {"said": said, "branch": _called(git.branch), **files}
            return Unreadable(sentence.format(*found.groups(), **values), hint=hint.format(**values))
    return Unreadable(f"git says: {said or 'nothing'}", hint="it is tried again")


def _called(branch: str) -> str:
    return branch if branch.startswith("tag ") else f"branch {branch}"


def _plain(stderr: str) -> str:
    """In one line, harmless to a terminal, without advice, progress and what may be a password in a URL."""
    lines = (re.sub(r"^(fatal|error): (unable to access '[^']*': )?", "", line.strip()) for line in stderr.splitlines())
    kept = [line for line in lines if line and not line.startswith(("hint:", "warning:", "Cloning", "@@@"))]
    text = re.sub(r"//[^/@\s]*@", "//", "; ".join(kept))
    return "".join(char if char.isprintable() else "?" for char in text)
