"""``salvusctl store``: made, looked at, copied and put back."""

from __future__ import annotations

import json
import stat

import pytest

from controller.store.sqlite import SqliteStore
from salvusctl.exits import Code
from tests.fast.cli import HOST, SERVICE, Cli, cli

__all__ = ["cli"]


def test_init_makes_it_once(cli: Cli) -> None:
    first = cli("store", "init").out
    assert cli.store.exists()
    assert cli("store", "init").out == first, "the same fleet"


def test_status_makes_nothing(cli: Cli) -> None:
    assert f"the store {cli.store} does not exist" in cli("store", "status", code=Code.TROUBLE).err
    assert not cli.store.exists()
    cli("store", "init")
    assert cli("store", "status").out == f"the store {cli.store} can be used\n"
    assert cli("store", "status", "-o", "json").data["store"] == str(cli.store)


def test_migrate_brings_an_older_store_up_to_date(cli: Cli) -> None:
    assert f"the store {cli.store} does not exist" in cli("store", "migrate", code=Code.TROUBLE).err
    assert not cli.store.exists()
    SqliteStore(cli.store, steps=()).close()
    assert "schema 0, this salvus needs 1" in (refused := cli("store", "status", code=Code.TROUBLE).err)
    assert "run: salvusctl store migrate" in refused
    assert cli("store", "migrate").out == f"the store {cli.store} went from schema 0 to 1\n"
    assert cli("store", "migrate").out == f"the store {cli.store} has schema 1; there is nothing to do\n"
    cli("store", "status")


def test_a_fleet_goes_into_a_file_and_back(cli: Cli) -> None:
    cli("apply", "--no-wait", cli.write(HOST, SERVICE))
    answer = cli("store", "dump", "copy.json")
    copy = cli.folder / "copy.json"
    assert answer.err == f"copy.json: {len(copy.read_text().splitlines())} lines\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600, "facts are nobody else's business"
    assert cli("store", "dump", "-").out == copy.read_text()
    other = str(cli.folder / "other.db")
    cli("store", "restore", "copy.json", "--store", other)
    assert cli("get", "all", "-o", "json", "--store", other).data == cli("get", "all", "-o", "json").data
    assert cli("store", "init", "--store", other).out.partition("(")[2] == cli("store", "init").out.partition("(")[2]


def test_nothing_is_written_over(cli: Cli) -> None:
    cli("apply", "--no-wait", cli.write(HOST))
    (cli.folder / "copy.json").write_text("mine")
    assert "copy.json is there already" in cli("store", "dump", "copy.json", code=Code.INPUT).err
    assert (cli.folder / "copy.json").read_text() == "mine"
    whole = cli("store", "dump", "-").out
    assert "not empty" in cli("store", "restore", "-", code=Code.TROUBLE, stdin=whole).err


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read(cli: Cli, name: str) -> None:
    assert f"{name} cannot be read" in cli("store", "restore", name, code=Code.INPUT).err
    assert not cli.store.exists()


def test_a_file_that_cannot_be_written(cli: Cli) -> None:
    cli("store", "init")
    assert "cannot be written" in cli("store", "dump", "no/folder.json", code=Code.INPUT).err


def test_half_a_copy_is_refused_and_no_store_is_made(cli: Cli) -> None:
    cli("apply", "--no-wait", cli.write(HOST))
    half = "".join(cli("store", "dump", "-").out.splitlines(keepends=True)[:-1])
    answer = cli("store", "restore", "-", "--store", "new.db", code=Code.INPUT, stdin=half)
    assert "the copy is not whole" in answer.err
    assert not (cli.folder / "new.db").exists()


def test_the_copy_has_no_leases(cli: Cli) -> None:
    cli("apply", "--timeout", "60", cli.write(HOST))
    lines = [json.loads(line) for line in cli("store", "dump", "-").out.splitlines()]
    tables = {line["table"] for line in lines[1:-1]}
    assert "lease" not in tables
    assert {"resource", "status", "meta"} <= tables
