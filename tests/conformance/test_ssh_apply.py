"""Changes: in order, as one batch, under the machine's fence; what is told when they can't be made."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers.base import Change, Failed, Fenced, Grade, Rejected, Unreachable, Verb
from drivers.items.shell import here
from drivers.ssh.batch import Batch, Script
from drivers.ssh.frames import boundary
from tests.conformance.ssh_world import Text, World, changes, creation, errors, running, until

pytestmark = pytest.mark.conformance


def test_changes_go_in_order_in_one_session(ssh: World) -> None:
    log = ssh.folder / "log"
    done = ssh.driver().apply(changes(*(f"echo {n} >>{log}" for n in range(20))), 1)
    assert errors(done) == [""] * 20
    assert log.read_text().split() == [str(n) for n in range(20)]


def test_the_first_failure_ends_the_batch_and_says_why(ssh: World) -> None:
    never = ssh.folder / "never"
    done = ssh.driver().apply(
        changes("true", "printf 'E: \\033[1mno\\007\\nspace\\n' >&2; exit 7", f"touch {never}"), 1
    )
    assert errors(done) == ["", "Failed: web01: Text:1: E:  [1mno; space"]
    assert not never.exists()


@pytest.mark.parametrize("script", ["false; true", "echo $nothing", "if", "'"])
def test_scripts_are_strict(ssh: World, script: str) -> None:
    [done] = ssh.driver().apply(changes(script), 1)
    assert isinstance(done.error, Failed)


def test_a_failure_without_words_and_one_with_too_many(ssh: World) -> None:
    driver = ssh.driver()
    assert errors(driver.apply(changes("exit 9"), 1)) == ["Failed: web01: Text:0: it ended with status 9"]
    [long] = driver.apply(changes("head -c 1000000 /dev/zero | tr '\\0' e >&2; echo last >&2; exit 1"), 1)
    assert len(str(long.error)) < 1200
    assert str(long.error).endswith("elast")


def test_a_full_disk_is_thought_of_where_only_an_error_is_told(ssh: World) -> None:
    [done] = ssh.driver().apply(changes("echo more >/dev/full"), 1)
    assert isinstance(done.error, Failed)
    assert "df -h" in done.error.hint


def test_content_arrives_byte_by_byte(ssh: World) -> None:
    content = bytes(range(256)) * 2000
    file = ssh.folder / "file"
    assert errors(ssh.driver().apply(changes(f"{{ {here(content)}}} >{file}"), 1)) == [""]
    assert file.read_bytes() == content


def test_megabytes_of_script(ssh: World) -> None:
    content = secrets.token_bytes(3_000_000)
    file = ssh.folder / "file"
    assert errors(ssh.driver().apply(changes(f"{{ {here(content)}}} >{file}"), 1)) == [""]
    assert file.read_bytes() == content


def test_nothing_of_a_script_can_be_seen_in_argv(ssh: World) -> None:
    secret = secrets.token_hex(8)
    seen = ssh.folder / "seen"
    look = f"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >{seen} 2>/dev/null || : {secret}"
    assert errors(ssh.driver().apply(changes(look), 1)) == [""]
    assert secret.encode() not in seen.read_bytes()


def test_a_script_that_can_not_be_written_is_rejected_after_those_before(ssh: World) -> None:
    made, never = ssh.folder / "made", ssh.folder / "never"
    done = ssh.driver().apply(changes(f"touch {made}", "impossible", f"touch {never}"), 1)
    assert [type(one.error) for one in done] == [type(None), Rejected]
    assert (made.exists(), never.exists()) == (True, False)
    done = ssh.driver().apply(changes("false", "impossible"), 1)
    assert [type(one.error) for one in done] == [Failed]


def test_a_long_silent_script_is_no_frozen_machine(ssh: World) -> None:
    assert errors(ssh.driver(command_timeout=2).apply(changes("sleep 5"), 1)) == [""]


def test_a_script_has_a_limit_there(ssh: World) -> None:
    length = f"3{secrets.randbelow(10**9)}"
    [done] = ssh.driver(script_limit=1).apply(changes(f"sleep {length}"), 1)
    assert isinstance(done.error, Failed)
    assert "it took longer than 1 s" in str(done.error)
    until(lambda: not running(length), "the end of the script")


def test_what_a_script_starts_in_the_background_holds_nothing_up(ssh: World) -> None:
    length = f"3{secrets.randbelow(10**9)}"
    driver = ssh.driver()
    try:
        assert errors(driver.apply(changes(f"setsid sleep {length} & :"), 1)) == [""]
        driver.fence(2)
        assert len(running(length)) == 1
    finally:
        for pid in running(length):
            os.kill(pid, signal.SIGKILL)


def test_nothing_is_left_there_after_a_batch(ssh: World) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    driver.apply(changes("true", "echo no >&2; false"), 1)
    driver.close()
    until(lambda: not sshd.sessions(), "no session")
    until(lambda: not list(Path("/run").glob("salvus.*")), "no file")
    assert sorted(path.name for path in (ssh.folder / "state").iterdir()) == ["epoch", "lock", "sessions"]


def test_frozen_in_the_middle_of_a_long_program(ssh: World) -> None:
    """paramiko's writes have no deadline of their own: the socket's buffers fill, and it would wait for ever."""
    sshd = ssh.sshd()
    driver = ssh.driver(sshd, command_timeout=3)
    driver.fence(1)
    sshd.signal_sessions(signal.SIGSTOP)
    [done] = driver.apply(changes(f": {'x' * 20_000_000}"), 1)
    assert isinstance(done.error, Unreachable)
    assert "no answer for 3 s" in str(done.error)


def test_interrupted_batch(ssh: World) -> None:
    """What was seen to end is known; the rest is unknown; nothing more is begun there."""
    sshd = ssh.sshd()
    relay = ssh.relay(sshd)
    driver = ssh.driver(sshd, port=relay.port, command_timeout=4)
    made, begun, go, never = (ssh.folder / name for name in ("made", "begun", "go", "never"))
    waits = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done"
    with ThreadPoolExecutor() as pool:
        job = pool.submit(driver.apply, changes(f"touch {made}", waits, f"touch {never}"), 1)
        until(begun.exists, "the second script at work")
        before = relay.count
        until(lambda: relay.count > before + 300, "signs of life, which come after what was said of the first script")
        os.kill(sshd.sessions()[0], signal.SIGKILL)
        done = job.result()
    assert [type(one.error) for one in done] == [type(None), Unreachable, Unreachable]
    assert made.exists()
    go.touch()
    subprocess.run(["flock", "-w", "20", ssh.folder / "state" / "sessions" / "1", "true"], check=True)
    assert not never.exists()
    assert errors(driver.apply(changes("true"), 1)) == [""], "and it is opened again"


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_batch_that_never_started_is_tried_on_a_new_connection(ssh: World, how: str) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    driver.fence(1)
    if how == "killed":
        sshd.signal_sessions(signal.SIGKILL)
    else:
        sshd.stop()
        sshd.start()
    log = ssh.folder / "log"
    assert errors(driver.apply(changes(f"echo x >>{log}"), 1)) == [""]
    assert log.read_text() == "x\n"


def test_nobody_there(ssh: World) -> None:
    sshd = ssh.sshd()
    sshd.stop()
    driver = ssh.driver(sshd)
    [done] = driver.apply(changes("true", "true"), 1)
    assert isinstance(done.error, Unreachable)
    with pytest.raises(Unreachable):
        driver.fence(1)


def test_a_part_of_a_program_does_nothing(ssh: World) -> None:
    """When the connection is lost while it is sent."""
    made = ssh.folder / "made"
    scripts = [Script(f"touch {made}"), Script("true")]
    batch = Batch(scripts, 1, boundary(), str(ssh.folder / "state"), limit=5, silence=5, now=0, window=30)
    program = batch.program().rstrip("\n")
    for length in range(0, len(program), 29):
        subprocess.run(["sh", "-c", 'eval "$(cat)"'], input=program[:length].encode(), capture_output=True, check=False)
    assert not made.exists()
    assert not (ssh.folder / "state").exists()
    subprocess.run(["sh", "-c", 'eval "$(cat)"'], input=program.encode(), capture_output=True, check=True)
    assert made.exists()


def test_payload_is_streamed(ssh: World) -> None:
    payload = ssh.folder / "payload"
    content = secrets.token_bytes(40_000_000)
    payload.write_bytes(content)
    copy = ssh.folder / "copy"
    last = Text("last", change=f"test -s {copy}")
    first = Text("first", change="true")
    image = Text("image", change=f"cat >{copy}", file=str(payload))
    done = ssh.driver().apply([creation(item) for item in (first, image, last)], 1)
    assert errors(done) == ["", "", ""]
    assert hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_a_script_may_take_its_time_over_its_payload(ssh: World) -> None:
    payload = ssh.folder / "payload"
    payload.write_bytes(bytes(20_000_000))
    slow = creation(Text("image", change="sleep 5; wc -c >&2; exit 1", file=str(payload)))
    [done] = ssh.driver(command_timeout=2).apply([slow], 1)
    assert str(done.error) == "web01: Text:image: 20000000"


def test_a_script_that_refuses_its_payload_says_why(ssh: World) -> None:
    payload = ssh.folder / "payload"
    payload.write_bytes(bytes(20_000_000))
    refuses = creation(Text("image", change="head -c 10 >/dev/null; echo disk full >&2; exit 1", file=str(payload)))
    driver = ssh.driver()
    assert errors(driver.apply([refuses], 2)) == ["Failed: web01: Text:image: disk full"]
    with pytest.raises(Fenced):
        driver.apply([refuses], 1)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_payload_that_can_not_be_read(ssh: World, name: str) -> None:
    path = ssh.folder / name
    never = ssh.folder / "never"
    image = creation(Text("image", change=f"touch {never}", file=str(path)))
    [done] = ssh.driver().apply([image], 1)
    assert isinstance(done.error, Failed)
    assert str(path) in str(done.error)
    assert not never.exists()


def test_a_deletion_needs_no_payload(ssh: World) -> None:
    item = Text("image", change='[ -z "$(cat)" ]', file=str(ssh.folder / "missing"))
    assert errors(ssh.driver().apply([Change(item, Verb.DELETE, (), Grade.LIVE)], 1)) == [""]


def test_frozen_in_the_middle_of_a_payload(ssh: World) -> None:
    sshd = ssh.sshd()
    payload = ssh.folder / "payload"
    payload.write_bytes(bytes(50_000_000))
    begun = ssh.folder / "begun"
    image = creation(Text("image", change=f"touch {begun}; sleep 1; cat >/dev/null", file=str(payload)))
    with ThreadPoolExecutor() as pool:
        job = pool.submit(ssh.driver(sshd, command_timeout=3).apply, [image], 1)
        until(begun.exists, "the script at work")
        sshd.signal_sessions(signal.SIGSTOP)
        [done] = job.result()
    assert isinstance(done.error, Unreachable)
