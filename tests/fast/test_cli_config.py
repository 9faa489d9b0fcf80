"""The configuration file: where it is looked for, what it means, what is wrong with it and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.sources.settings import GitSettings, Signers
from controller.store.cassandra.settings import CassandraSettings, Tls, Variables
from controller.store.source_records import place_of
from resources.errors import ManifestError
from salvusctl.config import HTTP, Context, resolve
from salvusctl.exits import Code, UseError
from salvusctl.flags import Flags
from salvusctl.fleet import settings_of
from tests.fast.cli import HOST, OTHER, Cli, cli

__all__ = ["cli"]

FULL = """\
currentContext: two
contexts:
- name: one
- name: two
  store: {sqlite: data/two.db}
  manifests: fleet
  networkNamespace: ns
  http: 127.0.0.1:1
  identityFiles: [keys/id]
  vpnProbeInterval: 2m
"""


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def test_nothing_at_all_works(tmp_path: Path) -> None:
    assert resolve(Flags(), {}) == Context("default", tmp_path / "state/salvus/default.db")


def test_all_fields_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(FULL)
    found = resolve(Flags(config=tmp_path / "c.yaml"), {})
    assert found == Context(
        "two",
        tmp_path / "data/two.db",
        tmp_path / "fleet",
        "ns",
        "127.0.0.1:1",
        (str(tmp_path / "keys/id"),),
        vpn_probe_interval=120,
    )
    assert resolve(Flags(config=tmp_path / "c.yaml", context="one"), {}) == Context(
        "one", tmp_path / "state/salvus/one.db", None, "", HTTP
    )


def test_how_often_machines_are_asked_whom_they_reach(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("contexts: [{name: one, vpnProbeInterval: 0s}]")
    assert settings_of(resolve(Flags(config=file), {})).vpn_probe_interval == 0
    file.write_text("contexts: [{name: one, vpnProbeInterval: 5s}]")
    with pytest.raises(ManifestError, match="vpnProbeInterval: must be at least 10s, or 0s for never"):
        resolve(Flags(config=file), {})


RING = """\
contexts:
- name: one
  store:
    cassandra:
      contactPoints: [10.0.0.1, node2.example.org]
      datacenter: dc1
      credentialsFile: secret
      tls: {authority: ca.pem, certificate: own.pem, key: own.key}
