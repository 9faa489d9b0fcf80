"""What holds for every item type by itself, a new one included: items are built from their fields' types."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Absent, Change, Drift, Grade, Item, Present, Rejected, RolledBack, Unknown, Verb, drift
from drivers.items import codec, undo
from drivers.items import paths as fs
from drivers.items.file import File, Trial
from drivers.items.image_file import ImageFile
from drivers.items.package import Package
from drivers.items.shell import ShellItem
from drivers.items.system import System
from drivers.items.systemd_unit import SystemdUnit
from drivers.items.unit_files import UnitFiles
from tests.hostile import HOSTILE_TEXT, TEXT, rule_sets

TYPES = codec.item_types()
SHELL = {name: type_ for name, type_ in TYPES.items() if issubclass(type_, ShellItem)}
# Many types, and what goes wrong goes wrong with most texts.
FEW = settings(max_examples=25)
# What an answer may begin with, and then not go on as it should.
NONSENSE = st.sampled_from(
    (
        "",
        "@ ",
        "@ +",
        "@ -",
        "S:",
        "S:1:2:3:4:5:6:7:8",
        "stat: x",
        "N 0 x",
        "H !",
        "T none",
        "P dpkg",
        "end 2",
        "Names=",
        "QFI",
    )
)
START_FILES = st.builds(File, HOSTILE_TEXT.map("/{}".format), TEXT, st.sampled_from(["0644", "0755"]), TEXT, TEXT)
# Fields whose text has a form of its own, checked before items are made.
FORMS = {
    "mode": st.sampled_from(["0644", "644", "4755"]),
    "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "user_data": st.builds("#cloud-config\n{}".format, TEXT),
    "source": st.just(__file__),
    "unit": st.builds("{}.service".format, st.text("abc@-_.\\", min_size=1)),
    "package": st.text("abc+-.:", min_size=2),
    "rules": rule_sets(),
    "start_files": st.lists(START_FILES, min_size=1, max_size=3).map(tuple),
    "reload_files": st.lists(START_FILES, max_size=2).map(tuple),
}


@st.composite
def items(draw: st.DrawFn, type_: type[Item]) -> Item:
    """Any item of a type, with hostile text wherever a user may write text."""
    names = [field.name for field in dataclasses.fields(type_)]  # type: ignore[arg-type]
    known = {name: FORMS[name] for name in names if name in FORMS}
    paths = {name: HOSTILE_TEXT.map(lambda value: f"/{value}") for name in names if name == "path"}
    with_text: st.SearchStrategy[Item] = st.builds(type_, **known, **paths)
    return draw(with_text)


def changes(item: Item) -> list[Change]:
    """The two changes that every item knows how to make."""
    missing = drift(item.fields(), {})
    return [Change(item, Verb.CREATE, missing, Grade.LIVE), Change(item, Verb.DELETE, (), Grade.LIVE)]


@pytest.mark.parametrize("type_", TYPES.values(), ids=TYPES)
@FEW
@given(data=st.data())
def test_equal_items_have_no_drift_and_come_back_from_the_inventory(type_: type[Item], data: st.DataObject) -> None:
    item = data.draw(items(type_))
    assert drift(item.fields(), item.fields()) == ()
    assert hash(item) == hash(dataclasses.replace(item))  # type: ignore[type-var]
    back = codec.restore(item.type(), codec.dump(item))
    assert back.key == item.key
    kept = {f.name for f in dataclasses.fields(item)} - item.forgets  # type: ignore[arg-type]
    assert all(getattr(back, name) == getattr(item, name) for name in kept)
    assert all(getattr(back, name) == type(getattr(item, name))() for name in item.forgets)


@pytest.mark.parametrize("type_", TYPES.values(), ids=TYPES)
@FEW
@given(data=st.data())
def test_every_drift_has_a_grade(type_: type[Item], data: st.DataObject) -> None:
    item = data.draw(items(type_))
    for one in drift(item.fields(), {}):
        assert item.grade([one]) in Grade


@pytest.mark.parametrize("type_", SHELL.values(), ids=SHELL)
@FEW
@given(data=st.data())
def test_an_answer_that_makes_no_sense_is_unknown_and_never_absent(type_: Any, data: st.DataObject) -> None:
    some = data.draw(st.lists(items(type_), min_size=1, max_size=3, unique_by=lambda item: item.key))
    output = "\n".join(data.draw(st.lists(NONSENSE | TEXT, max_size=6)))
    states = type_.read(some, output)
    assert set(states) == {item.key for item in some}
    assert not any(isinstance(state, Absent) for state in states.values())


@pytest.mark.parametrize("type_", SHELL.values(), ids=SHELL)
@FEW
@given(data=st.data())
def test_no_answer_is_unknown(type_: Any, data: st.DataObject) -> None:
    item = data.draw(items(type_))
    assert isinstance(type_.read([item], "")[item.key], Unknown)


def test_a_forgotten_content_is_not_in_what_is_kept() -> None:
    for type_ in TYPES.values():
        for name in type_.forgets:
            assert name in {field.name for field in dataclasses.fields(type_)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["hello-", "-y", "a", "hello/sid", "hello=1", "*", "^hello", "$(x)", "a\nb"])
def test_what_apt_would_take_for_an_order_is_no_package(name: str) -> None:
    package = Package(name)
    assert name not in Package.probe([package]).split("\n")[0].split(" dpkg ")[1].split(" ")
    for change in changes(package):
        with pytest.raises(Rejected):
            package.script(change)


@pytest.mark.parametrize("name", ["nothing", "-a.service", "a@.service", "a*.service", "a b.service", "$(x).service"])
def test_what_is_no_unit_is_never_asked_for_nor_started(name: str) -> None:
    unit = SystemdUnit(name, True, True)
    assert name not in SystemdUnit.probe([unit])
    for change in changes(unit):
        with pytest.raises(Rejected):
            unit.script(change)


def test_only_what_is_pushed_has_a_payload() -> None:
    assert ImageFile("/a", "/source", "0" * 64).payload == "/source"
    assert System().payload == ""


def test_a_machine_tells_nothing_of_itself_but_what_it_was_asked_for() -> None:
    told = f"boot_id=1\nos=debian 12\nssh_host_key=ssh-ed25519 AAAA\nkernel={'6' * 1_000_000}\nx=y"
    state = System.read([System()], told)["System:self"]
    assert state == Present({}, {"boot_id": "1", "os": "debian 12", "kernel": "6" * 256})


def test_a_machine_that_does_not_tell_its_boot_is_unknown() -> None:
    assert isinstance(System.read([System()], "boot_id=\nkernel=6\n")["System:self"], Unknown)


def test_a_file_on_trial_tells_of_it_and_is_told_apart_from_another_content() -> None:
    trial = Trial("ssh.service", "reload")
    one, other = (File("/etc/ssh/sshd_config.d/a.conf", content, trial=trial) for content in ("one", "other"))
    armed, refused = undo.notes(one.trial_name)
    seen = fs.Stat("file", "0644", "0", "root", "0", "root", 3, 1, "1.0")
    digest = str(one.fields()["sha256"])
    nothing: dict[str, tuple[str, ...]] = {armed: (), refused: ()}
    right = one.tried(one.state(seen, digest), nothing)
    assert isinstance(right, Present)
    assert drift(one.fields(), right.fields) == ()
    pending = one.tried(one.state(seen, digest), nothing | {armed: ("x",)})
    assert isinstance(pending, Present)
    assert [each.field for each in drift(one.fields(), pending.fields)] == ["trial"]
    assert one.tried(Absent(), nothing) == Absent()
    put_back = one.refused(Change(one, Verb.CREATE, (), Grade.LIVE))
    (attempt,) = re.findall("[0-9a-f]{64}", put_back)
    back = one.tried(Absent(), nothing | {refused: (f"{attempt} 1700000000",)})
    assert isinstance(back, Present)
    assert isinstance(one.refusal(back.fields), RolledBack)
    assert other.refusal(back.fields) is None
    assert one.grade(()) is Grade.RELOAD
    assert one.perilous(Change(one, Verb.DELETE, (), Grade.LIVE))
    (attempt,) = re.findall("[0-9a-f]{64}", one.refused(Change(one, Verb.DELETE, (), Grade.LIVE)))
    kept = one.tried(one.state(seen, digest), nothing | {refused: (f"{attempt} 1700000000",)})
    assert isinstance(kept, Present)
    assert isinstance(other.stays(kept.fields), RolledBack), "whatever is in it"
    assert one.refusal(kept.fields) is None
    assert one.stays(back.fields) is None
    assert one.stays({"trial": "", "refused": f"{attempt} 1700000000"}) is None, "somebody else removed it"
    plain = dataclasses.replace(one, trial=None)
    assert (plain.grade(()), plain.perilous(Change(plain, Verb.DELETE, (), Grade.LIVE))) == (Grade.LIVE, False)


def test_files_of_a_unit_are_changed_all_together_on_trial() -> None:
    start, ways = File("/etc/x/start", "a"), File("/etc/x/ways", "b", "0755")
    item = UnitFiles("x.service", (start,), (ways,))
    made = item.script(Change(item, Verb.CREATE, (), Grade.LIVE))
    light, heavy = (Drift(path, "wanted", "seen") for path in (ways.path, start.path))
    assert "systemd-run" not in made, "nobody comes in by what was not there"
    for found, how in (((light,), "reload"), ((heavy,), "restart"), ((light, heavy), "restart")):
        change = Change(item, Verb.UPDATE, found, item.grade(found))
        assert change.grade is Grade[how.upper()]
        text = item.script(change)
        assert (
            text.index("systemd-run") < text.index(fs.temporary(start.path)) < text.index(f'systemctl {how} -- "$unit"')
        )
        assert fs.temporary(ways.path) in text
    gone = item.script(Change(item, Verb.DELETE, (), Grade.LIVE))
    assert gone.endswith("rm -f -- /etc/x/start /etc/x/ways\n")
