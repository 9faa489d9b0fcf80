"""Who we are to the ring and whom we believe there: credentials, certificates, and what is wrong when it refuses us."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from cassandra import AuthenticationFailed, RequestValidationException, Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.connection import ConnectionException

from controller.store.base import StoreUnusable
from controller.store.cassandra.settings import CassandraSettings, Tls, Variables

_TLS = "see store.cassandra.tls in the configuration"
_AUTHORITY = "authority has to be the certificate of who certified theirs"
# A node that cannot ask enough others who a user is, or what he may (system_auth, while nodes are away), refuses with
# the same errors as one that knows, which then begin so (PasswordAuthenticator, CassandraAuthorizer). It passes.
_UNDECIDED = ("Unable to perform authentication", "Unable to perform authorization")
_CREDENTIALS = "see store.cassandra in the configuration: credentialsFile, or credentialsEnvironment"


def tls(files: Tls | None) -> ssl.SSLContext | None:
    """What connections are encrypted with; None for nothing. Raises StoreUnusable."""
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nodes are met under whatever address the ring gives; their certificates carry names, if anything.
    context.check_hostname = False
    try:
        context.load_verify_locations(files.authority)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except OSError as error:
        raise StoreUnusable(
            f"the certificates for Cassandra cannot be used: {error}",
            hint=f"{_TLS}: files of PEM that this user can read",
        ) from error
    return context


def credentials(where: CassandraSettings) -> PlainTextAuthProvider | None:
    """The user's name and the password; None where none are told. Raises StoreUnusable."""
    if where.credentials is None:
        return None
    if isinstance(where.credentials, Variables):
        return _from_environment(where.credentials)
    try:
        user, password = where.credentials.read_text().splitlines()[:2]
    except (OSError, ValueError) as error:
        raise StoreUnusable(
            f"the credentials for Cassandra cannot be read from {where.credentials}: {error}",
            hint="a file of two lines: the user's name, the password",
        ) from error
    return PlainTextAuthProvider(user, password)


def _from_environment(names: Variables) -> PlainTextAuthProvider:
    found = [os.environ.get(name) for name in (names.user, names.password)]
    if missing := [name for name, value in zip((names.user, names.password), found, strict=True) if not value]:
        raise StoreUnusable(
            f"the credentials for Cassandra are not in the environment: {' and '.join(missing)} not set",
            hint="set them, or name others in store.cassandra.credentialsEnvironment",
        )
    return PlainTextAuthProvider(*found)


def refusal(settings: CassandraSettings, causes: Iterable[BaseException]) -> StoreUnusable | None:
    """What to tell of the first of the driver's errors with which trying again is of no use; None without one."""
    for cause in causes:
        if told := _told(settings, cause):
            sentence, hint = told
            return StoreUnusable(f"the store {settings} {sentence}", hint=hint)
    return None


def _told(settings: CassandraSettings, cause: BaseException) -> tuple[str, str] | None:
    if isinstance(cause, (AuthenticationFailed, Unauthorized)) and any(text in str(cause) for text in _UNDECIDED):
        return None
    match cause:
        case AuthenticationFailed() if settings.credentials is None:
            return "wants a user and a password, and none are configured", _CREDENTIALS
        case AuthenticationFailed():
            return f"refuses the user or the password: {cause}", _CREDENTIALS
        case Unauthorized():
            return f"does not allow it: {cause}", "grant its user what docs/operations.md says, in cqlsh"
        case RequestValidationException():
            return f"refuses: {cause}", "see `salvusctl store status`"
        case OSError() if "CERTIFICATE_VERIFY_FAILED" in str(cause):
            why = str(cause).rpartition("failed: ")[2]
            return f"is not believed: its nodes' certificate is not valid here: {why}", f"{_TLS}: {_AUTHORITY}"
    return None


def doubt(settings: CassandraSettings, causes: Iterable[BaseException]) -> str:
    """What to look at first where connections ended as they do when only one side encrypts; empty for others."""
    broken = (ConnectionResetError, BrokenPipeError, ConnectionException)
    if settings.tls is None and any(isinstance(cause, broken) for cause in causes):
        return f"do the nodes want encrypted connections? {_TLS}. Else: "
    if settings.tls is not None and any(isinstance(cause, ssl.SSLError) or "[SSL" in str(cause) for cause in causes):
        return f"do the nodes speak TLS on port {settings.port}, and believe our certificate? {_TLS}. Else: "
    return ""
