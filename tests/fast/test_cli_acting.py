"""apply, diff and delete on simulated machines: what they print, do and end with."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from controller.difference import MachineDiff
from controller.knowledge import Knowledge
from controller.plan import Held, Plan
from controller.session import Session, Settings, open_session
from controller.store.source_records import Disturbed, Hold, SourceState
from drivers.base import Change, Drift, Failed, Grade, Rejected, Verb
from resources.load import load
from salvusctl import follow, plans
from salvusctl.exits import Code
from salvusctl.plan_outputs import Diff
from tests.fast.cli import HOST, IMAGE, OTHER, SERVICE, SIMULATED, Cli, cli
from tests.fast.things import Thing

__all__ = ["cli"]
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec: {image: debian12, rootDisk: {size: 2Gi}, runStrategy: Halted, interfaces: [{name: eth0, address: 192.0.2.100/24}]}
"""
CONF = "File:/etc/hello.conf"
ROOT = Path(__file__).parents[2]
# Seconds of silence after which a reply is typed again.
AGAIN = 10.0


def test_apply_brings_about_what_is_written(cli: Cli) -> None:
    answer = cli("apply", "-f", cli.write(HOST, SERVICE))
    assert answer.out == "Host/alpha created\nService/hello created\n"
    assert answer.err.splitlines()[-1] == "2 resources Ready"
    assert CONF in cli.machines.machine("alpha").items


def test_progress_in_a_pipe_says_each_turn_once(cli: Cli) -> None:
    lines = cli("apply", "-f", cli.write(HOST, SERVICE)).err.splitlines()
    assert len(lines) == len(set(lines))
    assert "Service/hello: Ready" in lines


def test_apply_again_changes_nothing_and_still_looks(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE)
    cli("apply", "-f", path)
    alpha = cli.machines.machine("alpha")
    writes, trips = alpha.writes, alpha.round_trips
    assert cli("apply", "-f", path).out == "Host/alpha unchanged\nService/hello unchanged\n"
    assert alpha.writes == writes
    assert alpha.round_trips > trips


def test_apply_without_a_controller_mends_what_the_store_calls_ready(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE)
    cli("apply", "-f", path)
    cli.machines.machine("alpha").remove(CONF)
    assert f"alpha: create {CONF}" in cli("apply", "-f", path).err.splitlines()
    assert CONF in cli.machines.machine("alpha").items


def test_no_wait_only_writes(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST, SERVICE))
    assert cli.machines.machine("alpha").round_trips == 0
    assert cli("get", "all", "-o", "name").out == "Host/alpha\nService/hello\n"


def test_an_error_stores_nothing(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE.replace("alpha", "gamma"))
    for code in (Code.TROUBLE, Code.OK):
        err = cli("apply", "-f", path, code=Code.INPUT).err
        assert f"error: {path}:" in err
        assert "there is no Host or VirtualMachine named 'gamma'" in err
        assert err.endswith("error: 1 error in the manifests; nothing was changed\n")
        assert cli("get", "all", "-o", "name", code=code).out == "", "and at first, no store is made"
        with open_session(Settings(cli.store)):
            pass


def test_manifests_may_refer_to_the_store(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    assert cli("apply", "--no-wait", "-f", cli.write(SERVICE)).out == "Service/hello created\n"


def test_an_empty_folder_is_an_error(cli: Cli) -> None:
    (cli.folder / "empty").mkdir()
    assert "there are no manifests in" in cli("apply", "-f", str(cli.folder / "empty"), code=Code.INPUT).err
    for words in (["apply", "-f"], ["validate"]):
        assert "there are no manifests in standard input" in cli(*words, "-", code=Code.INPUT, stdin="").err
    assert not cli.store.exists()


def test_what_cannot_work_ends_at_once_with_the_command_that_helps(cli: Cli) -> None:
    cli.machines.machine("alpha").faults.refuses[CONF] = Rejected("is a directory")
    err = cli("apply", "-f", cli.write(HOST, SERVICE), "--timeout", "300", code=Code.DIFFERENT).err
    assert "error: Service/hello is not Ready: Stalled: File:/etc/hello.conf: is a directory" in err
    assert "hint: salvusctl why Service/hello" in err
    assert "the time to wait is over" not in err


def test_what_waits_for_what_cannot_work_is_not_waited_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "QUIET", 0.5)
    waiting = SERVICE.replace("name: hello", "name: later").replace("alpha", "beta")
    tunnelled = OTHER.replace("ssh: {", "ssh: {via: web01, ")
    path = cli.write(HOST.replace("  ssh:", "  hypervisor: {}\n  ssh:"), IMAGE, VM, tunnelled, waiting)
    err = cli("apply", "-f", path, "--timeout", "60", code=Code.DIFFERENT).err
    assert "error: Service/later is not Ready: NoWay: " in err
    assert "the time to wait is over" not in err


