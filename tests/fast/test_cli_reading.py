"""get, describe, why and events: what is in the store, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from controller.holder import Holder
from controller.leases import Leases
from controller.members import SOURCE, shard_of
from controller.session import Settings, open_session
from controller.store.records import Condition, Event, InventoryRow, Job, Run, Seen, Status
from controller.store.source_records import Disturbed, Hold, SourceState
from resources.load import load
from salvusctl.exits import Code
from salvusctl.outputs import Events
from salvusctl.resource_outputs import Reasons, ResourceList
from tests.fast import documents
from tests.fast.cli import HOST, IMAGE, OTHER, SERVICE, Cli, cli

__all__ = ["cli"]


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    """A store with manifests that no controller has looked at yet."""
    cli("apply", "--no-wait", "-f", cli.write(HOST, OTHER, IMAGE, SERVICE))
    return cli


def tell(cli: Cli, ref: str, *conditions: Condition, machine: str = "") -> None:
    with open_session(Settings(cli.store)) as session:
        status = Status(conditions, {"machines": "alpha"})
        if machine:
            session.ledger.put_statuses(machine, {ref: status})
        else:
            session.ledger.put_placement(ref, status)


def condition(status: str, reason: str, message: str, type_: str = "Synced") -> Condition:
    return Condition(type_, status, reason, message, 1000.0, 1)


def test_get_is_a_table(fleet: Cli) -> None:
    lines = fleet("get", "hosts").lines
    assert lines[0] == "NAME READY REASON ADDRESS SCHEDULABLE AGE"
    assert [line.split()[:3] for line in lines[1:]] == [
        ["alpha", "Unknown", "NotSeenYet"],
        ["beta", "Unknown", "NotSeenYet"],
    ]
    assert "192.0.2.1 yes" in lines[1]


UNIT = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: web}
spec:
  machines: {names: [alpha, beta]}
  unitName: nginx.service
"""


def test_state_is_what_was_seen_and_not_what_is_wanted(fleet: Cli) -> None:
    fleet("apply", "--no-wait", "-f", fleet.write(UNIT))

    def state(name: str) -> str:
        lines = fleet("get", "services").out.splitlines()
        column = lines[0].index("STATE")
        (line,) = (line for line in lines if line.startswith(name))
        return line[column : lines[0].index("AGE")].strip()

    def seen(machine: str, found: Seen) -> None:
        with open_session(Settings(fleet.store)) as session:
            session.ledger.put_seen(machine, {"SystemdUnit:nginx.service": found})

    assert (state("hello"), state("web")) == ("-", "-"), "nobody has said where they are"
    with open_session(Settings(fleet.store)) as session:
        for name in ("hello", "web"):
            on = Status((condition("True", "Placed", "on both", "Placed"),), {"machines": "alpha beta"})
            session.ledger.put_placement(f"Service/{name}", on)
    assert (state("hello"), state("web")) == ("-", "unknown"), "hello has no unit"
    seen("alpha", Seen("present", {"running": True}))
    seen("beta", Seen("present", {"running": True}))
    assert state("web") == "running"
    seen("beta", Seen("present", {"running": False}))
    assert state("web") == "1 running,1 stopped"
    seen("beta", Seen("present", {"running": "failed"}))
    assert state("web") == "1 failed,1 running", "what is tried again and again does not run"
    seen("alpha", Seen("absent"))
    seen("beta", Seen("unknown", reason="garbled"))
    assert state("web") == "1 absent,1 unknown"
    (web,) = fleet("get", "service", "web", "-o", "json").data["items"]
    assert web["status"]["states"] == {"alpha": "absent", "beta": "unknown"}
    fleet("apply", "-f", fleet.write(HOST, OTHER, UNIT))
    assert state("web") == "running", "by the keys and words of real passes, too"


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Seen("present", {"running": True}), "running"),
        (Seen("present", {"running": False}), "stopped"),
        (Seen("present", {"running": "paused"}), "paused"),
        (Seen("absent"), "absent"),
        (None, "unknown"),
    ],
)
def test_state_of_a_machine_is_that_of_its_domain_on_its_host(fleet: Cli, found: Seen | None, state: str) -> None:
    fleet("apply", "--no-wait", "-f", fleet.write(f"\n{documents.HOST}", f"\n{documents.VM}"))

    def states() -> object:
        return fleet("get", "vm", "web01", "-o", "json").data["items"][0]["status"]["states"]

    ref, on = "VirtualMachine/web01", (condition("True", "Placed", "on alpha", "Placed"),)
    with open_session(Settings(fleet.store)) as session:
        session.ledger.put_placement(ref, Status(on, {"machines": "alpha web01"}))
    assert states() == {}, "where it is to be is not decided"
    with open_session(Settings(fleet.store)) as session:
        session.ledger.allocate(ref, "host", "alpha")
        session.ledger.allocate(ref, "instance", "web01-2")
        session.ledger.put_seen("alpha", {"Domain:web01-2": found} if found else {})
    assert states() == {"alpha": state}
    assert f" alpha {state} " in fleet("get", "vm").lines[1]


