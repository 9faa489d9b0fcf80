"""Manifests from real git repositories: by file, https and ssh, and everything that may be wrong with them."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from controller.sources import git_program
from controller.sources.base import Unreadable
from controller.sources.git import GitSource
from controller.sources.settings import GitSettings, Signers
from resources.fleet import Fleet
from tests.conformance.git_repository import PASSWORD, USER, GitHttps, Repository
from tests.conformance.ssh_world import World
from tests.conformance.sshd import keygen
from tests.fast.cli import HOST, OTHER

pytestmark = pytest.mark.conformance
NOBODY = Fleet()
HOSTS = {"manifests/alpha.yaml": HOST, "README.md": "about"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def settings(repository: Repository, tmp_path: Path) -> GitSettings:
    return GitSettings(repository.url, "refs/heads/main", "manifests", tmp_path / "copies")


def read(settings: GitSettings) -> tuple[str, set[str], list[str]]:
    """The revision, what is there, what is wrong."""
    source = GitSource(settings)
    loaded = source.read(NOBODY).loaded
    source.close()
    return loaded.revision, set(loaded.documents), [str(error) for error in loaded.errors]


def refused(settings: GitSettings) -> str:
    source = GitSource(settings)
    with pytest.raises(Unreadable) as raised:
        source.read(NOBODY)
    assert raised.value.hint
    return f"{raised.value}; {raised.value.hint}"


def test_a_branch_is_followed_wherever_it_is_pushed_to(repository: Repository, settings: GitSettings) -> None:
    source = GitSource(settings)
    first = repository.push(HOSTS)
    assert source.read(NOBODY).loaded.revision == first
    second = repository.push({"manifests/beta.yaml": OTHER})
    loaded = source.read(NOBODY).loaded
    assert (loaded.revision, set(loaded.documents)) == (second, {"Host/alpha", "Host/beta"})
    repository.git(repository.work, "reset", "-q", "--hard", first)
    forced = repository.push({"manifests/alpha.yaml": HOST.replace("kvm", "spare")})
    loaded = source.read(NOBODY).loaded
    assert (loaded.revision, set(loaded.documents)) == (forced, {"Host/alpha"})
    shallow = repository.git(
        settings.copies / next(settings.copies.iterdir()), "log", "--format=%H", "refs/salvus/fetched"
    )
    assert shallow == forced, "without its history"


def test_a_tag_and_another_branch_and_the_whole_repository(repository: Repository, settings: GitSettings) -> None:
    commit = repository.push(HOSTS)
    repository.git(repository.work, "tag", "-a", "-m", "a release", "v1")
    repository.git(repository.work, "push", "-q", "origin", "v1")
    other = repository.push({"manifests/beta.yaml": OTHER}, ref="fix#3")
    assert read(replace(settings, ref="refs/tags/v1"))[0] == commit
    repository.git(repository.work, "tag", "-a", "-f", "-m", "a better one", "v1", other)
    repository.git(repository.work, "push", "-q", "--force", "origin", "v1")
    assert read(replace(settings, ref="refs/tags/v1"))[0] == other, "one that is moved is followed"
    repository.git(repository.bare, "tag", "tree", f"{commit}^{{tree}}")
    assert "tag tree is no commit" in refused(replace(settings, ref="refs/tags/tree"))
    assert read(replace(settings, ref="refs/heads/fix#3"))[0] == other
    assert read(replace(settings, path="", ref="refs/heads/fix#3"))[1] == {"Host/alpha", "Host/beta"}
    assert read(settings)[1] == {"Host/alpha"}


def test_errors_have_the_place_in_the_repository(repository: Repository, settings: GitSettings) -> None:
    commit = repository.push({"manifests/sub/alpha.yaml": HOST.replace("address:", "adress:")})
    revision, _, errors = read(settings)
    assert revision == commit
    assert [error.partition(" ")[0] for error in errors] == [f"manifests/sub/alpha.yaml:{at}:" for at in ("5:1", "6:3")]


def test_a_name_that_is_no_text_is_told_as_text(repository: Repository, settings: GitSettings) -> None:
    repository.push({"manifests/" + os.fsdecode(b"a\xff.yaml"): "{{{"})
    ((error,),) = read(settings)[2:]
    assert error.encode().startswith(rb"manifests/a\udcff.yaml:1:")


def test_what_is_no_manifest_is_left_out(repository: Repository, settings: GitSettings) -> None:
    files = {"manifests/.hidden.yaml": "{{{", "manifests/.git-old/x.yaml": "{{{", "manifests/x.txt": "{{{"}
    repository.push({**HOSTS, **files, "other/y.yaml": "{{{", "manifests/ü b\\n.yml": OTHER})
    assert read(settings)[1:] == ({"Host/alpha", "Host/beta"}, [])


def test_links_within_are_read_once_and_links_out_are_refused(repository: Repository, settings: GitSettings) -> None:
    folder = repository.work / "manifests"
    repository.commit({**HOSTS, "manifests/real/beta.txt": OTHER, "secret.yaml": "{{{"})
    (folder / "again.yaml").symlink_to("alpha.yaml")
    (folder / "beta.yaml").symlink_to("hop")
    (folder / "hop").symlink_to("real/beta.txt")
    (folder / "folder").symlink_to("real")
    repository.push({})
    assert read(settings)[1:] == ({"Host/alpha", "Host/beta"}, [])
    (folder / "a.yaml").symlink_to("/etc/passwd")
    (folder / "b.yaml").symlink_to("../secret.yaml")
    (folder / "c.yaml").symlink_to("nothing.yaml")
    (folder / "d.yaml").symlink_to("d.yaml")
    (folder / "etc").symlink_to("/etc")
    repository.push({})
    errors = read(settings)[2]
    assert [error.partition(":")[0] for error in errors] == [
        f"manifests/{x}" for x in ("a.yaml", "b.yaml", "c.yaml", "d.yaml", "etc")
    ]
    assert ["leads out" in error for error in errors] == [True, True, False, False, True]
    assert not any("root:" in error for error in errors)


def test_a_submodule_is_refused_and_not_fetched(repository: Repository, settings: GitSettings, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Repository(tmp_path / "other")
    other.push({"x.yaml": "{{{"})
    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", other.url, "manifests/other")
    repository.commit(HOSTS)
    repository.git(repository.work, *add)
    repository.push({})
    ((error,),) = read(settings)[2:]
    assert error.startswith("manifests/other: is a submodule")
    (repository.work / "manifests" / "z.yaml").symlink_to("other")
    repository.push({})
    assert read(settings)[2][1] == "manifests/z.yaml: is a symbolic link to what is not in this commit"
    assert read(replace(settings, path="manifests/other"))[2][0].startswith("there is no folder 'manifests/other'")


def test_hooks_and_filters_do_not_run(repository: Repository, settings: GitSettings, tmp_path: Path) -> None:
    repository.push({**HOSTS, "manifests/.gitattributes": "*.yaml filter=evil\n"})
    source = GitSource(settings)
    source.read(NOBODY)
    copy = next(settings.copies.iterdir())
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
        (copy / "hooks").mkdir(exist_ok=True)
        (copy / "hooks" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (copy / "hooks" / name).chmod(0o755)
    repository.push({"manifests/beta.yaml": OTHER})
    assert set(source.read(NOBODY).loaded.documents) == {"Host/alpha", "Host/beta"}
    assert not (tmp_path / "ran").exists()


def test_a_large_file_is_an_error_and_is_not_read(repository: Repository, settings: GitSettings) -> None:
    repository.push({**HOSTS, "manifests/large.yaml": "#" * (2**20 + 1)})
    ((error,),) = read(settings)[2:]
    assert error.startswith("manifests/large.yaml: has more than 1 MiB")


def test_a_repository_of_ten_thousand_files(repository: Repository, settings: GitSettings) -> None:
    files = {
        f"manifests/{number % 100}/host{number}.yaml": HOST.replace("alpha", f"host{number}").replace(
            "192.0.2.1", f"10.0.{number // 250}.{number % 250 + 1}"
        )
        for number in range(10_000)
    }
    repository.put_many(files)
    source = GitSource(settings)
    loaded = source.read(NOBODY).loaded
    assert loaded.ok, loaded.errors[:3]
    assert len(loaded.documents) == 10_000
    started = time.monotonic()
    assert source.read(NOBODY).loaded.revision == loaded.revision
    assert time.monotonic() - started < 10, "nothing new is nothing to read"


def test_what_went_away_is_an_error_that_says_what(repository: Repository, settings: GitSettings) -> None:
    repository.push(HOSTS, ref="other")
    assert "it has no branch main: it was deleted, or never pushed" in refused(settings)
    assert "it has no tag v1" in refused(replace(settings, ref="refs/tags/v1"))
    repository.push(HOSTS)
    repository.push({"manifests/alpha.yaml": None, "README.md": "x"})
    _, there, (error,) = read(settings)
    assert not there
    assert error.startswith("there is no folder 'manifests' in commit")
    shutil.move(repository.bare, repository.bare.with_name("away"))
    assert "there is no such repository" in refused(settings)


def test_a_repository_of_somebody_else_is_refused_with_the_way_out(
    repository: Repository, settings: GitSettings
) -> None:
    repository.push(HOSTS)
    for path in (repository.bare, *repository.bare.rglob("*")):
        os.chown(path, 65534, 65534)
    assert "belongs to another user" in refused(settings)


def test_a_copy_that_was_left_in_the_middle_is_gone_on_with(repository: Repository, settings: GitSettings) -> None:
    repository.push(HOSTS)
    read(settings)
    (copy,) = settings.copies.iterdir()
    for lock in ("shallow.lock", "config.lock", "refs/salvus/fetched.lock", "packed-refs.lock"):
        (copy / lock).touch()
    commit = repository.push({"manifests/beta.yaml": OTHER})
    assert read(settings)[0] == commit


def test_what_a_killed_fetch_has_left_does_not_stay(repository: Repository, settings: GitSettings) -> None:
    repository.push(HOSTS)
    read(settings)
    (copy,) = settings.copies.iterdir()
    left = [
        copy / "objects" / name
        for name in ("pack/tmp_pack_x1", "pack/.tmp-7-pack-x.idx", "pack/pack-x.keep", "ab/tmp_obj_x2")
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert read(settings)[1] == {"Host/alpha"}
    assert not any(path.exists() for path in left)


def emptied(copy: Path) -> None:
    for path in (copy / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"")


def without_a_manifest(copy: Path) -> None:
    for pack in list((copy / "objects" / "pack").iterdir()):
        data = pack.read_bytes()
        pack.unlink()
        if pack.suffix == ".pack":
            subprocess.run(["git", "unpack-objects", "-q"], cwd=copy, input=data, check=True)
    name = ["git", "rev-parse", "refs/salvus/fetched:manifests/alpha.yaml"]
    blob = subprocess.run(name, cwd=copy, capture_output=True, text=True, check=True).stdout.strip()
    (copy / "objects" / blob[:2] / blob[2:]).unlink()


def without_a_ref(copy: Path) -> None:
    (copy / "refs" / "salvus" / "fetched").write_text("")


def without_an_end(copy: Path) -> None:
    (copy / "shallow").write_text("12")


@pytest.mark.parametrize("damage", [emptied, without_a_manifest, without_a_ref, without_an_end])
@pytest.mark.parametrize("news", [False, True])
def test_a_damaged_copy_is_made_anew(
    repository: Repository, settings: GitSettings, damage: Callable[[Path], None], news: bool
) -> None:
    repository.push(HOSTS)
    read(settings)
    damage(next(settings.copies.iterdir()))
    if news:
        repository.push({"README.md": "news"})
    assert read(settings)[1:] == ({"Host/alpha"}, [])


def test_who_is_stopped_with_the_copy_holds_nobody_up(
    repository: Repository, settings: GitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_program, "PATIENCE", 0.1)
    repository.push(HOSTS)
    source = GitSource(settings)
    source.read(NOBODY)
    with ExitStack() as held:

        def hold(copy: Path) -> None:
            lock = held.enter_context((copy / "salvus.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)

        hold(first := source._git.folder)
        repository.push({"manifests/beta.yaml": OTHER})
        assert source.read(NOBODY).loaded.documents.keys() == {"Host/alpha", "Host/beta"}
        assert (second := source._git.folder) != first
        for copy in settings.copies.iterdir():
            if copy != first:
                hold(copy)
        assert source.read(NOBODY).loaded.ok
        assert source._git.folder not in (first, second)
        hold(source._git.folder)
        source.read(NOBODY)
        hold(source._git.folder)
        with pytest.raises(Unreadable, match=r"other processes have been using .* for long"):
            source.read(NOBODY)
    source.read(NOBODY)
    assert source._git.folder == first


def test_many_replaced_commits_are_tidied_up_once(repository: Repository, settings: GitSettings) -> None:
    source = GitSource(settings)
    for turn in ("a", "b"):
        repository.put_many({f"manifests/{n}.yaml": f"# {turn} {n}" for n in range(300)})
        source.read(NOBODY)
    git = source._git
    with git.alone():
        git.run("gc", "--auto", "--quiet", settings=("gc.autoPackLimit=1",))
        (loose,) = (line for line in git.run("count-objects", "-v").splitlines() if line.startswith(b"count:"))
    assert loose == b"count: 0"
    assert source.read(NOBODY).loaded.ok


def test_a_small_repository_with_a_billion_names_is_given_up(
    repository: Repository, settings: GitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_program, "MOST", 2**22)

    def make(command: str, lines: Sequence[str]) -> str:
        done = subprocess.run(
            ["git", *command.split()], cwd=repository.bare, input="\n".join(lines), text=True, stdout=-1, check=True
        )
        return done.stdout.strip()

    inner = f"100644 blob {make('hash-object -w --stdin', ['#'])}"
    for _ in range(9):
        ten = [f"{inner}\t{number}.yaml" for number in range(10)]
        inner = f"040000 tree {make('mktree', ten)}"
    root = make("mktree", [f"{inner}\tmanifests"])
    commit = repository.git(repository.bare, "commit-tree", "-m", "many", root)
    repository.git(repository.bare, "update-ref", "refs/heads/main", commit)
    assert "git answers with more than 4 MiB" in refused(settings)
    assert not running(str(settings.copies)), "it is not waited for"


def only_git(folder: Path) -> Path:
    """A folder for PATH in which there is no other program."""
    git = shutil.which("git")
    assert git is not None
    (folder / "bin").mkdir()
    (folder / "bin" / "git").symlink_to(git)
    return folder / "bin"


def test_programs_that_are_missing_are_named(
    repository: Repository, settings: GitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.push(HOSTS)
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "the program git is not installed here; apt-get install git" in refused(settings)
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(only_git(tmp_path)))
    (tmp_path / "any").touch()
    over_ssh = replace(settings, url="ssh://root@127.0.0.1:1/x", ssh_key=tmp_path / "any", known_hosts=tmp_path / "any")
    assert "the program ssh is not installed here" in refused(over_ssh)


def test_several_readers_of_one_copy_wait_for_each_other(repository: Repository, settings: GitSettings) -> None:
    commits = {repository.push(HOSTS)}
    found: list[str] = []

    def reader() -> None:
        found.extend(read(settings)[0] for _ in range(5))

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(4):
        commits.add(repository.push({"manifests/beta.yaml": OTHER + f"# {number}\n"}))
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert set(found) <= commits


# Https


@pytest.fixture
def https(tmp_path: Path, repository: Repository) -> Iterator[GitHttps]:
    server = GitHttps(tmp_path, tmp_path)
    yield server
    server.close()


def over_https(
    settings: GitSettings, https: GitHttps, tmp_path: Path, text: str = f"{USER}\n{PASSWORD}\n"
) -> GitSettings:
    (tmp_path / "credentials").write_text(text)
    return replace(
        settings,
        url=f"{https.url}/fleet.git",
        credentials=tmp_path / "credentials",
        authority=https.certificate,
    )


def test_https_with_a_password_from_a_file_and_an_authority_of_its_own(
    repository: Repository, settings: GitSettings, https: GitHttps, tmp_path: Path
) -> None:
    commit = repository.push(HOSTS)
    assert read(over_https(settings, https, tmp_path))[:2] == (commit, {"Host/alpha"})
    kept = [path.read_bytes() for path in settings.copies.rglob("*") if path.is_file()]
    assert not any(b"secret" in data for data in kept)


def test_what_is_wrong_with_https_is_said_without_the_password(
    repository: Repository, settings: GitSettings, https: GitHttps, tmp_path: Path
) -> None:
    repository.push(HOSTS)
    good = over_https(settings, https, tmp_path)
    said = {
        "certified": refused(replace(good, authority=None)),
        "credentialsFile": refused(replace(good, credentials=None)),
        "no such repository": refused(replace(good, url=f"{https.url}/nothing.git")),
        "cannot be reached": refused(replace(good, url="https://127.0.0.1:1/fleet.git")),
        "missing: No such file": refused(replace(good, credentials=tmp_path / "missing")),
        "cannot be resolved": refused(replace(good, url="https://nowhere.invalid/fleet.git")),
        "another user or password": refused(over_https(settings, https, tmp_path, f"{USER}\nnot the secret\n")),
    }
    https.redirect = "https://127.0.0.1:1"
    said["sends us elsewhere"] = refused(good)
    assert {words: words in text for words, text in said.items()} == dict.fromkeys(said, True), said
    assert not any("secret" in text for text in said.values())


def test_no_process_has_the_password_among_its_arguments_or_variables(
    repository: Repository, settings: GitSettings, https: GitHttps, tmp_path: Path
) -> None:
    repository.push(HOSTS)
    seen: list[bytes] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    seen.append((process / "cmdline").read_bytes() + (process / "environ").read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(3):
            read(over_https(settings, https, tmp_path))
    finally:
        ended.set()
        watcher.join()
    assert any(b"credential.helper=!" in text for text in seen), "the watcher sees git"
    assert not any(PASSWORD.encode() in text for text in seen)


def test_a_server_that_does_not_answer_is_given_up_when_it_is_closed(settings: GitSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/fleet.git"
        source = GitSource(replace(settings, url=url))
        during: list[bool] = []

        def close() -> None:
            during.append(running(url))
            source.close()

        timer = threading.Timer(1.0, close)
        timer.start()
        with pytest.raises(Unreadable, match="no answer"):
            source.read(NOBODY)
        timer.join()
    assert during == [True]
    assert not running(url), "nothing that was started is left"


def running(word: str) -> bool:
    """Whether a process has this among its arguments."""
    return subprocess.run(["pgrep", "-f", word], capture_output=True, check=False).returncode == 0


# Ssh


@pytest.fixture
def over_ssh(settings: GitSettings, ssh: World, repository: Repository, tmp_path: Path) -> GitSettings:
    sshd = ssh.shared
    (tmp_path / "known hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    url = f"ssh://root@127.0.0.1:{sshd.port}{repository.bare}"
    return replace(settings, url=url, ssh_key=sshd.folder / "client", known_hosts=tmp_path / "known hosts")


def test_ssh_with_a_key_and_a_known_host(repository: Repository, over_ssh: GitSettings) -> None:
    commit = repository.push(HOSTS)
    assert read(over_ssh)[:2] == (commit, {"Host/alpha"})


def test_what_is_wrong_with_ssh_is_said(repository: Repository, over_ssh: GitSettings, tmp_path: Path) -> None:
    repository.push(HOSTS)
    keygen(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known = over_ssh.known_hosts
    assert known is not None
    (tmp_path / "nobody").write_text("")
    (tmp_path / "changed").write_text(f"{known.read_text().split()[0]} {other}\n")
    said = {
        "its host is not in": refused(replace(over_ssh, known_hosts=tmp_path / "nobody")),
        "is another one than in": refused(replace(over_ssh, known_hosts=tmp_path / "changed")),
        "does not let": refused(replace(over_ssh, ssh_key=tmp_path / "other")),
        "no such repository": refused(replace(over_ssh, url=f"{over_ssh.url}.not")),
        "cannot be reached": refused(replace(over_ssh, url="ssh://root@127.0.0.1:1/fleet.git")),
    }
    assert {words: words in text for words, text in said.items()} == dict.fromkeys(said, True), said
    assert (tmp_path / "nobody").read_text() == "", "no host is taken on trust"


# Signatures


def test_only_commits_that_are_signed_by_who_may_are_taken_with_ssh(
    repository: Repository, settings: GitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alice", "mallory"):
        keygen(tmp_path / name)
    (tmp_path / "signers").write_text(f"alice@example.org {(tmp_path / 'alice.pub').read_text()}")
    signed = replace(settings, signers=Signers("ssh", tmp_path / "signers"))

    def by(name: str) -> None:
        for setting in (("gpg.format", "ssh"), ("user.signingKey", str(tmp_path / name))):
            repository.git(repository.work, "config", *setting)

    commit = repository.push(HOSTS)
    revision, there, (error,) = read(signed)
    assert (revision, there) == (commit, set())
    assert f"commit {commit[:12]} is not signed; who may sign it is in {tmp_path}/signers" in error
    by("mallory")
    repository.push({}, "-S")
    assert "has no good signature of anybody in" in read(signed)[2][0]
    assert "SHA256:" in read(signed)[2][0]
    by("alice")
    good = repository.push({}, "-S")
    assert read(signed) == (good, {"Host/alpha"}, [])
    source = GitSource(signed)
    source.read(NOBODY)
    (tmp_path / "signers").write_text("")
    assert source.read(NOBODY).loaded.errors, "who may not any more, counts at once"
    assert "signers" in refused(replace(signed, signers=Signers("ssh", tmp_path / "missing")))
    monkeypatch.setenv("PATH", str(only_git(tmp_path)))
    assert "the program ssh-keygen is not installed here" in refused(signed)


def test_only_commits_that_are_signed_by_who_may_are_taken_with_gpg(
    repository: Repository, settings: GitSettings, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = Path("/tmp") / f"salvus-test-gpg-{os.getpid()}"  # its agent's sockets want a short path
    home.mkdir(mode=0o700)

    def gpg(*words: str) -> str:
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        for name in ("alice", "mallory"):
            gpg("--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never")
        (tmp_path / "keys").write_text(gpg("--export", "--armor", "alice@example.org"))
        signed = replace(settings, signers=Signers("gpg", tmp_path / "keys"))
        repository.push(HOSTS)
        assert "is not signed" in read(signed)[2][0]
        repository.commit({"README.md": "signed by another"})
        for name, good in (("mallory", False), ("alice", True)):
            repository.git(
                repository.work, "commit", "-q", "--amend", "--no-edit", f"-S{name}@example.org", GNUPGHOME=str(home)
            )
            repository.git(repository.work, "push", "-q", "--force", "origin", "HEAD:main")
            assert bool(read(signed)[1]) is good, read(signed)
        (tmp_path / "keys").write_text("nothing")
        assert "no public keys" in refused(signed)
        assert "has no good signature" in read(replace(signed, signers=Signers("ssh", tmp_path / "keys")))[2][0]
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
        shutil.rmtree(home)