"""


def test_a_ring_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(RING)
    tls = Tls(tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "own.key")
    points = ("10.0.0.1", "node2.example.org")
    assert resolve(Flags(config=tmp_path / "c.yaml"), {}).store == CassandraSettings(
        points, "dc1", "salvus", 9042, tmp_path / "secret", tls
    )


BOTH = "contactPoints: [a], datacenter: b, credentialsFile: f, credentialsEnvironment: {user: U, password: P}"


def test_credentials_from_the_environment(tmp_path: Path) -> None:
    names = "credentialsEnvironment: {user: RING_USER, password: RING_PASSWORD}"
    (tmp_path / "c.yaml").write_text(RING.replace("credentialsFile: secret", names))
    found = resolve(Flags(config=tmp_path / "c.yaml"), {}).store
    assert isinstance(found, CassandraSettings)
    assert found.credentials == Variables("RING_USER", "RING_PASSWORD")


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("{}", "either sqlite or cassandra"),
        ("{sqlite: a.db, cassandra: {contactPoints: [a], datacenter: b}}", "either sqlite or cassandra"),
        ("{cassandra: {contactPoints: [], datacenter: b}}", "contactPoints"),
        ("{cassandra: {contactPoints: [a]}}", "datacenter"),
        ("{cassandra: {contactPoints: [a], datacenter: b, keyspace: drop-it}}", "keyspace"),
        (
            f"{{cassandra: {{{BOTH}}}}}",
            "either in credentialsFile or in credentialsEnvironment",
        ),
    ],
)
def test_a_store_that_cannot_be_meant(tmp_path: Path, store: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(f"contexts: [{{name: one, store: {store}}}]\n")
    with pytest.raises(ManifestError, match=said):
        resolve(Flags(config=tmp_path / "c.yaml"), {})


def test_flags_override(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(FULL)
    flags = Flags(config=tmp_path / "c.yaml", store=Path("/x.db"), namespace="")
    found = resolve(flags, {})
    assert (found.store, found.namespace, found.http) == (Path("/x.db"), "", "127.0.0.1:1")


def test_order_of_places(tmp_path: Path) -> None:
    places = {
        "flag": tmp_path / "flag.yaml",
        "environment": tmp_path / "environment.yaml",
        "here": tmp_path / "cwd/salvus.yaml",
        "xdg": tmp_path / "xdg/salvus/salvus.yaml",
    }
    for name, path in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"contexts: [{{name: {name}}}]")
    environment = {"SALVUS_CONFIG": str(places["environment"])}
    assert resolve(Flags(config=places["flag"]), environment).name == "flag"
    assert resolve(Flags(), environment).name == "environment"
    assert resolve(Flags(), {}).name == "here"
    places["here"].unlink()
    assert resolve(Flags(), {}).name == "xdg"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("contexts:\n- name: a\n  stroe: {}\n", ":3:3: contexts[0].stroe: ", "store"),
        ("contexts:\n- name: a\n  name: b\n", ":3:3: contexts[0].name: ", "twice"),
        ("contexts: []\n", ":1:1: contexts: ", ""),
        ("contexts:\n- name: 5\n", ":2:3: contexts[0].name: ", "text"),
        ("currentContext: a\n", ":1:1: contexts: ", "missing"),
        ("", ":1:1: ", ""),
        ("contexts: [\n", ":2:1: ", ""),
    ],
)
def test_errors_say_where(tmp_path: Path, text: str, place: str, what: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        resolve(Flags(config=tmp_path / "c.yaml"), {})
    assert str(caught.value).startswith(f"{tmp_path}/c.yaml{place}")
    assert what in str(caught.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    for flags, environment in ((Flags(config=tmp_path / "no"), {}), (Flags(), {"SALVUS_CONFIG": "/no/where"})):
        with pytest.raises(UseError, match="cannot be read: No such file"):
            resolve(flags, environment)


def test_unknown_context(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(FULL)
    with pytest.raises(UseError, match="no context 'tow'; did you mean 'two'"):
        resolve(Flags(config=tmp_path / "c.yaml", context="tow"), {})
    with pytest.raises(UseError, match="there is no configuration, so no context"):
        resolve(Flags(context="two"), {})


def test_two_contexts_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("contexts: [{name: a}, {name: a}]")
    with pytest.raises(UseError, match="two contexts of one name"):
        resolve(Flags(config=tmp_path / "c.yaml"), {})


def test_flags_work_before_and_after_the_verb(cli: Cli) -> None:
    store = str(cli.folder / "other.db")
    cli("apply", "--no-wait", "-f", cli.write(OTHER, name="other.yaml"))
    cli("apply", "--no-wait", "-f", cli.write(HOST), "--store", store)
    assert cli("--store", store, "get", "hosts", "-o", "name").out == "Host/alpha\n"
    assert cli("get", "hosts", "-o", "name").out == "Host/beta\n"


def test_a_wrong_configuration_ends_the_verb_with_2(cli: Cli) -> None:
    (cli.folder / "config.yaml").write_text("contexts: [{}]")
    assert "config.yaml:1:12: contexts[0].name: is missing" in cli("get", "all", code=Code.INPUT).err


def test_a_namespace_that_is_not_there(cli: Cli) -> None:
    path = cli.write(HOST)
    cli("apply", "--no-wait", "-f", path)
    err = cli("diff", "-f", path, "--namespace", "salvus-none", code=Code.TROUBLE).err
    assert "the network namespace 'salvus-none' cannot be opened" in err
    cli("get", "all", "--namespace", "salvus-none")


GIT = """\
contexts:
- name: one
  manifests:
    git:
      url: ssh://git@git.example.org/fleet.git
      tag: v1
      path: sites/one
      interval: 2m
      sshKeyFile: key
      knownHostsFile: hosts
      signers: {ssh: signers}