def test_get_wide_has_more_columns(fleet: Cli) -> None:
    narrow, wide = fleet("get", "hosts").lines[0], fleet("get", "hosts", "-o", "wide").lines[0]
    assert set(narrow.split()) < set(wide.split())
    assert wide.endswith("MESSAGE")


@pytest.mark.parametrize(
    ("words", "refs"),
    [
        (["hosts"], ["Host/alpha", "Host/beta"]),
        (["HOST", "beta"], ["Host/beta"]),
        (["host/beta", "image/debian12"], ["Host/beta", "Image/debian12"]),
        (["images,hosts"], ["Image/debian12", "Host/alpha", "Host/beta"]),
        (["all"], ["Host/alpha", "Host/beta", "Image/debian12", "Service/hello"]),
        (["hosts", "-l", "role=kvm"], ["Host/alpha"]),
        (["all", "-l", "role!=old,role"], ["Host/alpha"]),
        (["vms"], []),
        (["host,svc", "hello", "alpha"], ["Service/hello", "Host/alpha"]),
    ],
)
def test_get_finds(fleet: Cli, words: Sequence[str], refs: Sequence[str]) -> None:
    assert fleet("get", *words, "-o", "name").out.split() == list(refs)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["hots"], Code.INPUT, "there is no kind 'hots'; did you mean 'Host'? There are: Firewall, "),
        (["host", "alpa"], Code.DIFFERENT, "there is no Host 'alpa'; did you mean 'alpha'"),
        (["host/alpha", "beta"], Code.INPUT, "'beta' is not KIND/NAME"),
        (["hosts", "-l", "a=b=c"], Code.INPUT, "is not a selector"),
    ],
)
def test_get_says_what_it_does_not_find(fleet: Cli, words: Sequence[str], code: Code, said: str) -> None:
    answer = fleet("get", *words, code=code)
    assert said in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "words",
    [["get", "all"], ["describe", "alpha"], ["why", "alpha"], ["events"], ["diff"], ["delete", "host/alpha", "--yes"]],
)
def test_a_store_that_is_not_there_is_an_error_and_is_not_made(cli: Cli, words: Sequence[str]) -> None:
    answer = cli(*words, "--store", "typo.db", code=Code.TROUBLE)
    assert answer.err.startswith(f"error: the store {cli.folder}/typo.db does not exist\n  hint: salvusctl apply")
    assert not list(cli.folder.glob("typo.db*"))


def test_get_of_an_empty_store(cli: Cli) -> None:
    with open_session(Settings(cli.store)):
        pass
    answer = cli("get", "all")
    assert (answer.out, answer.err) == ("", "there are none\n")
    assert cli("get", "all", "-o", "json").data["items"] == []


def test_get_json_is_as_its_schema_says(fleet: Cli) -> None:
    found = ResourceList.model_validate_json(fleet("get", "all", "-o", "json").out)
    assert [item.metadata.name for item in found.items] == ["alpha", "beta", "debian12", "hello"]
    host = found.items[0]
    assert host.metadata.labels == {"role": "kvm"}
    assert host.status.conditions[0].type == "Ready"
    assert host.spec["address"] == "192.0.2.1"