def test_a_slow_machine_that_is_worked_on_is_waited_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "QUIET", 0.2)
    cli.machines.machine("alpha").faults.latency = 0.5
    later = SERVICE.replace("name: hello", "name: later").replace(CONF.partition(":")[2], "/etc/later.conf")
    path = cli.write(HOST, SERVICE, later + "  needs: [{service: hello}]\n")
    assert "Service/later: Ready" in cli("apply", "-f", path, "--timeout", "60").err


def test_what_was_stalled_is_tried_again(cli: Cli) -> None:
    path, faults = cli.write(HOST, SERVICE), cli.machines.machine("alpha").faults
    faults.refuses[CONF] = Rejected("is a directory")
    cli("apply", "-f", path, code=Code.DIFFERENT)
    faults.refuses.clear()
    cli("apply", "-f", path)


def test_timeout_says_what_is_left(cli: Cli) -> None:
    cli.machines.machine("alpha").faults.refuses[CONF] = Failed("disk full")
    err = cli("apply", "-f", cli.write(HOST, SERVICE), "--timeout", "0.6", code=Code.DIFFERENT).err
    assert "error: Service/hello is not Ready: Failed: File:/etc/hello.conf: disk full" in err
    assert "the time to wait is over (--timeout 0.6); what was written stays in force" in err


def test_a_machine_that_is_not_reached_keeps_no_other_waiting(cli: Cli) -> None:
    cli.machines.machine("beta").faults.unreachable = True
    err = cli("apply", "-f", cli.write(HOST, OTHER, SERVICE), "--timeout", "0.6", code=Code.DIFFERENT).err
    assert "Service/hello: Ready" in err.splitlines()
    assert "error: Host/beta is not Ready: Unreachable: beta cannot be asked: connection refused" in err


def test_apply_says_when_a_sync_will_take_it_back(cli: Cli) -> None:
    loaded = load([Path(cli.write(HOST))])
    with open_session(Settings(cli.store)) as session:
        session.put(loaded, "directory:/srv/fleet")
    err = cli("apply", "--no-wait", "-f", cli.write(HOST.replace("192.0.2.1", "192.0.2.9"))).err
    assert "warning: Host/alpha came from /srv/fleet: the next sync takes this back; change it there" in err


def test_delete_says_when_a_sync_will_take_it_back_and_not_when_it_waits_for_this(cli: Cli) -> None:
    loaded = load([Path(cli.write(HOST, OTHER))])
    with open_session(Settings(cli.store)) as session:
        session.put(loaded, "directory:/srv/fleet")
        gone = Hold("directory:/srv/fleet", "1", "deletions", (Disturbed("Host/beta"),), 2)
        session.report(SourceState("directory:/srv/fleet", "1", 0.0, (), (gone,)), "")
    said = cli("delete", "host", "alpha", "beta", "--yes", "--no-wait").err
    assert "warning: Host/alpha came from /srv/fleet: the next sync takes this back; change it there" in said
    assert "beta came from" not in said, "it is gone there, and was held back until somebody says so"


def test_apply_follows_a_controller_that_is_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "controller", lambda self: "pid 1 on elsewhere")
    path = cli.write(HOST, SERVICE)
    cli("apply", "-f", path)
    trips = cli.machines.machine("alpha").round_trips
    assert cli("apply", "-f", path).err.splitlines()[-1] == "2 resources Ready"
    assert cli.machines.machine("alpha").round_trips - trips <= 2


def test_diff_before_the_first_apply_makes_no_store(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE)
    for words in (["diff"], ["apply", "--dry-run"]):
        answer = cli(*words, "-f", path, code=Code.DIFFERENT)
        assert answer.err.startswith(f"the store {cli.store} does not exist yet: compared with an empty one")
        assert answer.err.count("\n") == 1
        assert "+ Service/hello would be created" in answer.lines
        assert f"+ {CONF} create live Service/hello" in answer.lines
    assert not list(cli.folder.glob("store.db*"))


