"""The sample hook, with the real git: good pushes go through, bad ones do not, and say where they are bad."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fast.cli import HOST

pytestmark = pytest.mark.conformance
SAMPLES = Path(__file__).parents[2] / "contrib" / "git"
SALVUSCTL = Path(sys.executable).parent / "salvusctl"
ALONE = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


class Repository:
    """A bare repository with the hook, and a clone of it."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = folder / "it's fleet.git", folder / "work"
        self.home = folder
        self.git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        (self.bare / "hooks" / "pre-receive").write_bytes((SAMPLES / "pre-receive").read_bytes())
        (self.bare / "hooks" / "pre-receive").chmod(0o755)
        self.git(self.bare, "config", "salvus.salvusctl", str(SALVUSCTL))
        self.git(folder, "clone", "-q", str(self.bare), str(self.work))
        self.git(self.work, "checkout", "-q", "-B", "main")

    def git(self, where: Path, *words: str, code: int | None = 0) -> str:
        environment = {**ALONE, "HOME": str(self.home), "TMPDIR": str(self.home)}
        done = subprocess.run(["git", *words], cwd=where, env=environment, capture_output=True, text=True, check=False)
        assert code is None or done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def push(self, text: str, name: str = "manifests/host.yaml", ref: str = "main", code: int = 0) -> str:
        path = self.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.git(self.work, "add", "-A")
        self.git(self.work, "commit", "-q", "-m", "a change")
        return self.git(self.work, "push", "-q", "origin", f"HEAD:{ref}", code=code)

    def head(self) -> str:
        return self.git(self.bare, "rev-parse", "main", code=None).strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize("path", [None, "manifests"])
def test_a_bad_commit_is_refused_with_its_lines_and_the_mend_goes_through(
    repository: Repository, path: str | None
) -> None:
    if path:
        repository.git(repository.bare, "config", "salvus.path", path)
    repository.push(HOST)
    good = repository.head()
    said = repository.push(HOST.replace("address: 192.0.2.1", "adress: 192.0.2.1"), code=1)
    assert "manifests/host.yaml:6:3" in said
    assert "adress" in said
    assert str(repository.home) not in said.replace(str(repository.bare), ""), "as the pusher knows it"
    assert "have errors; nothing was taken over" in said
    assert repository.head() == good
    repository.push(HOST.replace("alpha", "beta"))
    assert repository.head() != good
    assert not list(repository.home.glob("tmp.*")), "nothing is left"


def test_other_branches_are_not_looked_at_and_the_followed_one_is_not_deleted(repository: Repository) -> None:
    repository.push(HOST)
    repository.push("{{{", ref="draft")
    assert "is not deleted" in repository.git(repository.work, "push", "-q", "origin", ":main", code=1)
    assert repository.head()
    repository.git(repository.work, "push", "-q", "origin", ":draft")


def test_a_configuration_in_the_commit_is_not_read_and_links_are_not_followed(repository: Repository) -> None:
    repository.push("contexts: 7\n", "salvus.yaml", code=1)
    repository.git(repository.work, "rm", "-q", "salvus.yaml")
    repository.git(repository.bare, "config", "salvus.path", "manifests")
    assert "there is no manifests in this commit" in repository.push(HOST, "elsewhere.yaml", code=1)
    repository.push(HOST)
    (repository.work / "manifests" / "link.yaml").symlink_to("/etc/passwd")
    said = repository.push(HOST + "\n", code=1)
    assert "symbolic links and submodules are not followed" in said
    assert "root:" not in said


def test_nothing_that_the_controller_reads_is_left_out(repository: Repository) -> None:
    repository.push(HOST)
    repository.push("*.yaml export-ignore\n", "manifests/.gitattributes")
    assert "manifests/bad.yaml:1:" in repository.push("{{{", "manifests/bad.yaml", code=1)
    repository.git(repository.work, "reset", "-q", "--hard", "HEAD~1")
    (repository.work / "manifests" / "sub").mkdir()
    repository.git(repository.work / "manifests" / "sub", "init", "-q")
    repository.git(repository.work / "manifests" / "sub", "commit", "-q", "--allow-empty", "-m", "a change")
    assert "symbolic links and submodules are not followed" in repository.push(HOST + "\n", code=1)


@pytest.mark.parametrize("name", ["github.yaml", "gitlab-ci.yml"])
def test_the_samples_for_ci_validate_the_manifests(name: str) -> None:
    document = yaml.safe_load((SAMPLES / name).read_text())
    jobs = document["jobs"] if name == "github.yaml" else document
    steps = jobs["validate"]["steps"] if name == "github.yaml" else [{"run": jobs["validate"]["script"][-1]}]
    assert steps[-1]["run"] == "salvusctl validate manifests"