def test_get_yaml_is_get_json(fleet: Cli) -> None:
    documents = list(yaml.safe_load_all(fleet("get", "all", "-o", "yaml").out))
    assert documents == fleet("get", "all", "-o", "json").data["items"]


def test_what_get_manifest_prints_changes_nothing_when_applied(fleet: Cli) -> None:
    text = fleet("get", "all", "-o", "manifest").out
    out = fleet("apply", "--no-wait", "-f", "-", stdin=text).out
    assert {line.split()[1] for line in out.splitlines()} == {"unchanged"}


def test_a_machine_that_nobody_reaches_shows_as_such(fleet: Cli) -> None:
    tell(fleet, "Host/alpha", condition("Unknown", "Unreachable", "connection refused"), machine="alpha")
    tell(fleet, "Host/alpha", condition("True", "Placed", "on alpha", "Placed"))
    line = fleet("get", "host", "alpha").lines[1]
    assert line.startswith("alpha Unknown Unreachable (")
    assert "connection refused" in fleet("get", "host", "alpha", "-o", "wide").lines[1]


def test_text_of_machines_cannot_speak_to_the_terminal(fleet: Cli) -> None:
    evil = "\x1b]0;owned\x07\nfake line"
    tell(fleet, "Host/alpha", condition("False", "Failed", evil), machine="alpha")
    with open_session(Settings(fleet.store)) as session:
        session.ledger.tell([Event("Host/alpha", "alpha", "Warning", "Failed", evil, 1.0, 2.0)])
        session.ledger.put_seen("alpha", {"File:/x": Seen("present", {"content": evil})})
    for words in (["get", "hosts", "-o", "wide"], ["describe", "host", "alpha"], ["why", "alpha"], ["events"]):
        out = fleet(*words).out
        assert "owned" in out
        assert "\x1b" not in out
        assert "\nfake line" not in out


def test_describe_has_everything(fleet: Cli) -> None:
    fleet("apply", "-f", fleet.write(HOST, SERVICE))
    with open_session(Settings(fleet.store)) as session:
        session.ledger.tell([Event("Service/hello", "former", "Normal", "Deleted", "where it is no more", 1.0, 2.0)])
    out = fleet("describe", "svc", "hello").out
    for part in (
        "Service/hello\n",
        "UID:",
        "Its items on alpha:",
        "File:/etc/hello.conf   present",
        "sha256: ",
        "Created",
        "where it is no more",
    ):
        assert part in out


def test_describe_of_a_machine_says_what_is_on_it(fleet: Cli) -> None:
    fleet("apply", "-f", fleet.write(HOST, SERVICE))
    lines = fleet("describe", "host", "alpha").lines
    assert "File:/etc/hello.conf present Service/hello" in lines[lines.index("On this machine:") :]


def test_describe_wants_a_name(fleet: Cli) -> None:
    assert "describe what?" in fleet("describe", code=Code.INPUT).err
    assert "there is nothing named 'alpa'; did you mean 'alpha'" in fleet("describe", "alpa", code=Code.DIFFERENT).err


def test_why_says_who_works_and_what_helps(fleet: Cli) -> None:
    tell(fleet, "Host/alpha", condition("True", "Placed", "on alpha", "Placed"))
    tell(fleet, "Host/alpha", condition("False", "HeldByCeiling", "needs a restart"), machine="alpha")
    with open_session(Settings(fleet.store)) as session:
        session.ledger.put_run(Run("alpha", 1500.0, 0.1, "held"))
    lines = fleet("why", "alpha").lines
    assert lines[0] == "Host/alpha is Ready: False, HeldByCeiling: needs a restart"
    assert lines[1].startswith("since 1970-01-01T00:16:40Z (")
    assert lines[2] == "Synced on alpha: False, HeldByCeiling: needs a restart"
    assert lines[3].startswith("last noted 1970-01-01T00:25:00Z (")
    assert "next look none: no controller works on the fleet" in lines
    assert any(line.startswith("help salvusctl controller run") for line in lines)
    assert any(line.startswith("help salvusctl diff") for line in lines)


