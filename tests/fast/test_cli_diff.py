"""diff on simulated machines: what is refused, and what the next sync of a directory would do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controller.session import Settings, open_session
from controller.sources.base import Reading
from controller.sync import Sync
from resources.load import load
from salvusctl.exits import Code
from salvusctl.plan_outputs import Diff
from tests.fast.cli import HOST, IMAGE, SERVICE, Cli, cli
from tests.fast.domains import DOMAIN

__all__ = ["cli"]
HYPERVISOR = HOST.rstrip() + "\n  hypervisor: {}\n"
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec: {image: debian12, rootDisk: {size: 2Gi}, runStrategy: Halted, interfaces: [{name: eth0, address: 192.0.2.100/24}]}
"""


def test_a_domain_that_is_not_ours_is_refused_in_the_plan_and_nothing_is_made_beside_it(cli: Cli) -> None:
    cli.machines.machine("alpha").put(replace(DOMAIN, domain="web01", owner_uid=""))
    path = cli.write(HYPERVISOR, IMAGE, VM)
    out = cli("diff", "-f", path, code=Code.DIFFERENT).out
    assert (
        "  ! VirtualMachine/web01 is refused: Domain:web01: there is a domain web01 already, and it was not made by "
        "salvus: it is left alone; rename one of the two"
    ) in out
    assert "Domain:web01   update" not in out
    assert "Volume:" not in out
    assert out.endswith("to create, 0 to update, 0 to delete; 1 resource refused.\n")
    found = Diff.model_validate_json(cli("diff", "-f", path, "-o", "json", code=Code.DIFFERENT).out)
    assert found.totals.refused == 1
    assert {held.reason for held in found.machines[0].held} == {"Stalled"}
    cli("apply", "-f", path, "--timeout", "5", code=Code.DIFFERENT)
    items = cli.machines.machine("alpha").items
    assert items["Domain:web01"]["owner"] == ""
    assert not any(key.startswith(("Volume:", "Seed:", "HostKey:")) for key in items)
    assert "Stalled: Domain:web01: there is a domain web01 already" in cli("why", "web01").out


@pytest.fixture
def followed(cli: Cli) -> Path:
    """The context's manifests, with a host and three services, taken over by a controller and brought about."""
    folder = cli.folder / "manifests"
    folder.mkdir()
    context = "{name: test, store: {sqlite: store.db}, manifests: manifests}"
    (cli.folder / "config.yaml").write_text(f"contexts: [{context}]\n")
    (folder / "host.yaml").write_text(HOST)
    for name in ("one", "two", "three"):
        (folder / f"{name}.yaml").write_text(SERVICE.replace("hello", name))
    with open_session(Settings(cli.store)) as session:
        Sync(session, f"directory:{folder}").once(Reading(load([folder])))
    cli("apply")
    return folder


def test_diff_of_the_contexts_manifests_is_what_the_next_sync_does(cli: Cli, followed: Path) -> None:
    assert cli("diff").out == "Plan: 0 to create, 0 to update, 0 to delete.\n"
    (followed / "two.yaml").unlink()
    cli.machines.machine("alpha").remove("File:/etc/two.conf")
    cli.machines.machine("alpha").remove("File:/etc/three.conf")
    lines = cli("diff", code=Code.DIFFERENT).lines
    assert lines[:3] == [
        "- Service/two would be deleted",
        "alpha",
        "+ File:/etc/three.conf create live Service/three",
    ]
    assert lines[-1] == "Plan: 1 to create, 0 to update, 0 to delete.", "what is to go and is gone is not made again"
    (followed / "one.yaml").unlink()
    assert "- File:/etc/one.conf delete live Service/one" in cli("diff", code=Code.DIFFERENT).lines
    named = cli("diff", "-f", str(followed), code=Code.DIFFERENT)
    assert "delete live" not in named.out
    assert "+ File:/etc/two.conf create live Service/two" in named.lines, "apply deletes nothing"


def test_diff_of_an_emptied_folder_says_that_nothing_is_deleted(cli: Cli, followed: Path) -> None:
    for file in followed.iterdir():
        file.unlink()
    lines = cli("diff", code=Code.DIFFERENT).lines
    assert "- Service/one would be deleted" in lines
    assert any("4 of 4 resources are gone" in line and "salvusctl approve" in line for line in lines), lines


def test_what_is_applied_from_the_folder_that_is_followed_lasts(cli: Cli, followed: Path) -> None:
    (followed / "one.yaml").write_text(SERVICE.replace("hello", "one").replace("content: ", "mode: '0600', content: "))
    answer = cli("apply", "--no-wait")
    assert "Service/one configured" in answer.lines
    assert "takes this back" not in answer.err


def test_diff_says_which_deletions_the_guard_holds(cli: Cli, followed: Path) -> None:
    for file in followed.iterdir():
        file.unlink()
    (followed / "host.yaml").write_text(HOST.replace("alpha", "gamma"))
    found = Diff.model_validate_json(cli("diff", "-o", "json", code=Code.DIFFERENT).out)
    answer = cli("diff", code=Code.DIFFERENT)
    assert "- Service/one would be deleted" in answer.lines
    assert (
        f"held: 4 of 5 resources are gone from {followed}, and not deleted, as this is too much at once; "
        f"if it is meant: salvusctl approve {found.budgets[0].id}"
    ) in answer.lines
    assert "File:" not in answer.out
    assert {one.resource for one in found.resources if one.held} == {
        "Host/alpha",
        "Service/one",
        "Service/two",
        "Service/three",
    }
