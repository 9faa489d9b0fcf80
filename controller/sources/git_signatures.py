"""Whether a commit is signed by somebody who may."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from controller.sources.base import Unreadable
from controller.sources.git_program import LOCAL, GitFailed, GitProgram
from controller.sources.settings import Signers
from controller.store.records import SHORT

# Signatures of the other kinds are nobody's: the programs that know them would ask what the user has on the machine.
_NONE: Final = ("gpg.program=false", "gpg.ssh.program=false", "gpg.x509.program=false")
# gpg(1): a home of its own with the public keys; nothing that goes on running, nothing that asks key servers.
_GPG_CONF: Final = "no-autostart\nno-auto-key-retrieve\ntrust-model always\nbatch\n"


def refusal(git: GitProgram, commit: str, signers: Signers) -> str:
    """Why the commit is not taken; empty when it is signed as it should be. Raises Unreadable, GitFailed."""
    headers = git.run("cat-file", "commit", commit).partition(b"\n\n")[0]
    if not re.search(rb"^gpgsig(-sha256)? ", headers, re.MULTILINE):
        return f"commit {commit[:SHORT]} is not signed; who may sign it is in {signers.file}"
    try:
        _verify(git, commit, signers)
    except GitFailed as failed:
        if (missing := re.search(r"cannot run (ssh-keygen|gpg):", failed.said)) is not None:
            what = f"the program {missing[1]} is not installed here"
            raise Unreadable(what, hint="apt-get install openssh-client gnupg") from failed
        key = re.search(r"SHA256:\S+|(?:NO_PUBKEY|ERRSIG|BADSIG|EXPKEYSIG|REVKEYSIG) ([0-9A-F]{16})", failed.said)
        by = f" (key {key[1] or key[0]})" if key else ""
        return f"commit {commit[:SHORT]} has no good signature of anybody in {signers.file}{by}"
    return ""


def _verify(git: GitProgram, commit: str, signers: Signers) -> None:
    if signers.kind == "ssh":
        ssh = (*_NONE, "gpg.ssh.program=ssh-keygen", f"gpg.ssh.allowedSignersFile={signers.file}")
        git.run("verify-commit", "--raw", commit, settings=ssh)
        return
    with tempfile.TemporaryDirectory(prefix="salvus-gpg-") as home:
        (Path(home) / "gpg.conf").write_text(_GPG_CONF)
        _import(home, signers.file)
        git.run("verify-commit", "--raw", commit, settings=(*_NONE, "gpg.program=gpg"), GNUPGHOME=home)


def _import(home: str, keys: Path) -> None:
    command = ["gpg", "--homedir", home, "--quiet", "--import", "--", str(keys)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=LOCAL, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Unreadable(f"gpg did not read {keys} within {LOCAL:.0f} s", hint="it is tried again") from error
    except FileNotFoundError as error:
        raise Unreadable("the program gpg is not installed here", hint="apt-get install gnupg") from error
    if done.returncode:
        raise Unreadable(
            f"{keys} has no public keys that gpg understands", hint="make it with gpg --export --armor KEY…"
        )