def test_why_leads_to_what_is_waited_for(fleet: Cli) -> None:
    tell(fleet, "Service/hello", condition("True", "Placed", "on alpha", "Placed"))
    tell(
        fleet, "Service/hello", condition("False", "FactUnknown", "waits for x of Host/alpha; No/such"), machine="alpha"
    )
    commands = fleet("why", "hello", "-o", "json").data["items"][0]["help"]
    assert commands[0] == "salvusctl why Host/alpha"
    assert not any("No/such" in command for command in commands)


def test_why_of_what_is_ready_is_short(fleet: Cli) -> None:
    tell(fleet, "Image/debian12", condition("True", "Placed", "on no machine", "Placed"))
    with open_session(Settings(fleet.store)) as session:
        placed = condition("True", "Placed", "on no machine", "Placed")
        session.ledger.put_placement("Image/debian12", Status((placed,), {"machines": ""}))
    lines = fleet("why", "image/debian12").lines
    assert lines[0].startswith("Image/debian12 is Ready: True, ")
    assert not any(line.startswith(("next", "help")) for line in lines)


def test_why_json_is_as_its_schema_says(fleet: Cli) -> None:
    tell(fleet, "Host/alpha", condition("True", "Placed", "on alpha", "Placed"))
    tell(fleet, "Host/alpha", condition("Unknown", "Unreachable", "refused"), machine="alpha")
    reason = Reasons.model_validate_json(fleet("why", "alpha", "-o", "json").out).items[0]
    assert (reason.resource, reason.ready.reason, reason.controller) == ("Host/alpha", "Unreachable", "")
    assert [(c.type, c.machine) for c in reason.conditions] == [("Synced", "alpha")]
    assert reason.help[0] == "salvusctl controller run"


def test_what_was_put_back_is_shown_wherever_one_asks(fleet: Cli) -> None:
    plan = ("update File:/etc/ssh/sshd_config.d/x.conf", "  mode: 0644 → 0600", "  x: \x1b[2J → y")
    rolled_back = replace(condition("False", "RolledBack", "put back"), plan=plan)
    tell(fleet, "Service/hello", condition("True", "Placed", "on alpha", "Placed"))
    tell(fleet, "Service/hello", rolled_back, machine="alpha")
    event = Event("Service/hello", "alpha", "Warning", "RolledBack", "put back", 1000.0, 1000.0, plan=plan)
    with open_session(Settings(fleet.store)) as session:
        session.ledger.tell([event])
    shown = [plan[0], "mode: 0644 → 0600", "x: \\x1b[2J → y"]
    for verb in ("why", "describe", "events"):
        lines = fleet(verb, "hello").lines
        assert [line for line in lines if line in shown] == shown, verb
    reason = Reasons.model_validate_json(fleet("why", "hello", "-o", "json").out).items[0]
    assert [one.plan for one in (reason.ready, *reason.conditions)] == [(), plan]
    told = Events.model_validate_json(fleet("events", "hello", "-o", "json").out).items
    assert [one.plan for one in told if one.reason == "RolledBack"] == [plan]
    found = fleet("get", "service", "hello", "-o", "yaml").out
    assert "  - update File:/etc/ssh/sshd_config.d/x.conf\n" in found
    ResourceList.model_validate_json(fleet("get", "service", "hello", "-o", "json").out)


