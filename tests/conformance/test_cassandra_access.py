"""A ring that wants to know who comes: a user with a password, and certificates on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controller.store.base import StoreError, StoreUnavailable, StoreUnusable, Table
from controller.store.cassandra.ring import Ring
from controller.store.cassandra.settings import CassandraSettings, Tls, Variables
from controller.store.cassandra.store import CassandraStore
from tests.cassandra_ring import running_ring
from tests.conformance.certificates import PASSWORD, authority, certified
from tests.lab.fleet import eventually

pytestmark = pytest.mark.cassandra

ADMIN = ("cassandra", "cassandra")  # Cassandra's own first user


@dataclass(frozen=True)
class Guarded:
    """A ring of one node, and how its first user gets in."""

    folder: Path
    settings: CassandraSettings

    def file(self, name: str) -> Path:
        return self.folder / name

    def secret(self, *lines: str) -> Path:
        path = self.folder / f"{lines[0]} {len(lines[1])}"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    root, stranger = authority("the ring's"), authority("somebody else's")
    ours, key = certified("salvus", root).pem(folder, "salvus")
    tls = Tls(root.pem(folder, "authority")[0], ours, key)
    stranger.pem(folder, "stranger")
    certified("salvus", stranger).pem(folder, "forged")
    more = {
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "require_client_auth": True,
            "keystore": str(certified("node", root).keystore(folder / "node.p12")),
            "keystore_password": PASSWORD.decode(),
            "truststore": str(root.truststore(folder / "trust.p12")),
            "truststore_password": PASSWORD.decode(),
            "store_type": "PKCS12",
        },
    }
    with running_ring("guarded", "127.79.0", (1,), more) as ring:
        made = Guarded(folder, CassandraSettings((ring.nodes[0].address,), "dc1", tls=tls))
        yield replace(made, settings=replace(made.settings, credentials=made.secret(*ADMIN)))


def refused(settings: CassandraSettings, error: type[StoreError]) -> tuple[str, str]:
    """What is said, and the hint."""
    with pytest.raises(error) as caught:
        CassandraStore(settings)
    assert "Traceback" not in str(caught.value)
    assert "guessed" not in f"{caught.value} {caught.value.hint}", "no password is told"
    return str(caught.value), caught.value.hint


def test_who_is_known_gets_in(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    CassandraStore.make(guarded.settings, 1)
    with closing(CassandraStore(guarded.settings)) as store:
        assert store.write(Table.FACT, "p", {"k": "1"})
    for name, value in zip(("RING_USER", "RING_PASSWORD"), ADMIN, strict=True):
        monkeypatch.setenv(name, value)
    named = replace(guarded.settings, credentials=Variables("RING_USER", "RING_PASSWORD"))
    with closing(CassandraStore(named)) as store:
        assert store.read(Table.FACT, "p")["k"].value == "1"


def test_a_wrong_password_and_none(guarded: Guarded) -> None:
    said, hint = refused(replace(guarded.settings, credentials=guarded.secret("cassandra", "guessed")), StoreUnusable)
    assert "refuses the user or the password" in said
    assert "credentialsFile" in hint
    said, hint = refused(replace(guarded.settings, credentials=None), StoreUnusable)
    assert "wants a user and a password, and none are configured" in said
    assert "credentialsFile" in hint


def test_certificates_that_do_not_fit(guarded: Guarded) -> None:
    tls = guarded.settings.tls
    assert tls is not None
    said, hint = refused(
        replace(guarded.settings, tls=replace(tls, authority=guarded.file("stranger.pem"))), StoreUnusable
    )
    assert "its nodes' certificate is not valid here: unable to get local issuer certificate" in said
    assert "authority has to be" in hint
    forged = replace(tls, certificate=guarded.file("forged.pem"), key=guarded.file("forged.key"))
    for other in (forged, Tls(tls.authority)):
        _, hint = refused(replace(guarded.settings, tls=other), StoreUnavailable)
        assert "and believe our certificate? see store.cassandra.tls" in hint


def test_unencrypted_where_only_encrypted_is_taken(guarded: Guarded) -> None:
    _, hint = refused(replace(guarded.settings, tls=None), StoreUnavailable)
    assert "do the nodes want encrypted connections? see store.cassandra.tls" in hint


def test_encrypted_where_it_is_not_taken(guarded: Guarded, keyspace: Callable[[], CassandraSettings]) -> None:
    _, hint = refused(replace(keyspace(), tls=guarded.settings.tls), StoreUnavailable)
    assert "do the nodes speak TLS on port 9042" in hint


def test_the_rights_that_the_documentation_grants_are_enough(guarded: Guarded) -> None:
    """And less is told of, with where to look."""
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    statements = text.partition("```cql\n")[2].partition("```")[0].replace("'dc1': 3", "'dc1': 1").split(";")
    settings = replace(guarded.settings, keyspace="salvus2", credentials=guarded.secret("salvus", "a long one"))

    with closing(Ring.connect(guarded.settings)) as admin:

        def run(statement: str) -> None:
            admin.session.execute(statement.replace("KEYSPACE salvus", "KEYSPACE salvus2"), timeout=30)

        granting = [statement for statement in statements if "GRANT" in statement]
        assert granting
        for statement in statements:
            if statement.strip() and statement not in granting:
                run(statement)
        with pytest.raises(StoreUnusable, match=r"does not allow it: .* no CREATE permission") as caught:
            CassandraStore.make(settings, 1)
        assert "docs/operations.md" in caught.value.hint
        for statement in granting:
            run(statement)
    assert eventually(lambda: made(settings), 30), "nodes keep what they know of rights for a few seconds"
    with closing(CassandraStore(settings)) as store:
        assert store.write(Table.FACT, "p", {"k": "1"})
    CassandraStore.migrate(settings)


def made(settings: CassandraSettings) -> bool:
    with suppress(StoreUnusable):
        CassandraStore.make(settings, 1)
        return True
    return False


@pytest.mark.parametrize(
    ("variables", "missing"), [({}, "RING_USER and RING_PASSWORD"), ({"RING_USER": "salvus"}, "RING_PASSWORD")]
)
def test_what_is_not_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = CassandraSettings(("127.77.9.9",), "dc1", credentials=Variables("RING_USER", "RING_PASSWORD"))
    with pytest.raises(StoreUnusable, match=f"not in the environment: {missing} not set"):
        CassandraStore(settings)


def test_a_ring_that_cannot_say_who_we_are_is_away_and_no_wrong_password(guarded: Guarded) -> None:
    """As when two of three nodes are dead. The last of the ring: nobody gets in after it."""
    with closing(Ring.connect(guarded.settings)) as admin:
        more = "{'class': 'NetworkTopologyStrategy', 'dc1': 3}"
        admin.session.execute(f"ALTER KEYSPACE system_auth WITH replication = {more}", timeout=30)

    def away() -> bool:
        try:
            CassandraStore(guarded.settings).close()
        except StoreUnavailable as error:
            return "Unable to perform authentication" in str(error)
        return False

    assert eventually(away, 30), "a node keeps what it knows of users for a few seconds"
