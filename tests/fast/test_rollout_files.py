"""Files of sshd and of the network come to a fleet one machine first, as firewalls do. Simulated, whole passes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from controller.rollout import everything, touched, turns
from controller.view import View
from tests.fast.manifests import problems, service
from tests.fast.walls import HOSTS, NAMES, SSHD, Walls, host, sshd, wall

FILE = f"File:{SSHD}"


class Files(Walls):
    """Which content of the file is where."""

    def with_file(self, content: str, path: str = SSHD) -> list[str]:
        digest = hashlib.sha256(content.encode()).hexdigest()
        machines = {name: self.fleet.machine(name).items.get(f"File:{path}", {}) for name in NAMES}
        return [name for name, fields in machines.items() if fields.get("sha256") == digest]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Eight machines with one file in force."""
    made = Files(tmp_path)
    made.put(*HOSTS, sshd("one"))
    made.rounds(*NAMES)
    assert made.with_file("one") == list(NAMES)
    return made


def test_one_machine_has_it_first_then_a_share(files: Files) -> None:
    files.put(*HOSTS, sshd("two"))
    seen = []
    for _ in range(8):
        files.settle()
        files.visit(*NAMES)
        seen.append(len(files.with_file("two")))
        assert set(files.with_file("one")) == set(NAMES) - set(files.with_file("two"))
    assert sorted(set(seen)) == [0, 1, 3, 5, 7, 8]


def test_the_first_of_all_is_tried_on_one_machine_too(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.put(*HOSTS, sshd("one", most="100%"))
    files.settle()
    files.visit(*NAMES)
    files.settle()
    files.visit(*NAMES)
    assert files.with_file("one") == ["web1"]
    files.rounds(*NAMES)
    assert files.with_file("one") == list(NAMES)


def test_where_the_canary_puts_it_back_the_others_keep_theirs_until_it_is_corrected(files: Files) -> None:
    files.put_back("web1", item=FILE)
    files.put(*HOSTS, sshd("two"))
    files.rounds(*NAMES)
    assert files.with_file("one") == list(NAMES)
    said = files.said(*NAMES, ref="Service/sshd")
    assert (said["web1"].reason, said["web8"].reason) == ("RolledBack", "HeldByRollout")
    assert "Service/sshd was put back on web1" in said["web8"].message
    files.mended("web1")
    files.put(*HOSTS, sshd("three"))
    files.rounds(*NAMES)
    assert files.with_file("three") == list(NAMES)


def test_what_is_not_on_trial_and_other_services_wait_for_nothing(files: Files) -> None:
    files.put_back("web1", item=FILE)
    motd = ', {path: /etc/motd, content: "TEXT", onChange: none}'
    files.put(*HOSTS, sshd("two"), wall(1))
    files.rounds(*NAMES)
    assert files.with_port(1, *NAMES) == list(NAMES), "of other resources nobody has to be put back"
    files.put(*HOSTS, sshd("two", more=motd.replace("TEXT", "hello")), wall(1))
    files.settle()
    files.visit(*NAMES[1:])
    assert files.with_file("hello", "/etc/motd") == list(NAMES[1:])
    assert files.with_file("two") == []


def test_with_several_files_none_counts_before_all_are_there(files: Files) -> None:
    other = "/etc/network/interfaces.d/x"
    files.put_back("web1", item=f"File:{other}")
    files.put(*HOSTS, sshd("two", more=f', {{path: {other}, content: "new", onChange: none}}'))
    files.rounds(*NAMES)
    assert (files.with_file("two"), files.with_file("new", other)) == (["web1"], [])
    files.mended("web1")
    files.rounds(*NAMES)
    assert (files.with_file("two"), files.with_file("new", other)) == (list(NAMES), list(NAMES))


def test_files_that_went_and_come_back_are_tried_on_one_machine_first(files: Files) -> None:
    plain = sshd("hello", path="/etc/motd").replace("  rollout: {maxParallel: 25%}\n", "")
    files.put(*HOSTS, plain)
    files.rounds(*NAMES)
    assert files.with_file("one") == []
    files.put(*HOSTS, sshd("one"))
    for _ in range(2):
        files.settle()
        files.visit(*NAMES)
    assert files.with_file("one") == ["web1"]


def test_how_many_at_once_is_no_other_revision(files: Files) -> None:
    files.put_back("web1", item=FILE)
    files.put(*HOSTS, sshd("two"))
    files.rounds(*NAMES)
    files.put(*HOSTS, sshd("two", most="100%"))
    files.rounds(*NAMES)
    assert files.said("web8", ref="Service/sshd")["web8"].reason == "HeldByRollout"
    files.mended("web1")
    files.rounds(*NAMES)
    assert files.with_file("two") == list(NAMES)


def test_a_rollout_without_files_on_trial_is_refused() -> None:
    for path, wrong in (("/etc/motd", 1), ("/etc/ssh/sshd_config", 0)):
        one = service(machines={"selector": {}}, files=[{"path": path, "content": "x"}], rollout={"maxParallel": 2})
        found = problems(one)
        assert len(found) == wrong
        assert all("spec.rollout: is of use with files under /etc/ssh/" in text for text in found), found


def test_only_what_is_touched_or_not_finished_is_looked_at(files: Files) -> None:
    files.put(*HOSTS, sshd("one"), wall(1))
    files.rounds(*NAMES)
    engine = files.engines[0]
    assert everything(engine.knowledge) == {"Firewall", "Service/sshd"}
    assert engine._turning == set()
    files.put(*HOSTS, sshd("two"), wall(1))
    engine.refresh()
    assert engine._turning == {"Service/sshd"}
    files.settle()
    files.visit(*NAMES)
    files.settle()
    assert engine._turning == {"Service/sshd"}, "some have it not in force"
    files.rounds(*NAMES)
    assert engine._turning == set()
    files.put(*HOSTS, host("web9"), sshd("two"), wall(1))
    engine.refresh()
    assert engine._turning >= {"Firewall", "Service/sshd"}, "one is on another machine"
    files.silent("web1", True)
    files.rounds("web1", *NAMES, "web9")
    assert engine._turning == set(), "what a machine says is of no interest when all is in force"
    assert set(touched(["fact/Host/web1/revisions_in_force/VPN/net", "fact/Host/web1/boot_id"], [])) == {"VPN/net"}


def test_to_look_at_what_was_not_touched_would_tell_nothing_new(files: Files) -> None:
    """After each step all groups together are as the engine, which looks at few, left them."""
    for text in (sshd("two"), sshd("two", most="1"), sshd("three")):
        files.put(*HOSTS, text, wall(len(text)))
        for _ in range(9):
            files.settle()
            at, view = files.session.knowledge(), View()
            view.update(at.fleet, at.known, [f"resource/{ref}" for ref in at.rows])
            assert not turns(at, view, everything(at), {}, 0.0).told
            files.visit(*NAMES)
