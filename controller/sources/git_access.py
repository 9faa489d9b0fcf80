"""How a repository is reached: by which user, and whom we take for its server. Nothing of it is in an argument."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controller.sources.base import Unreadable
from controller.sources.settings import GitSettings

# gitcredentials(7): a command of the shell, to which git adds a word. printf is the shell's own: no process has the
# password among its arguments.
_HELPER: Final = (
    '!{ read -r user; read -r password; printf "username=%s\\npassword=%s\\n" "$user" "$password"; } '
    '<"$SALVUS_GIT_CREDENTIALS"; :'
)


def settings_for(git: GitSettings) -> tuple[str, ...]:
    """Settings of git, for its ``-c``."""
    helper = (f"credential.helper={_HELPER}",) if git.credentials else ()
    return (*helper, f"http.sslCAInfo={git.authority}") if git.authority else helper


def environment_for(git: GitSettings) -> Mapping[str, str]:
    """Variables for git and what it starts."""
    found = {"SALVUS_GIT_CREDENTIALS": str(git.credentials)} if git.credentials else {}
    if git.ssh_key and git.known_hosts:
        found |= {"GIT_SSH_COMMAND": shlex.join(_ssh(git.ssh_key, git.known_hosts)), "GIT_SSH_VARIANT": "ssh"}
    return found


def _ssh(key: Path, known_hosts: Path) -> list[str]:
    """ssh(1), with this key and these hosts, and nothing of what the user or the machine has configured."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentityFile": _quoted(key),
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
    }
    return ["ssh", "-F", "/dev/null", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _quoted(path: Path) -> str:
    """As ssh_config(5) wants names: it splits them at blanks and expands what follows a percent sign."""
    return '"{}"'.format(str(path).replace("%", "%%"))


def check_files(git: GitSettings) -> None:
    """Raises Unreadable for the first file that is named and cannot be read: git and ssh say little of these."""
    named = {
        "credentialsFile": git.credentials,
        "authorityFile": git.authority,
        "sshKeyFile": git.ssh_key,
        "knownHostsFile": git.known_hosts,
        "signers": git.signers.file if git.signers else None,
    }
    for name, file in named.items():
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            raise Unreadable(f"{name} {file}: {error.strerror}", hint="the configuration names it") from error
