"""Cassandra's own jars, brought by Maven into the cache, and the Java that runs them."""

import hashlib
import shutil
from pathlib import Path

from lab import build, machine
from lab.progress import Progress
from lab.run import run

_POM = Path(__file__).parent / "pom.xml"
_PROGRAMS = {"java": "openjdk-17-jre-headless", "mvn": "maven"}


def jars(progress: Progress) -> Path:
    """The folder with the jars, from the cache or fetched now. Installs Java and Maven where they are missing.

    Raises LabError.
    """
    if packages := machine.missing_packages(_PROGRAMS):
        progress(f"installing {', '.join(packages)}")
        machine.install(packages)
    folder = build.cache_dir() / f"cassandra-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with build.locked(folder.parent / "cassandra.lock"):
        if not folder.is_dir():
            progress("fetching Cassandra, half a minute; kept for the next time")
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    """Beside the place, then renamed into it; what an interrupted fetch left goes first."""
    work = folder.with_name("cassandra.building")
    if work.exists():
        shutil.rmtree(work)
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    run(["mvn", "-q", "-B", "-f", str(_POM), goal, f"-DoutputDirectory={work}"], timeout=900)
    work.rename(folder)