def test_what_a_source_holds_back_and_its_errors_are_said_where_one_looks(fleet: Cli) -> None:
    quiet = fleet("get", "hosts")
    with open_session(Settings(fleet.store)) as session:
        gone = Hold("directory:/srv/fleet", "r", "deletions", (Disturbed("Host/beta"),), 3)
        session.put(load([Path(fleet.write(OTHER))]), "directory:/srv/fleet")
        session.ledger.sources.put(SourceState("directory:/srv/fleet", "r", 0.0, ("one", "two"), (gone,)))
    told = fleet("get", "hosts")
    assert (quiet.err, told.out) == ("", quiet.out)
    words = " ".join(told.err.split())
    assert (
        "since 1970-01-01T00:00:00Z, revision r of /srv/fleet is not in force, as it has errors: one (and 1 more); "
        "salvusctl validate /srv/fleet shows all"
    ) in words
    held = "1 of 3 resources are gone from /srv/fleet, and not deleted, as this is too much at once"
    assert f"HeldByBudget since 1970-01-01T00:00:00Z: {held}" in words
    assert words.endswith(f"salvusctl approve {gone.id}")
    for verb in ("why", "describe"):
        words = " ".join(fleet(verb, "beta").out.split())
        assert f"{held}; if it is meant: salvusctl approve {gone.id}" in words
        assert "/srv/fleet" not in fleet(verb, "alpha").out
    reason = Reasons.model_validate_json(fleet("why", "beta", "-o", "json").out).items[0]
    assert ("Current", "False", "HeldByBudget") in {(c.type, c.status, c.reason) for c in reason.conditions}
    assert reason.help[0] == "salvusctl approve"
    ResourceList.model_validate_json(fleet("get", "hosts", "-o", "json").out)


def test_a_source_that_nobody_follows_and_nothing_came_from_is_not_told_of(fleet: Cli) -> None:
    hold = Hold("directory:/srv/old", "r", "revision", (Disturbed("Host/beta", "alpha"),), 3)
    with open_session(Settings(fleet.store)) as session:
        session.ledger.sources.put(SourceState("directory:/srv/old", "", 0.0, ("moved away",), (hold,)))
    assert fleet("get", "hosts").err == ""
    assert fleet("approve").err == "nothing waits for approval\n"
    with open_session(Settings(fleet.store)) as session:
        leases = Leases(session.ledger.store, Holder.this_process())
        leases.follow([f"{SOURCE}directory:/srv/old"])
        leases.tick()
        assert "/srv/old cannot be read: moved away" in " ".join(fleet("get", "hosts").err.split())
        assert fleet("approve").out.startswith(f"{hold.id} revision of directory:/srv/old")


@pytest.mark.parametrize(
    ("state", "reason", "help_"),
    [
        (SourceState("apply", "r", 0.0, ("one",)), "ManifestErrors", "salvusctl validate"),
        (SourceState("apply", "", 0.0, ("no answer",)), "SourceUnreadable", "salvusctl revisions"),
        (SourceState("apply", "r", 0.0, newest="s"), "Pinned", "salvusctl unpin"),
    ],
)
def test_why_names_the_command_that_helps_when_something_newer_is_not_in_force(
    fleet: Cli, state: SourceState, reason: str, help_: str
) -> None:
    with open_session(Settings(fleet.store)) as session:
        session.ledger.sources.put(state)
    said = Reasons.model_validate_json(fleet("why", "alpha", "-o", "json").out).items[0]
    assert ("Current", reason) in {(c.type, c.reason) for c in said.conditions}
    assert said.help[0] == help_


def test_errors_in_what_is_pinned_are_said(fleet: Cli) -> None:
    with open_session(Settings(fleet.store)) as session:
        session.ledger.sources.put(SourceState("apply", "r", 0.0, ("one",), newest="s"))
    assert "revision r of apply is not in force, as it has errors: one" in " ".join(fleet("get", "hosts").err.split())


