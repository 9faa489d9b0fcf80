"""A controller, and the command line, on manifests in a git repository: what is pushed comes about, nothing is lost."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.session import Settings, open_session
from controller.sources.git import GitSource
from controller.store.base import Access
from salvusctl.config import current
from salvusctl.flags import Flags
from salvusctl.plan_outputs import Diff
from salvusctl.revision_outputs import Revisions
from tests.conformance.git_repository import Repository
from tests.conformance.sshd import keygen
from tests.conformance.test_daemon import Daemon, Place, free_port, until
from tests.fast.cli import HOST, OTHER, Cli, cli
from tests.fast.manifests import KEY

__all__ = ["cli"]
pytestmark = pytest.mark.conformance


def host(name: str) -> str:
    """A host that nobody can reach."""
    spec = {"address": "127.0.0.1", "ssh": {"port": free_port(), "hostKeys": [KEY]}}
    return json.dumps({"apiVersion": "salv.us/v1", "kind": "Host", "metadata": {"name": name}, "spec": spec})


class GitPlace(Place):
    """As there, with a repository as the source."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repository = Repository(folder)
        self.environment["XDG_STATE_HOME"] = str(folder / "state")
        self.follow()

    def follow(self, **more: object) -> None:
        git = {"url": self.repository.url, "path": "manifests", "interval": "1s", **more}
        context = {"name": "test", "store": {"sqlite": "salvus.db"}, "manifests": {"git": git}}
        (self.folder / "salvus.yaml").write_text(json.dumps({"contexts": [context]}))

    def push(self, **hosts: str | None) -> str:
        return self.repository.push({f"manifests/{name}.yaml": text for name, text in hosts.items()})

    def names(self) -> list[str]:
        with open_session(Settings(self.store), access=Access.READ) as session:
            return sorted(session.knowledge().rows)

    def told(self) -> str:
        """What is said of the source; empty when all is well."""
        with open_session(Settings(self.store), access=Access.READ) as session:
            states = session.ledger.sources.states().values()
            said = [[*(state.trouble or ()), *(hold.message for hold in state.holds)] for state in states]
            return " ".join(said[0] if said else ["nothing was read yet"])

    def metric(self, name: str) -> float:
        (line,) = [line for line in self.daemons[-1].get("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[GitPlace]:
    made = GitPlace(tmp_path)
    yield made
    for daemon in made.daemons:
        daemon.bury()


def test_what_is_pushed_comes_about_and_a_bad_commit_is_refused_as_a_whole(place: GitPlace) -> None:
    first = place.push(one=host("one"), two=host("two"))
    place.running()
    until(lambda: len(place.names()) == 2)
    bad = place.push(three=host("three"), one=host("one").replace("address", "adress"), two=None)
    until(lambda: bad[:12] in place.told())
    sentence = f"revision {bad[:12]} of {place.repository.url} (main, manifests) is not in force, as it has errors"
    assert f"{sentence}: manifests/one.yaml:1:" in place.told()
    assert place.names() == ["Host/one", "Host/two"]
    assert sentence in place.salvusctl("events").stdout
    listed = place.salvusctl("get", "host", "one", "-o", "json")
    assert sentence in " ".join(listed.stderr.split())
    (found,) = json.loads(listed.stdout)["items"]
    metadata, current = found["metadata"], found["status"]["conditions"][-1]
    assert (metadata["source"], metadata["revision"]) == (f"git:{place.repository.url}#main:manifests", first)
    assert (current["type"], current["status"], current["reason"]) == ("Current", "False", "ManifestErrors")
    until(lambda: place.metric("salvus_manifest_errors") == 2)
    until(lambda: f'revision="{bad[:12]}"' in place.daemons[0].log.read_text())
    place.push(one=host("one"))
    until(lambda: place.names() == ["Host/one", "Host/three"])
    until(lambda: place.told() == "")
    until(lambda: place.metric("salvus_manifest_errors") == 0)


def test_whatever_becomes_of_the_repository_nothing_is_lost_and_it_is_said(place: GitPlace) -> None:
    repository = place.repository
    first = place.push(one=host("one"), two=host("two"))
    place.running()
    until(lambda: len(place.names()) == 2)

    def said(words: str) -> None:
        until(lambda: words in place.told())
        assert place.names() == ["Host/one", "Host/two"]
        until(lambda: place.metric("salvus_manifest_errors") == 1)

    repository.git(repository.bare, "update-ref", "-d", "refs/heads/main")
    said("cannot be read: it has no branch main: it was deleted, or never pushed")
    assert "SourceUnreadable" in place.salvusctl("events").stdout
    repository.git(repository.bare, "update-ref", "refs/heads/main", first)
    until(lambda: place.told() == "")
    shutil.move(repository.bare, repository.bare.with_name("away"))
    said("there is no such repository")
    shutil.move(repository.bare.with_name("away"), repository.bare)
    place.push(one=None, two=None, README="{{{")
    repository.push({"manifests/README.yaml": None, "manifests/README": ""})
    until(lambda: "2 of 2 resources are gone from" in place.told())
    assert place.names() == ["Host/one", "Host/two"]
    repository.push({"manifests/README": None, "x": ""})
    said("there is no folder 'manifests' in commit")
    repository.git(repository.work, "reset", "-q", "--hard", first)
    forced = place.push(two=host("two"), three=host("three"))
    until(lambda: place.names() == ["Host/one", "Host/three", "Host/two"])
    assert forced[:12] not in place.told()


def test_an_unsigned_commit_is_not_in_force(place: GitPlace) -> None:
    repository = place.repository
    keygen(place.folder / "alice")
    (place.folder / "signers").write_text(f"alice {(place.folder / 'alice.pub').read_text()}")
    place.follow(signers={"ssh": "signers"})
    for setting in (
        ("gpg.format", "ssh"),
        ("user.signingKey", str(place.folder / "alice")),
        ("commit.gpgSign", "true"),
    ):
        repository.git(repository.work, "config", *setting)
    place.push(one=host("one"))
    place.running()
    until(lambda: place.names() == ["Host/one"])
    repository.git(repository.work, "config", "commit.gpgSign", "false")
    unsigned = place.push(two=host("two"))
    until(lambda: f"commit {unsigned[:12]} is not signed; who may sign it is in" in place.told())
    assert place.names() == ["Host/one"]
    repository.git(repository.work, "config", "commit.gpgSign", "true")
    place.push(three=host("three"))
    until(lambda: place.names() == ["Host/one", "Host/three", "Host/two"])


def test_another_controller_goes_on_with_the_repository(place: GitPlace) -> None:
    place.push(one=host("one"))
    first = place.running()
    until(lambda: place.names() == ["Host/one"])
    second = place.start()
    second.hears("READY=1")
    first.process.kill()
    first.process.wait()
    place.push(two=host("two"))
    until(lambda: place.names() == ["Host/one", "Host/two"])
    assert second.end() == 0
    assert "Traceback" not in second.log.read_text()


def told_of_a_push(port: int, secret: bytes) -> int:
    """As a server of git tells of it."""
    signature = "sha256=" + hmac.new(secret, b"{}", hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/sync", b"{}", {"X-Hub-Signature-256": signature}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_controller_that_is_told_of_a_push_has_it_read_at_once_by_whoever_reads_it(place: GitPlace) -> None:
    secret = b"a secret of the webhook"
    (place.folder / "secret").write_bytes(secret)
    place.follow(interval="1h", webhookSecretFile="secret")
    place.push(one=host("one"))
    daemons = [place.running(), place.start()]
    daemons[1].hears("READY=1")
    until(lambda: place.names() == ["Host/one"])

    def pushed(name: str, told: Daemon) -> None:
        place.push(**{name: host(name)})
        assert told_of_a_push(told.port, b"not the secret of it") == 403
        assert told_of_a_push(told.port, secret) == 202
        until(lambda: f"Host/{name}" in place.names())

    pushed("two", daemons[0])
    pushed("three", daemons[1])


def test_a_pin_holds_against_the_source_until_it_is_unpinned(place: GitPlace) -> None:
    repository = place.repository
    first = place.push(one=host("one"), two=host("two"))
    place.running()
    until(lambda: len(place.names()) == 2)
    second = place.push(three=host("three"), two=host("two").replace('"two"}', '"two", "labels": {"a": "b"}}'))
    until(lambda: "Host/three" in place.names())
    refused = place.salvusctl("rollback", "--reason", "x")
    assert refused.returncode == 2
    assert "say --pin" in refused.stderr
    done = place.salvusctl("rollback", "--pin", "--reason", "three is bad")
    assert (done.returncode, first[:12] in done.stdout) == (0, True), done.stderr
    until(lambda: place.names() == ["Host/one", "Host/two"])
    third = place.push(four=host("four"))
    until(
        lambda: (
            place.told() == f"Pinned revision {third[:12]} of {place.repository.url} (main, manifests) is not in "
            f"force, as it is pinned to {first[:12]}: salvusctl unpin"
        )
    )
    assert place.names() == ["Host/one", "Host/two"]
    listed = place.salvusctl("get", "host", "-o", "wide")
    assert f"is pinned to {first[:12]} by " in " ".join(listed.stderr.split())
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    assert [first[:12] in row for row in rows] == [True, True]
    (found,) = Revisions.model_validate_json(place.salvusctl("revisions", "-o", "json").stdout).items
    assert (found.in_force, found.newest) == (first, third)
    assert found.pinned is not None
    assert (found.pinned.revision, found.pinned.reason) == (first, "three is bad")
    states = [(turn.revision, turn.state) for turn in reversed(found.revisions)]
    there = [(first, "in force"), (second, "in force"), (first, "in force"), (second, "held"), (third, "held")]
    assert states == there
    assert found.revisions[-1].about == "a <a@example.org>: a change"
    assert f'salvus_pinned{{source="git:{repository.url}#main:manifests"}} 1.0' in place.daemons[0].get("/metrics")[1]
    assert place.daemons[0].end() == 0
    place.start().hears("READY=1")
    until(lambda: place.daemons[1].acts())
    assert place.names() == ["Host/one", "Host/two"], "the next controller knows of it, too"
    assert place.salvusctl("unpin").returncode == 0
    until(lambda: place.names() == ["Host/four", "Host/one", "Host/three", "Host/two"])
    until(lambda: place.told() == "")
    assert place.salvusctl("unpin").returncode == 1


# The command line


@pytest.fixture
def repository(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("XDG_STATE_HOME", str(cli.folder / "state"))
    made = Repository(cli.folder)
    git = {"url": made.url, "path": "manifests"}
    context = {"name": "test", "store": {"sqlite": "store.db"}, "manifests": {"git": git}}
    (cli.folder / "config.yaml").write_text(json.dumps({"contexts": [context]}))
    return made


def test_validate_diff_and_apply_read_the_same_source(cli: Cli, repository: Repository) -> None:
    commit = repository.push({"manifests/alpha.yaml": HOST})
    assert cli("validate").out == "1 resource in order\n"
    assert cli("diff", "-o", "json", code=1).data["resources"][0]["resource"] == "Host/alpha"
    assert cli("apply").out == "Host/alpha created\n"
    assert cli("get", "host", "-o", "json").data["items"][0]["metadata"]["revision"] == commit
    assert cli("diff").code == 0
    bad = repository.push({"manifests/beta.yaml": OTHER.replace("address", "adress")})
    for verb, code in (("validate", 2), ("diff", 2), ("apply", 2)):
        said = cli(verb, code=code).err
        assert "manifests/beta.yaml:6:3: spec.adress" in said
        assert bad[:12] in said
    repository.push({"manifests/alpha.yaml": None, "manifests/beta.yaml": None, "manifests/x": ""})
    assert "there are no manifests in file://" in cli("validate", code=2).err


def test_while_the_repository_is_away_what_was_fetched_last_is_shown_and_never_applied(
    cli: Cli, repository: Repository
) -> None:
    shutil.move(repository.bare, cli.folder / "away")
    assert "cannot be read: there is no such repository" in cli("validate", code=3).err
    shutil.move(cli.folder / "away", repository.bare)
    commit = repository.push({"manifests/alpha.yaml": HOST})
    cli("validate")
    shutil.move(repository.bare, cli.folder / "away")
    for verb, code in (("validate", 0), ("diff", 1)):
        said = " ".join(cli(verb, code=code).err.split())
        assert "cannot be read: there is no such repository" in said
        assert f"this is commit {commit[:12]} of it, as fetched at " in said
    assert Diff.model_validate_json(cli("diff", "-o", "json", code=1).out).resources
    said = cli("apply", code=3).err
    assert "cannot be read: there is no such repository" in said
    assert not cli.store.exists()


def test_what_came_from_git_and_is_applied_by_hand_is_taken_back_and_that_is_said(
    cli: Cli, repository: Repository
) -> None:
    repository.push({"manifests/alpha.yaml": HOST})
    origin = current(Flags()).manifests
    assert origin is not None
    assert not isinstance(origin, Path)
    source = GitSource(origin)
    with open_session(Settings(cli.store)) as session:
        session.put(source.read().loaded, source.name)
    said = cli("apply", "--no-wait", "-f", cli.write(HOST.replace("kvm", "spare"))).err
    assert f"came from {repository.url} (main, manifests): the next sync takes this back" in " ".join(said.split())


def test_a_rollback_reads_the_commit_first_and_diff_and_apply_know_the_pin(cli: Cli, repository: Repository) -> None:
    first = repository.push({"manifests/alpha.yaml": HOST})
    bad = repository.push({"manifests/beta.yaml": "{{{"})
    newest = repository.push({"manifests/beta.yaml": OTHER})
    cli("apply", "--no-wait")

    def pin(to: str, code: int = 0) -> str:
        answer = cli("rollback", "--to", to, "--pin", "--reason", "why not", code=code)
        return " ".join((answer.out + answer.err).split())

    assert "why?" in cli("rollback", "--to", first, "--pin", code=2).err
    assert "nothing else was in force before" in cli("rollback", "--pin", "--reason", "x", code=2).err
    assert "is no revision that was read" in pin("HEAD~1", code=2)
    assert "manifests/beta.yaml:1:" in pin(bad, code=2)
    assert "its server does not give commit 0000" in pin("0" * 40, code=3)
    assert not cli("get", "host").err, "nothing is pinned"
    assert f"is pinned to {first[:12]}" in pin(first)
    assert f"is pinned to {first[:12]} by" in " ".join(cli("get", "host").err.split())
    again = cli("rollback", "--pin", "--reason", "twice", code=2).err
    assert f"is pinned already, to {first[:12]}" in " ".join(again.split()), "it does not go forward again"
    cli("apply", "--no-wait", "-f", cli.write(OTHER.replace("old", "other")))
    assert [one["resource"] for one in cli("diff", "-o", "json", code=None).data["resources"]] == []
    assert cli("apply", "--no-wait").out == "Host/alpha unchanged\n"
    shutil.move(repository.bare, cli.folder / "away")
    assert cli("apply", "--no-wait").out == "Host/alpha unchanged\n", "it was fetched before"
    shutil.move(cli.folder / "away", repository.bare)
    cli("unpin")
    assert "Host/beta configured" in cli("apply", "--no-wait").out
    assert newest != first


def test_a_directory_has_nothing_to_go_back_to(cli: Cli) -> None:
    (cli.folder / "manifests").mkdir()
    (cli.folder / "config.yaml").write_text("contexts: [{name: one, manifests: manifests, store: {sqlite: store.db}}]")
    said = cli("rollback", "--pin", "--reason", "x", code=2).err
    assert "are not in git: no older revisions of them are kept" in said


def test_a_pin_of_what_is_not_followed_any_more_can_be_ended(cli: Cli, repository: Repository) -> None:
    first = repository.push({"manifests/alpha.yaml": HOST})
    cli("apply", "--no-wait")
    assert cli("unpin", code=1).err.startswith("error: nothing is pinned")
    cli("rollback", "--to", first, "--pin", "--reason", "x")
    (cli.folder / "config.yaml").write_text("contexts: [{name: one, store: {sqlite: store.db}}]")
    assert "is pinned to" in cli("get", "host").err
    assert "is followed again" in cli("unpin").out
    assert cli("get", "host").err == ""
