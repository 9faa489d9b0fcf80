"""How waiting ends, and what is said of what is gone."""

from __future__ import annotations

import pytest

from drivers.base import InUse
from drivers.items.file import File
from salvusctl.exits import Code
from tests.fast.cli import HOST, SERVICE, Cli, cli
from tests.fast.test_cli_acting import CONF, on_terminal

__all__ = ["cli"]
IN_USE = "the trash is based on it; delete that first"


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    cli("apply", "-f", cli.write(HOST, SERVICE))
    return cli


def test_a_deletion_that_somebody_has_to_end_is_not_waited_for(fleet: Cli) -> None:
    fleet.machines.machine("alpha").faults.refuses[CONF] = InUse(IN_USE)
    err = fleet("delete", "svc", "hello", "--yes", "--timeout", "60", code=Code.DIFFERENT).err
    assert "error: Service/hello is not gone: InUse: is being deleted; it has items on: alpha; " in err
    assert IN_USE in err.splitlines()[-2]
    assert "the time to wait is over" not in err


def test_what_kept_it_from_being_well_does_not_keep_it_from_being_deleted(cli: Cli) -> None:
    faults = cli.machines.machine("alpha").faults
    faults.refuses[CONF] = InUse(IN_USE)
    cli("apply", "-f", cli.write(HOST, SERVICE), code=Code.DIFFERENT)
    faults.refuses.clear()
    assert cli("delete", "svc", "hello", "--yes").err.splitlines()[-1] == "Service/hello: gone"


def test_events_of_what_is_gone_are_shown(fleet: Cli) -> None:
    fleet("delete", "svc", "hello", "--yes")
    for words in (["hello"], ["svc", "hello"], ["Service/hello"]):
        lines = fleet("events", *words).lines
        assert any(f"Deleted Service/hello alpha 1 {CONF}" in line for line in lines)
        assert "Gone Service/hello" in lines[-1]
    assert "there is nothing named 'hallo'; did you mean 'hello'?" in fleet("events", "hallo", code=Code.DIFFERENT).err


def test_what_jobs_make_is_printed_and_an_event_as_all_else(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(File, "lasts", lambda *_: True)
    assert f"alpha: create {CONF}" in cli("apply", "-f", cli.write(HOST, SERVICE)).err.splitlines()
    assert f"alpha: delete {CONF}" in cli("delete", "svc", "hello", "--yes").err.splitlines()
    lines = cli("events", "hello").lines
    for reason in ("Created", "Deleted"):
        assert any(f"{reason} Service/hello alpha 1 {CONF} (live)" in line for line in lines)


@pytest.mark.parametrize("verb", ["describe", "why"])
@pytest.mark.parametrize("words", [["hello"], ["svc", "hello"]])
def test_of_what_is_gone_it_is_said_since_when(fleet: Cli, verb: str, words: list[str]) -> None:
    fleet("delete", "svc", "hello", "--yes")
    err = fleet(verb, *words, code=Code.DIFFERENT).err
    assert "there is no Service/hello any more: it was deleted " in err
    assert "hint: salvusctl events Service/hello" in err


def test_get_takes_a_name_alone(fleet: Cli) -> None:
    assert fleet("get", "hello", "-o", "name").out == "Service/hello\n"
    assert "there is no kind 'hallo'" in fleet("get", "hallo", code=Code.INPUT).err


def test_a_field_that_is_not_there_says_where_all_are(cli: Cli) -> None:
    hint = "hint: salvusctl explain VirtualMachine.spec shows them all"
    assert hint in cli("explain", "vm.foo", code=Code.INPUT).err


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("words", ["apply -f", "get all", "why hello", "get nothing", "--help", "get --help"])
def test_no_escapes_where_none_are_wanted(fleet: Cli, environment: dict[str, str], words: str) -> None:
    path = [fleet.write(HOST, SERVICE)] if words.endswith("-f") else []
    said, _ = on_terminal([*words.split(), *path], None, **environment)
    assert said.strip()
    assert not [part for part in said.split("\x1b[")[1:] if part.lstrip("0123456789;").startswith("m")]
