"""``controller run`` as a process, and the other verbs beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import controller.daemon
from controller.daemon import Follow, Manifests
from controller.session import Settings, open_session
from salvusctl.exits import Code
from tests.fast.cli import HOST, SERVICE, SIMULATED, Cli, cli

__all__ = ["cli"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def daemon(cli: Cli) -> Iterator[subprocess.Popen[str]]:
    """A controller that follows the folder ``fleet``, on machines of its own."""
    (cli.folder / "fleet").mkdir()
    (cli.folder / "fleet/host.yaml").write_text(HOST)
    words = ["controller", "run", "--manifests", str(cli.folder / "fleet"), "--http", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-c", SIMULATED, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cli.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        with open_session(Settings(cli.store)) as session:
            deadline = time.monotonic() + 60
            while not session.controller():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_apply_follows_the_controller_and_sigterm_ends_it(cli: Cli, daemon: subprocess.Popen[str]) -> None:
    cli("apply", "-f", cli.write(HOST, SERVICE.replace("content:", "mode: '0600', content:")))
    assert cli.machines.machine("alpha").writes == 0, "the work was done here, not by the controller"
    assert cli("get", "svc", "hello").lines[1].startswith("hello True InSync ")
    cli("apply", "--no-wait", "-f", cli.write(SERVICE.replace("alpha", "nobody"), name="b.yaml"), code=Code.INPUT)
    assert f"pid {daemon.pid} on" in cli("why", "alpha", "-o", "json").data["items"][0]["controller"]
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, err
    assert "Traceback" not in err
    assert cli("why", "alpha", "-o", "json").data["items"][0]["controller"] == ""


def test_a_folder_that_is_not_there(cli: Cli) -> None:
    assert "is not a directory of manifests" in cli("controller", "run", "--manifests", "nowhere", code=Code.INPUT).err


def test_a_port_that_is_taken(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on '{address}'" in cli("controller", "run", "--http", address, code=Code.TROUBLE).err


def test_a_page_that_can_be_nowhere(cli: Cli) -> None:
    err = cli("controller", "run", "--http", "bogus", code=Code.INPUT).err
    assert "--http: cannot listen on 'bogus': it is not HOST:PORT" in err
    assert "write 127.0.0.1:9465, [::1]:9465" in err
    (cli.folder / "salvus.yaml").write_text("contexts: [{name: mine, http: '127.0.0.1:77777'}]")
    err = cli("--config", str(cli.folder / "salvus.yaml"), "controller", "run", code=Code.INPUT).err
    assert "http of context 'mine': cannot listen on '127.0.0.1:77777': 77777 is no port" in err


def test_it_works_with_all_that_the_context_says(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "config.yaml").write_text("contexts: [{name: test, budgets: {maxDeletes: 77}, store: {sqlite: s}}]")
    given: list[tuple[Settings, Follow]] = []

    def run(settings: Settings, manifests: Manifests, **_: object) -> int:
        given.append((settings, manifests()))
        return 0

    monkeypatch.setattr(controller.daemon, "run", run)
    cli("controller", "run", "--resync", "7", "--workers", "3")
    ((settings, follow),) = given
    assert (settings.store, settings.resync, settings.workers) == (cli.folder / "s", 7.0, 3)
    assert follow.budgets.deletes.number == 77
