"""pause, resume and stop-the-world as a user meets them, on simulated machines."""

from __future__ import annotations

import re
import time

import pytest

from controller.session import Settings, open_session
from controller.store.records import Pause
from salvusctl.exits import Code
from tests.fast.cli import HOST, OTHER, SERVICE, Answer, Cli, cli
from tests.fast.test_cli_app import python

__all__ = ["cli"]
CONF = "File:/etc/hello.conf"
CHANGED = SERVICE.replace("hello\\n", "changed\\n")
WHY = ("--reason", "disk swap")


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    cli("apply", "-f", cli.write(HOST, OTHER, SERVICE))
    return cli


def listed(cli: Cli) -> list[str]:
    return [one["what"] for one in cli("pause", "--list", "-o", "json").data["items"]]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["alpha"], ["machine/alpha"]),
        (["Host/alpha"], ["machine/alpha"]),
        (["host", "alpha", "beta"], ["machine/alpha", "machine/beta"]),
        (["svc/hello"], ["Service/hello"]),
        (["hello"], ["Service/hello"]),
        (["--all"], ["all"]),
    ],
)
def test_what_words_pause_and_resume(fleet: Cli, words: list[str], what: list[str]) -> None:
    fleet("pause", *words, *WHY)
    assert listed(fleet) == what
    fleet("resume", *words)
    assert listed(fleet) == []


def test_apply_of_what_is_paused_stores_it_and_ends_at_once(fleet: Cli) -> None:
    fleet("pause", "alpha", *WHY)
    began = fleet.machines.machine("alpha").writes
    answer = fleet("apply", "-f", fleet.write(CHANGED), code=Code.DIFFERENT)
    assert answer.out == "Service/hello configured\n"
    assert "Service/hello is not Ready: Paused: paused until" in answer.err
    assert "disk swap; to go on before: salvusctl resume alpha" in answer.err
    assert fleet.machines.machine("alpha").writes == began
    fleet("resume", "alpha")
    fleet("apply", "-f", fleet.write(CHANGED))
    assert fleet.machines.machine("alpha").writes == began + 1


def test_delete_of_what_is_paused_ends_and_says_so(fleet: Cli) -> None:
    fleet("pause", "hello", *WHY)
    err = fleet("delete", "service", "hello", "--yes", code=Code.DIFFERENT).err
    assert "Service/hello is not gone: Paused" in err
    assert CONF in fleet.machines.machine("alpha").items


def test_everybody_who_looks_sees_it(fleet: Cli) -> None:
    fleet("pause", "alpha", "--for", "2h", *WHY)
    assert [line.split()[:3] for line in fleet("get", "hosts").out.splitlines()[1:]] == [
        ["alpha", "True", "InSync,"],
        ["beta", "True", "InSync"],
    ]
    (alpha, _) = fleet("get", "hosts", "-o", "json").data["items"]
    (paused,) = alpha["status"]["paused"]
    assert (paused["what"], paused["reason"]) == ("machine/alpha", "disk swap")
    assert re.search(r"Paused: +paused until .*disk swap", fleet("describe", "hello").out)
    why = fleet("why", "hello").out
    assert re.search(r"held +paused until .*disk swap; to go on before: salvusctl resume alpha", why)
    assert "Paused" in fleet("events", "alpha").out


def test_diff_shows_what_is_held(fleet: Cli) -> None:
    fleet("pause", "--all", *WHY)
    answer = fleet("diff", "-f", fleet.write(CHANGED), code=Code.DIFFERENT)
    assert "held: Paused: everything is paused until" in answer.out
    assert "1 held" in answer.out
    assert "warning: everything is paused until" in answer.err


def test_why_names_the_command_that_helps(fleet: Cli) -> None:
    fleet("pause", "alpha", *WHY)
    fleet("apply", "-f", fleet.write(CHANGED), code=Code.DIFFERENT)
    (reason,) = fleet("why", "hello", "-o", "json").data["items"]
    assert reason["ready"]["reason"] == "Paused"
    assert "salvusctl resume alpha" in reason["help"]
    assert reason["paused"][0]["what"] == "machine/alpha"


def test_the_list_says_who_since_when_until_when_and_why(fleet: Cli) -> None:
    assert "nothing is paused" in fleet("pause", "--list").err
    fleet("pause", "alpha", "--for", "2h", *WHY)
    head, row = fleet("pause", "--list").lines
    assert head == "PAUSED BY SINCE ENDS REASON"
    assert re.fullmatch(r"alpha \S+@\S+ \d+s ago 20\S+Z disk swap", row)
    (one,) = fleet("pause", "--list", "-o", "json").data["items"]
    span = [time.mktime(time.strptime(one[word], "%Y-%m-%dT%H:%M:%SZ")) for word in ("since", "until")]
    assert span[1] - span[0] == 2 * 3600


def test_an_end_that_has_come_is_the_end_for_every_command(fleet: Cli) -> None:
    now = time.time()
    with open_session(Settings(fleet.store)) as session:
        session.pause(Pause("machine/alpha", "ann@desk", "disk swap", now - 7200, now - 1), "Host/alpha")
    assert listed(fleet) == []
    assert "paused" not in fleet("get", "hosts").out
    assert "alpha is not paused" in fleet("resume", "alpha").err
    fleet("apply", "-f", fleet.write(CHANGED))


