"""Probes over a kept shell: what comes back is what was printed, and little when nothing changed."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivers.base import Observation
from drivers.items.system import System
from tests.conformance.ssh_world import Asked, Other, Text, World, reason, running, said, until
from tests.conformance.sshd import children

pytestmark = pytest.mark.conformance


def test_machine_tells_of_itself(ssh: World) -> None:
    seen = ssh.driver().observe([System()])
    state = seen[System().key].state
    assert state.facts["kernel"]  # type: ignore[union-attr]
    assert seen[System().key].source == "shell"


@pytest.mark.parametrize(
    "text",
    ["\n", "\n\n\nx\n\n", "- -e \\n \\0 %s $HOME `id` 'q' \"", "é\u2028\U0001f600", "\x01\x04\x1b[31m\x7f\r"],
)
def test_what_is_printed_comes_back_byte_by_byte(ssh: World, text: str) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    item = Text("x", f"printf '{octal}'")
    assert said(ssh.driver().observe([item]), item) == text


def test_script_may_have_any_character(ssh: World) -> None:
    text = "'\"$`\\é\u2028\x81\x85\x01\x7f"
    item = Text("x", f"cat <<'END'\n{text}\nEND")
    assert said(ssh.driver().observe([item]), item) == text + "\n"


def test_bytes_that_are_no_text_are_told_from_text(ssh: World) -> None:
    item = Text("x", r"printf 'a\377b'")
    assert said(ssh.driver().observe([item]), item) == r"a\xffb"


def test_megabytes(ssh: World) -> None:
    driver = ssh.driver()
    item = Text("x", "head -c 1500000 /dev/zero | tr '\\0' x; echo; date +%N")
    first, second = (said(driver.observe([item]), item) for _ in range(2))
    assert first.startswith("x" * 1500000 + "\n")
    assert first != second


def test_output_cannot_pass_for_a_frame(ssh: World) -> None:
    """Not even the output of something that looks for the boundary where a process may look."""
    hostile = r"""
        cat /proc/self/environ; tr '\0' '\n' </proc/$PPID/cmdline
        for mark in $(cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null |
        tr -c '0-9a-f' '\n' | grep -xE '.{32}'); do
        printf '\n%s section 1 0\nforged\n%s .\n' $mark $mark; printf '\n%s same\n\n%s .\n' $mark $mark; done
        printf '\nsection 1 0\nforged\n .\n'"""
    items = [Text("x", hostile), Other("y", "echo honest")]
    assert said(ssh.driver().observe(items), items[1]) == "honest\n"


def test_a_failing_probe_makes_only_its_items_unknown(ssh: World) -> None:
    bad = Text("x", "cd /tmp; printf '\\033[31mno such\\nthing\\n' >&2; exit 3")
    good = Other("y", "pwd")
    seen = ssh.driver().observe([bad, good])
    assert reason(seen, bad) == "it said nothing: [31mno such; thing"
    assert said(seen, good) == "/\n"


def test_an_answer_that_makes_no_sense_is_unknown(ssh: World) -> None:
    items = [Text("x", "echo nonsense"), Other("y", "echo fine")]
    seen = ssh.driver().observe(items)
    assert reason(seen, items[0]) == "the answer could not be read: nonsense"
    assert said(seen, items[1]) == "fine\n"


def test_noise_on_stderr_is_bounded_and_does_no_harm(ssh: World) -> None:
    item = Text("x", "head -c 3000000 /dev/zero | tr '\\0' e >&2; echo fine")
    assert said(ssh.driver().observe([item]), item) == "fine\n"


def test_probes_can_not_read_what_is_not_theirs(ssh: World) -> None:
    item = Text("x", "cat; echo end")
    assert said(ssh.driver().observe([item]), item) == "end\n"


def test_nothing_new_costs_nothing_on_the_wire(ssh: World) -> None:
    relay = ssh.relay(ssh.shared)
    driver = ssh.driver(port=relay.port)
    value = ssh.folder / "value"
    value.write_text("one")
    item = Text("x", f"head -c 100000 /dev/urandom >/dev/null; cat {value}; head -c 100000 /dev/zero | tr '\\0' x")
    first = driver.observe([item])
    before = relay.count
    second = driver.observe([item])
    assert relay.count - before < 300
    assert second[item.key].state == first[item.key].state
    assert second[item.key].at > first[item.key].at
    value.write_text("two")
    assert said(driver.observe([item]), item).startswith("two")


def test_a_question_holds_up_nobody_who_looks_at_items_and_has_nothing_sent_again(ssh: World) -> None:
    relay = ssh.relay(ssh.shared)
    driver = ssh.driver(port=relay.port)
    item = Text("x", f": {'x' * 10000}; echo fine")
    driver.observe([item])
    began, go = ssh.folder / "began", ssh.folder / "go"
    question = Asked("q", f"touch {began}; until [ -e {go} ]; do sleep 0.05; done; echo there")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(driver.observe, [question])
        try:
            until(began.exists, "the question")
            assert said(driver.observe([item]), item) == "fine\n"
            assert not answer.done()
        finally:
            go.touch()
        assert said(answer.result(), question) == "there\n"
    before = relay.count
    assert said(driver.observe([item]), item) == "fine\n"
    assert relay.count - before < 300


def test_other_items_are_other_questions(ssh: World) -> None:
    driver = ssh.driver()
    one, two = Text("1", "echo one"), Text("2", "echo two")
    assert said(driver.observe([one]), one) == "one\n"
    assert said(driver.observe([one, two]), two) == "one\ntwo\n"
    assert said(driver.observe([one]), one) == "one\n"
    assert driver.observe([]) == ssh.driver().observe([]) == {}


def test_a_probe_that_hangs_is_ended_there_and_the_others_are_known(ssh: World) -> None:
    length = f"3{secrets.randbelow(10**9)}"
    first, hangs, after = Text("1", "echo first"), Other("2", f"sleep {length}"), System()
    seen = ssh.driver(command_timeout=8).observe([first, hangs, after])
    assert said(seen, first) == "first\n"
    assert reason(seen, hangs) == "the machine took too long to answer"
    assert reason(seen, after) == "the machine took too long to answer"
    until(lambda: not running(length), "the end of the probe")


def test_frozen_machine_costs_its_deadline_and_nobody_else_waits(ssh: World) -> None:
    sshd = ssh.sshd()
    driver, other = ssh.driver(sshd, command_timeout=3, connect_timeout=5), ssh.driver()
    item = Text("x", "echo fine")
    assert said(driver.observe([item]), item) == "fine\n"
    sshd.signal_sessions(signal.SIGSTOP)
    answers: list[Mapping[str, Observation]] = []
    thread = threading.Thread(target=lambda: answers.append(driver.observe([item])))
    thread.start()
    assert said(other.observe([item]), item) == "fine\n"
    thread.join()
    assert "no answer for 3 s" in reason(answers[0], item)
    assert said(driver.observe([item]), item) == "fine\n", "a new connection, as only the old one's process is frozen"


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_dead_connection_is_opened_once_more(ssh: World, how: str) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    item = Text("x", "echo fine")
    driver.observe([item])
    if how == "killed":
        sshd.signal_sessions(signal.SIGKILL)
    else:
        sshd.stop()
        sshd.start()
    assert said(driver.observe([item]), item) == "fine\n"


def test_a_probe_that_loses_its_connection_is_asked_again_once(ssh: World) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    driver.observe([System()])
    count = ssh.folder / "count"
    kill = f"echo x >>{count}; [ $(wc -l <{count}) -gt 1 ] || {{ kill -9 {sshd.sessions()[0]}; sleep 1; }}; echo fine"
    item = Text("x", kill)
    assert said(driver.observe([item]), item) == "fine\n"


def test_a_kept_shell_that_died_is_started_again(ssh: World) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    item = Text("x", "echo fine")
    driver.observe([item])
    [shell] = children(sshd.sessions()[0])
    os.kill(shell, signal.SIGKILL)
    assert said(driver.observe([item]), item) == "fine\n"


def test_two_threads_share_one_connection(ssh: World) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    items = [Text(str(n), f"echo {n}") for n in range(8)]
    wrong: list[str] = []

    def ask(item: Text) -> None:
        answers = (said(driver.observe([item]), item) for _ in range(5))
        wrong.extend(answer for answer in answers if answer != f"{item.label}\n")

    threads = [threading.Thread(target=ask, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(sshd.sessions()) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_close_ends_a_call_and_leaves_nothing_there(ssh: World, kept: bool) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd, command_timeout=5)
    if kept:
        driver.observe([System()])
    length = f"3{secrets.randbelow(10**9)}"
    item = Text("x", f"sleep {length}")
    answers: list[Mapping[str, Observation]] = []
    thread = threading.Thread(target=lambda: answers.append(driver.observe([item])))
    thread.start()
    until(lambda: running(length), "the probe at work")
    driver.close()
    thread.join()
    assert "the connection ended" in reason(answers[0], item)
    until(lambda: not sshd.sessions() and not running(length), "nothing left there")
    fine = Text("y", "echo fine")
    assert said(driver.observe([fine]), fine) == "fine\n", "it can be used again"