def test_a_job_under_way_is_said_of_its_resource_and_its_machine_and_one_of_the_dead_is_not(fleet: Cli) -> None:
    with open_session(Settings(fleet.store)) as session:
        tell(fleet, "Service/hello", condition("True", "Placed", "on alpha", "Placed"))
        tell(fleet, "Host/alpha", condition("True", "Placed", "on alpha", "Placed"))
        row = InventoryRow("ImageFile", "{}", "Service/hello", True)
        session.ledger.put_inventory("alpha", {"ImageFile:/x": row, "ImageFile:/dead": row})
        leases = Leases(session.ledger.store, Holder.this_process())
        leases.tick()
        epoch = leases.held()[shard_of("alpha")]
        session.ledger.put_job(Job("alpha", "ImageFile:/x", epoch, 0.0))
        session.ledger.put_job(Job("alpha", "ImageFile:/dead", epoch - 1, 0.0))
        for verb in ("why", "describe"):
            for name, said in (("hello", True), ("alpha", True), ("beta", False)):
                out = " ".join(fleet(verb, name).out.split())
                assert ("ImageFile:/x on alpha is being made since " in out) is said
                assert "ImageFile:/dead on" not in out
        session.ledger.put_job(Job("alpha", "ImageFile:/x", epoch, 0.0, ended=1.0))
        assert "is being made" not in fleet("why", "hello").out


def test_events(fleet: Cli) -> None:
    with open_session(Settings(fleet.store)) as session:
        session.ledger.tell([Event("Host/beta", "beta", "Warning", "Failed", "disk full", 1.0, 20.0)])
        session.ledger.tell([Event("Host/alpha", "alpha", "Normal", "Created", "File:/x (live)", 1.0, 10.0)])
    lines = fleet("events").lines
    assert lines[0] == "LAST TYPE REASON RESOURCE MACHINE COUNT MESSAGE"
    assert [line.split("ago ")[1].split()[2] for line in lines[1:]] == ["Host/alpha", "Host/beta"]
    assert len(fleet("events", "--warnings").lines) == 2
    assert "Host/beta" not in fleet("events", "host", "alpha").out
    found = Events.model_validate_json(fleet("events", "-o", "json").out)
    assert [(e.resource, e.last) for e in found.items] == [
        ("Host/alpha", "1970-01-01T00:00:10Z"),
        ("Host/beta", "1970-01-01T00:00:20Z"),
    ]


def watching(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Instead of each wait of a watch one step is done; after the last one it is ended, as by Ctrl-C."""
    left = iter(steps)

    def sleep(seconds: float) -> None:
        step = next(left, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr("salvusctl.get.time.sleep", sleep)


def test_get_watch_prints_what_changes(fleet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        with open_session(Settings(fleet.store)) as session:
            session.delete(["Host/alpha"])
            session.ledger.remove_resource("Host/alpha")

    watching(
        monkeypatch,
        lambda: tell(fleet, "Host/beta", condition("True", "Placed", "on beta", "Placed")),
        lambda: None,
        gone,
    )
    answer = fleet("get", "hosts", "--watch", "-o", "name", code=Code.INTERRUPTED)
    assert answer.out.split() == ["Host/alpha", "Host/beta", "Host/beta"]
    assert answer.err == "Host/alpha is gone\n"


@pytest.mark.parametrize("words", [["host", "alpha"], ["host/alpha"]])
def test_get_watch_of_a_name_goes_on_when_it_is_gone(
    fleet: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def gone() -> None:
        with open_session(Settings(fleet.store)) as session:
            session.delete(["Host/alpha"])
            session.ledger.remove_resource("Host/alpha")

    turned = condition("True", "Placed", "on alpha", "Placed")
    watching(monkeypatch, lambda: tell(fleet, "Host/alpha", turned), gone, lambda: None)
    answer = fleet("get", *words, "-w", "-o", "name", code=Code.INTERRUPTED)
    assert (answer.out, answer.err) == ("Host/alpha\nHost/alpha\n", "Host/alpha is gone\n")


def test_events_watch_prints_what_happens_next(fleet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def happen(reason: str) -> None:
        with open_session(Settings(fleet.store)) as session:
            session.ledger.tell([Event("Host/alpha", "alpha", "Normal", reason, "x", 1.0, 2.0)])

    happen("First")
    watching(monkeypatch, lambda: happen("Second"), lambda: None)
    lines = fleet("events", "--watch", code=Code.INTERRUPTED).lines
    assert [line.split("ago ")[1].split()[1] for line in lines[1:]] == ["First", "Second"]