def test_diff_leaves_the_store_as_it_is(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    before = cli.store.read_bytes()
    cli("diff", "-f", cli.write(HOST, SERVICE), code=Code.DIFFERENT)
    assert cli.store.read_bytes() == before


def test_diff_of_nothing(cli: Cli) -> None:
    with open_session(Settings(cli.store)):
        pass
    assert cli("diff").out == "Plan: 0 to create, 0 to update, 0 to delete.\n"


def test_diff_is_what_apply_does_and_does_nothing(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE)
    found = Diff.model_validate_json(cli("diff", "-f", path, "-o", "json", code=Code.DIFFERENT).out)
    alpha = cli.machines.machine("alpha")
    assert alpha.writes == 0
    assert not cli.store.exists()
    assert [(r.resource, r.verb) for r in found.resources] == [("Host/alpha", "created"), ("Service/hello", "created")]
    cli("apply", "-f", path)
    assert [made.key for made in alpha.log] == [change.item for change in found.machines[0].changes]
    assert cli("diff", "-f", path).out == "Plan: 0 to create, 0 to update, 0 to delete.\n"


def test_dry_run_is_diff(cli: Cli) -> None:
    path = cli.write(HOST, SERVICE)
    assert cli("apply", "--dry-run", "-f", path, code=Code.DIFFERENT) == cli("diff", "-f", path, code=Code.DIFFERENT)
    assert not cli.store.exists()
    assert "--dry-run only" in cli("apply", "-f", path, "-o", "json", code=Code.INPUT).err


def test_diff_field_by_field(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, SERVICE))
    cli.machines.machine("alpha").alter(CONF, mode="0666", owner="\x1b[31mevil")
    out = cli("diff", code=Code.DIFFERENT).out
    assert out == textwrap.dedent(
        """\
        alpha
          ~ File:/etc/hello.conf   update   live   Service/hello
              mode: 0666 → 0644
              owner: "\\u001b[31mevil" → root
        Plan: 0 to create, 1 to update, 0 to delete.
        """
    )


def test_diff_of_what_would_go(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, SERVICE))
    cli("delete", "svc", "hello", "--yes", "--no-wait")
    out = cli("diff", code=Code.DIFFERENT).out
    assert "  - File:/etc/hello.conf   delete   live   Service/hello\n" in out
    assert out.endswith("0 to update, 1 to delete.\n")


def test_diff_says_which_machines_are_not_reached(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, OTHER))
    cli.machines.machine("beta").faults.unreachable = True
    out = cli("diff", code=Code.DIFFERENT).out
    assert out.splitlines() == [
        "beta cannot be asked: connection refused",
        "Plan: 0 to create, 0 to update, 0 to delete; 1 machine not reached.",
    ]


class Secretive(Thing):
    """A Thing whose value is a secret."""

    secret_fields = frozenset({"value"})


def shown(capsys: pytest.CaptureFixture[str], plan: Plan) -> tuple[str, Diff]:
    found = plans.as_output([MachineDiff("m", plan)], Knowledge(), None)
    plans.print_diff(found)
    return capsys.readouterr().out, found


def test_secrets_are_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(Secretive("k"), Verb.UPDATE, (Drift("value", "new-secret", "old-secret"),), Grade.RELOAD)
    out, found = shown(capsys, Plan("m", (change,)))
    assert "value: *** → ***" in out
    assert "-secret" not in out + found.model_dump_json()


def test_several_lines_do_not_break_the_layout(capsys: pytest.CaptureFixture[str]) -> None:
    drift = Drift("value", "one\ntwo\x1b[2J\nthree\n", "one\nTWO\nthree\n")
    out, _ = shown(
        capsys, Plan("m", (Change(Thing("t"), Verb.UPDATE, (drift,), Grade.LIVE),), owners={"Thing:t": "S/s"})
    )
    assert out.splitlines()[1:-1] == [
        "  ~ Thing:t   update   live   S/s",
        "      value:",
        "         one",
        "        -TWO",
        "        +two\\x1b[2J",
        "         three",
    ]


