"""approve: what waits, what it would do, and that only what was shown is let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.budget import Budgets
from controller.session import Settings, open_session
from controller.sources.base import Reading
from controller.sync import Sync
from resources.load import load
from salvusctl.config import BudgetConfig, current
from salvusctl.exits import Code
from salvusctl.flags import Flags
from salvusctl.plan_outputs import Diff, Holds
from tests.fast.cli import HOST, SERVICE, Cli, cli

__all__ = ["cli"]
UNIT = SERVICE.rstrip() + "\n  unit: |\n    [Service]\n    ExecStart=/bin/sleep infinity\n"


@pytest.fixture
def followed(cli: Cli) -> Path:
    """A directory that is followed, with budgets of nothing at all, taken over and brought about."""
    folder = cli.folder / "manifests"
    folder.mkdir()
    budgets = "{maxDeletes: 0, maxDeletePercent: 0, maxDisruption: 0, maxDisruptionPercent: 0}"
    context = f"{{name: test, store: {{sqlite: store.db}}, manifests: manifests, budgets: {budgets}}}"
    (cli.folder / "config.yaml").write_text(f"contexts: [{context}]\n")
    (folder / "host.yaml").write_text(HOST)
    (folder / "hello.yaml").write_text(UNIT)
    (folder / "other.yaml").write_text(SERVICE.replace("hello", "other"))
    sync(cli, folder)
    cli("apply")
    return folder


def sync(cli: Cli, folder: Path, times: int = 1) -> None:
    """A controller that follows the folder reads it."""
    with open_session(Settings(cli.store)) as session:
        one = Sync(session, f"directory:{folder}", current(Flags()).budgets.budgets())
        for _ in range(times):
            one.once(Reading(load([folder])))


def test_what_waits_is_listed_with_what_it_would_do_and_let_through_by_its_id(cli: Cli, followed: Path) -> None:
    assert cli("approve").err == "nothing waits for approval\n"
    (followed / "hello.yaml").write_text(UNIT.replace("infinity", "9"))
    foreseen = Diff.model_validate_json(cli("diff", "-o", "json", code=Code.DIFFERENT).out).budgets[0]
    assert f"held: {foreseen.message}" in cli("diff", code=Code.DIFFERENT).lines
    sync(cli, followed)
    (hold,) = Holds.model_validate_json(cli("approve", "-o", "json").out).items
    assert hold.model_copy(update={"since": None}) == foreseen, "diff said it before"
    lines = cli("approve").lines
    assert lines[0].startswith(f"{hold.id} revision of directory:{followed}, since 20")
    assert "~ SystemdUnit:hello.service update restart Service/hello" in lines
    assert f"salvusctl approve {hold.id}" in cli("why", "hello").out
    assert "HeldByBudget" in cli("events", "hello").out
    assert f"salvusctl approve {hold.id}" in cli("get", "services").err
    assert cli("approve", hold.id).out == f"{hold.id} is approved: 1 change of directory:{followed}, once\n"
    assert Holds.model_validate_json(cli("approve", "-o", "json").out).items[0].approved
    assert "approved; the controller" in cli("approve").out
    sync(cli, followed)
    assert cli("approve").err == "nothing waits for approval\n"
    assert cli("get", "services").err == ""
    assert "Approved" in cli("events", "hello").out


def test_without_a_word_in_the_configuration_budgets_are_the_controllers_own() -> None:
    assert BudgetConfig().budgets() == Budgets()


def test_deletions_too(cli: Cli, followed: Path) -> None:
    (followed / "other.yaml").unlink()
    sync(cli, followed, times=2)
    (hold,) = Holds.model_validate_json(cli("approve", "-o", "json").out).items
    assert "- Service/other would be deleted" in cli("approve").lines
    cli("approve", hold.id)
    sync(cli, followed)
    assert "Service/other is Ready: False, Deleting" in cli("why", "other").out


def test_an_id_that_stands_for_nothing_approves_nothing(cli: Cli, followed: Path) -> None:
    (followed / "hello.yaml").write_text(UNIT.replace("infinity", "9"))
    sync(cli, followed)
    (hold,) = Holds.model_validate_json(cli("approve", "-o", "json").out).items
    answer = cli("approve", hold.id, "12345678", code=Code.DIFFERENT)
    assert "nothing with the ID 12345678 waits (any more); nothing was approved" in answer.err
    cli("approve", hold.id, "-o", "json", code=Code.INPUT)
    assert not Holds.model_validate_json(cli("approve", "-o", "json").out).items[0].approved
