"""What a configuration says of where manifests are: a directory, or a folder in a git repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from resources.base import Model
from resources.quantity import Timeout

if TYPE_CHECKING:
    from controller.sources.opening import Origin
    from controller.sources.settings import GitSettings


class SignersConfig(Model):
    """Who may sign what is followed; a commit that nobody of these signed is refused."""

    ssh: Annotated[str, Field(min_length=1)] | None = None
    """File of allowed signers, as ssh-keygen(1) has them."""
    gpg: Annotated[str, Field(min_length=1)] | None = None
    """File of public keys, as ``gpg --export --armor`` prints them."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ssh is None) == (self.gpg is None):
            raise ValueError("signers are either ssh or gpg")
        return self


_URL = r"(https://|ssh://|file:///|[A-Za-z0-9_][\w.-]*@[\w.-]+:)[^\s#]+"
# git-check-ref-format(1), and nothing that git would take for an option.
_REF = r"[^-\x00-\x20~^:?*\[\\\x7f][^\x00-\x20~^:?*\[\\\x7f]*"


def _url(text: str) -> str:
    if not re.fullmatch(_URL, text):
        raise ValueError("must begin with https://, ssh://, file:/// or user@host:, without a blank or '#'")
    if re.match(r"https://[^/]*@|https://.*\?|\w+://[^/@]*:[^/@]*@", text):
        raise ValueError("must have no user, password or ?token: these are in credentialsFile")
    return text


def _ref(text: str) -> str:
    if not re.fullmatch(_REF, text):
        raise ValueError("must be the name of a branch or tag, as in main")
    return text


def _folder(text: str) -> str:
    if text and (text.startswith("/") or not {".", "..", ""}.isdisjoint(text.split("/"))):
        raise ValueError("must be a folder in the repository, as in manifests or sites/one")
    return text


class GitConfig(Model):
    """A folder of manifests in a git repository. Only the newest commit is fetched; nothing is checked out."""

    url: Annotated[str, AfterValidator(_url)]
    """``https://``, ``ssh://`` (or ``user@host:path``) or ``file:///``; without a password."""
    branch: Annotated[str, AfterValidator(_ref)] | None = None
    """The branch that is followed; ``main`` unless it or a tag is named."""
    tag: Annotated[str, AfterValidator(_ref)] | None = None
    """A tag, instead of a branch; one that is moved is followed, too."""
    path: Annotated[str, AfterValidator(_folder)] = ""
    """The folder of the manifests in the repository; without it, all of it."""
    interval: Timeout = 30
    """How often it is fetched."""
    credentials_file: str | None = None
    """File of two lines, the user's name and the password or token; for https."""
    authority_file: str | None = None
    """The certificate of who certifies the server (PEM), where it is none that the machine trusts."""
    ssh_key_file: str | None = None
    """The private key, without a passphrase; for ssh."""
    known_hosts_file: str | None = None
    """The host's public key, as ssh's known_hosts; for ssh."""
    signers: SignersConfig | None = None
    """Who must have signed the commit; without it nobody must."""
    webhook_secret_file: str | None = None
    """File with the secret, 16 characters or more, of who tells the controller of a push (``POST /sync``)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        https, ssh = self.url.startswith("https://"), not self.url.startswith(("https://", "file://"))
        if self.branch is not None and self.tag is not None:
            raise ValueError("either a branch or a tag is followed")
        if ssh and not (self.ssh_key_file and self.known_hosts_file):
            raise ValueError("ssh needs sshKeyFile and knownHostsFile: no host is trusted unseen")
        if not ssh and (self.ssh_key_file or self.known_hosts_file):
            raise ValueError("sshKeyFile and knownHostsFile are for ssh")
        if not https and (self.credentials_file or self.authority_file):
            raise ValueError("credentialsFile and authorityFile are for https")
        return self


class ManifestsConfig(Model):
    """Where manifests are."""

    directory: Annotated[str, Field(min_length=1)] | None = None
    """A directory; a path alone means this."""
    git: GitConfig | None = None
    """A folder in a git repository."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.directory is None) == (self.git is None):
            raise ValueError("manifests are either in a directory or in git")
        return self


def as_directory(value: object) -> object:
    """A path alone means a directory."""
    return {"directory": value} if isinstance(value, str) else value


def origin_of(manifests: ManifestsConfig, folder: Path, state: Path) -> Origin:
    """As the controller has it. Relative paths start from ``folder``; copies of repositories are in ``state``."""
    if manifests.directory is not None:
        return folder / Path(manifests.directory).expanduser()
    assert manifests.git is not None, "one of the two, as it was checked"
    return _git(manifests.git, folder, state)


def resolved(folder: Path, text: str | None) -> Path | None:
    """A path as the configuration has it."""
    return None if text is None else folder / Path(text).expanduser()


def _git(git: GitConfig, folder: Path, state: Path) -> GitSettings:
    from controller.sources.settings import GitSettings, Signers

    signers = None
    if git.signers is not None:
        named = git.signers.ssh or git.signers.gpg or ""
        signers = Signers("ssh" if git.signers.ssh else "gpg", folder / Path(named).expanduser())
    return GitSettings(
        git.url,
        f"refs/tags/{git.tag}" if git.tag else f"refs/heads/{git.branch or 'main'}",
        git.path,
        state / "git",
        git.interval,
        resolved(folder, git.credentials_file),
        resolved(folder, git.authority_file),
        resolved(folder, git.ssh_key_file),
        resolved(folder, git.known_hosts_file),
        signers,
        resolved(folder, git.webhook_secret_file),
    )