"""


def test_manifests_in_git(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GIT)
    settings = resolve(Flags(config=tmp_path / "c.yaml"), {}).manifests
    assert settings == GitSettings(
        "ssh://git@git.example.org/fleet.git",
        "refs/tags/v1",
        "sites/one",
        tmp_path / "state/salvus/git",
        120,
        ssh_key=tmp_path / "key",
        known_hosts=tmp_path / "hosts",
        signers=Signers("ssh", tmp_path / "signers"),
    )
    assert settings.source == "git:ssh://git@git.example.org/fleet.git#tag v1:sites/one"
    assert str(settings) == place_of(settings.source) == "ssh://git@git.example.org/fleet.git (tag v1, sites/one)"
    (tmp_path / "c.yaml").write_text("contexts: [{name: one, manifests: {git: {url: file:///srv/fleet.git}}}]")
    plain = resolve(Flags(config=tmp_path / "c.yaml"), {}).manifests
    assert plain == GitSettings("file:///srv/fleet.git", "refs/heads/main", "", tmp_path / "state/salvus/git", 30)
    assert str(plain) == "file:///srv/fleet.git (main)"


@pytest.mark.parametrize(
    ("git", "said"),
    [
        ("{}", "manifests.git.url: is missing"),
        ("{url: 'http://a/b'}", "manifests.git.url: must begin with https://, ssh://, file:/// or user@host:"),
        ("{url: '--upload-pack=x'}", "manifests.git.url: must begin with"),
        ("{url: 'ext::sh -c x'}", "manifests.git.url: must begin with"),
        ("{url: 'https://me:secret@a/b'}", "must have no user, password or ?token: these are in credentialsFile"),
        ("{url: 'ssh://me:secret@a/b'}", "must have no user, password or ?token"),
        ("{url: 'https://a/b?private_token=secret'}", "must have no user, password or ?token"),
        ("{url: 'https://token@a/b'}", "must have no user, password or ?token"),
        ("{url: 'https://a/b', branch: --all}", "manifests.git.branch: must be the name of a branch or tag"),
        ("{url: 'https://a/b', branch: 'a:b'}", "manifests.git.branch: must be the name of a branch or tag"),
        ("{url: 'https://a/b', branch: a, tag: b}", "either a branch or a tag is followed"),
        ("{url: 'https://a/b', path: ../x}", "manifests.git.path: must be a folder in the repository"),
        ("{url: 'https://a/b', path: /x}", "manifests.git.path: must be a folder in the repository"),
        ("{url: 'https://a/b', interval: 0s}", "manifests.git.interval: must be at least 1s"),
        ("{url: 'https://a/b', sshKeyFile: k, knownHostsFile: h}", "are for ssh"),
        ("{url: 'git@a:b', sshKeyFile: k}", "ssh needs sshKeyFile and knownHostsFile: no host is trusted unseen"),
        ("{url: 'file:///b', credentialsFile: k}", "credentialsFile and authorityFile are for https"),
        ("{url: 'https://a/b', signers: {}}", "signers are either ssh or gpg"),
        ("{url: 'https://a/b', brunch: x}", "unknown field; did you mean 'branch'"),
    ],
)
def test_what_is_wrong_with_manifests_in_git_has_its_place(git: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"contexts:\n- name: one\n  manifests:\n    git: {git}\n")
    with pytest.raises(ManifestError) as raised:
        resolve(Flags(config=tmp_path / "c.yaml"), {})
    assert said in str(raised.value)
    assert raised.value.line in {3, 4}
    assert "secret" not in str(raised.value)


def test_manifests_are_in_one_place(tmp_path: Path) -> None:
    for text in ("{}", "{directory: a, git: {url: 'file:///b'}}"):
        (tmp_path / "c.yaml").write_text(f"contexts: [{{name: one, manifests: {text}}}]")
        with pytest.raises(ManifestError, match="either in a directory or in git"):
            resolve(Flags(config=tmp_path / "c.yaml"), {})
    (tmp_path / "c.yaml").write_text("contexts: [{name: one, manifests: {directory: a}}]")
    assert resolve(Flags(config=tmp_path / "c.yaml"), {}).manifests == tmp_path / "a"