def test_held_and_unknown_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(Thing("t"), Verb.UPDATE, (Drift("value", "b", "a"),), Grade.DATA_LOSS)
    held = Held(change, "S/s", "HeldByCeiling", "would lose data; salvus never does that by itself")
    out, found = shown(capsys, Plan("m", (), (held,), {"Thing:u": "time-out"}))
    assert "      held: HeldByCeiling: would lose data; salvus never does that by itself\n" in out
    assert "  ? Thing:u is not known: time-out\n" in out
    assert out.endswith("0 to delete; 1 held; 1 item not known.\n")
    assert found.machines[0].held[0].change.grade == "data-loss"


def test_delete_waits_until_it_is_gone(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, SERVICE))
    answer = cli("delete", "svc", "hello", "--yes")
    assert answer.out == "Service/hello is being deleted\n"
    assert answer.err.splitlines()[-1] == "Service/hello: gone"
    assert CONF not in cli.machines.machine("alpha").items
    assert cli("get", "all", "-o", "name").out == "Host/alpha\n"


def test_delete_by_file(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST, IMAGE))
    cli("delete", "--yes", "-f", cli.write(IMAGE))
    assert cli("get", "all", "-o", "name").out == "Host/alpha\n"


def test_delete_that_cannot_be_ended_says_why(cli: Cli) -> None:
    cli("apply", "-f", cli.write(HOST, SERVICE))
    cli.machines.machine("alpha").faults.unreachable = True
    err = cli("delete", "service/hello", "--yes", "--timeout", "0.6", code=Code.DIFFERENT).err
    assert "error: Service/hello is not gone: Deleting: " in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], Code.INPUT, "delete what?"),
        (["hosts"], Code.INPUT, "delete which of hosts?"),
        (["all"], Code.INPUT, "delete which of all?"),
        (["host", "gamma"], Code.DIFFERENT, "there is no Host 'gamma'"),
        (["host", "alpha"], Code.INPUT, "nobody can be asked here"),
    ],
)
def test_delete_refuses(cli: Cli, words: list[str], code: Code, said: str) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    assert said in cli("delete", *words, code=code).err
    assert cli("get", "all", "-o", "name").out == "Host/alpha\n"


def _as_a_login() -> None:
    """In the child: the terminal is its own, and Ctrl-C means what it does, also where tests run in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_terminal(words: list[str], reply: tuple[bytes, bytes] | None = None, **environment: str) -> tuple[str, int]:
    """Runs salvusctl on a terminal of its own; once the first of ``reply`` is read, the second is typed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SIMULATED, *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        cwd=ROOT,
        preexec_fn=_as_a_login,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", **environment},
    )
    os.close(slave)
    said = b""
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready, _, _ = select.select([master], [], [], AGAIN)
            if not ready:
                if reply is not None and reply[0] in said:
                    # A Ctrl-C just before Python begins to read a line is lost; a second one, while it ends, kills it.
                    os.write(master, reply[1])
                continue
            try:
                chunk = os.read(master, 65536)
            except OSError:  # EIO: the other end was closed
                break
            if reply is not None and reply[0] not in said and reply[0] in said + chunk:
                os.write(master, reply[1])
            said += chunk
        return said.decode(), process.wait(timeout=10)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_live_progress_on_a_terminal(cli: Cli) -> None:
    said, code = on_terminal(["apply", "-f", cli.write(HOST, SERVICE)])
    assert code == 0
    assert "\x1b[32mReady\x1b[0m" in said
    assert "2 of 2 Ready" in said
    assert said.endswith("2 resources Ready\r\n")


def test_no_color_is_honoured(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    assert "\x1b[33mUnknown\x1b[0m" in on_terminal(["get", "hosts"])[0]
    said, _ = on_terminal(["get", "hosts"], NO_COLOR="1")
    assert "Unknown" in said
    assert "\x1b[33m" not in said


def test_ctrl_c_ends_at_a_safe_point(cli: Cli) -> None:
    said, code = on_terminal(["apply", "-f", cli.write(OTHER)], (b"Unreachable", b"\x03"))
    assert code == Code.INTERRUPTED
    assert "stopping at the next safe point; what was written stays in force" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", Code.DIFFERENT), (b"\x03", Code.INTERRUPTED)])
def test_delete_asks_on_a_terminal(cli: Cli, answer: bytes, code: int) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    said, ended = on_terminal(["delete", "host", "alpha", "--no-wait"], (b"Delete 1 resource? [y/N]:", answer))
    assert ended == code
    assert ("being deleted" in said) == (code == 0)
    assert "Traceback" not in said