def test_nobody_shortens_what_somebody_relies_on(fleet: Cli) -> None:
    fleet("pause", "alpha", "--for", "2h", *WHY)
    err = fleet("pause", "beta", "alpha", "--reason", "mine", code=Code.INPUT).err
    assert "there is no kind 'beta'" in err
    err = fleet("pause", "host", "beta", "alpha", "--reason", "mine", code=Code.INPUT).err
    assert "alpha is already paused until" in err
    assert "salvusctl resume alpha" in err
    assert listed(fleet) == ["machine/alpha"], "all of it, or nothing"
    fleet("pause", "alpha", "--for", "3h", "--reason", "longer")
    assert [one["reason"] for one in fleet("pause", "--list", "-o", "json").data["items"]] == ["longer"]


def test_resume_of_all_leaves_what_was_paused_by_name_and_says_so(fleet: Cli) -> None:
    fleet("pause", "--all", *WHY)
    fleet("pause", "alpha", *WHY)
    assert "but everything is paused until" in fleet("resume", "alpha").err
    fleet("pause", "alpha", *WHY)
    answer = fleet("resume", "--all")
    assert answer.out == "everything is not paused any more\n"
    assert "alpha stays paused until" in answer.err
    assert listed(fleet) == ["machine/alpha"]


def test_what_left_the_manifests_can_be_resumed(fleet: Cli) -> None:
    now = time.time()
    with open_session(Settings(fleet.store)) as session:
        for what in ("machine/old", "Service/old"):
            session.pause(Pause(what, "ann@desk", "disk swap", now, now + 3600), "")
    fleet("resume", "old")
    assert listed(fleet) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what?"),
        (["alpha", "--all"], "which of the two?"),
        (["hosts"], "which of hosts?"),
        (["all"], "which of all?"),
        (["alpha", "--for", "3 days"], "did you mean '3d'"),
        (["alpha", "--for", "200h"], "from 1s to 7d"),
        (["alpha", "--for", "0s"], "from 1s to 7d"),
        (["alpha", "-o", "json"], "with --list only"),
        (["alpha", "--list"], "shows all that is paused"),
    ],
)
def test_what_cannot_be_paused(fleet: Cli, words: list[str], said: str) -> None:
    assert said in fleet("pause", *words, *WHY, code=Code.INPUT).err
    assert listed(fleet) == []


def test_a_reason_is_wanted_and_a_name_must_be_there(fleet: Cli) -> None:
    for words in (("pause", "alpha"), ("pause", "alpha", "--reason", " "), ("stop-the-world",)):
        assert "say --reason" in fleet(*words, code=Code.INPUT).err
    assert "there is nothing named 'alpa'; did you mean 'alpha'?" in fleet("pause", "alpa", *WHY, code=1).err
    assert listed(fleet) == []


def test_no_store_is_made_to_pause_something(cli: Cli) -> None:
    cli("pause", "--all", *WHY, code=Code.TROUBLE)
    assert not cli.store.exists()


def warned(answer: Answer) -> bool:
    return answer.err.splitlines()[-1].startswith("warning: the world is stopped since")


def test_while_the_world_is_stopped_every_command_says_so_and_nothing_is_written(fleet: Cli) -> None:
    assert warned(fleet("stop-the-world", "--reason", "guests vanish"))
    alpha = fleet.machines.machine("alpha")
    writes = alpha.writes
    answer = fleet("apply", "-f", fleet.write(CHANGED), code=Code.DIFFERENT)
    assert "what was written stays in force, and nothing is done about it until the end" in answer.err
    assert warned(answer)
    for words in (("get", "all"), ("describe", "hello"), ("why", "hello"), ("events",), ("pause", "--list")):
        assert warned(fleet(*words)), words
    assert warned(fleet("diff", code=Code.DIFFERENT))
    assert warned(fleet("delete", "service", "hello", "--yes", code=Code.DIFFERENT))
    assert alpha.writes == writes
    assert "salvusctl stop-the-world --end" in fleet("why", "hello").out
    fleet("stop-the-world", "--end")
    assert CONF in alpha.items
    fleet("apply", "-f", fleet.write(HOST, OTHER, CHANGED))
    assert not fleet("get", "all").err
    assert alpha.writes > writes


def test_the_world_is_stopped_once_and_ended_once(fleet: Cli) -> None:
    fleet("stop-the-world", "--reason", "first")
    assert "it is stopped already, and nothing was changed" in fleet("stop-the-world", "--reason", "second").err
    assert [one["reason"] for one in fleet("pause", "--list", "-o", "json").data["items"]] == ["first"]
    assert fleet("stop-the-world", "--end").out == "the world goes on\n"
    assert "was not stopped" in fleet("stop-the-world", "--end").err
    assert "takes no reason" in fleet("stop-the-world", "--end", "--reason", "x", code=Code.INPUT).err


def test_nothing_is_said_while_somebody_types(fleet: Cli) -> None:
    fleet("stop-the-world", "--reason", "guests vanish")
    words = {"COMP_WORDS": "salvusctl pause Host/a", "COMP_CWORD": "2", "_SALVUSCTL_COMPLETE": "complete_bash"}
    done = python("-m", "salvusctl", SALVUS_CONFIG=str(fleet.folder / "config.yaml"), **words)
    assert (done.stdout.split(), done.stderr) == (["Host/alpha"], "")
