"""From files to a fleet: every error with its place and what to do, all of them in one run, and nothing half taken."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from resources.envelope import document_of, resource_of
from resources.fleet import kinds
from resources.load import LoadCache, Loaded, load
from tests.fast.documents import FLEET, HOST, IMAGE, SERVICE, VM, cases, changed, write
from tests.fast.manifests import DIGEST

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File names in messages are short: everything is in the current directory."""
    monkeypatch.chdir(tmp_path)


def errors(*documents: str) -> list[str]:
    """What is wrong in one file of these documents."""
    return [str(error) for error in load([write(*documents)]).errors]


def refs(loaded: Loaded) -> list[str]:
    """What was loaded."""
    return sorted(loaded.documents)


def test_a_whole_fleet_loads() -> None:
    loaded = load([write(*FLEET)])
    assert loaded.errors == ()
    assert loaded.ok
    assert not loaded.empty
    assert refs(loaded) == ["Host/alpha", "Image/debian12", "Service/hub", "VirtualMachine/web01"]
    assert sorted(r.ref for r in loaded.fleet) == refs(loaded)


def case_errors(case: dict[str, Any], manifest: str, *others: str) -> list[str]:
    """What the changed manifest is told, beside other manifests that are right."""
    return [error.removeprefix("m.yaml:") for error in errors(changed(case, manifest), *others)]


@pytest.mark.parametrize("case", cases("virtual_machine"))
def test_errors_of_virtual_machines(case: dict[str, Any]) -> None:
    assert case_errors(case, VM, HOST, IMAGE) == case["errors"]


@pytest.mark.parametrize("case", cases("service"))
def test_errors_of_services(case: dict[str, Any]) -> None:
    assert case_errors(case, SERVICE, HOST) == case["errors"]


@pytest.mark.parametrize("case", cases("host"))
def test_errors_of_hosts(case: dict[str, Any]) -> None:
    assert case_errors(case, HOST) == case["errors"]


def test_a_virtual_machine_with_the_name_of_a_host() -> None:
    assert errors(HOST, IMAGE, VM.replace("web01", "alpha")) == [
        "m.yaml:18:12: metadata.name: Host/alpha has this name already; machines of all kinds share one space of names"
    ]


def test_two_machines_with_one_address_or_mac() -> None:
    nic = "  interfaces: [{{name: eth0, address: {}/24, mac: {}}}]\n"
    first = VM + nic.format("192.0.2.7", "52:54:00:00:00:01")
    second = VM.replace("web01", "web02") + nic.format("192.0.2.7", "52:54:00:00:00:01")
    third = VM.replace("web01", "web03") + nic.format("192.0.2.1", "52:54:00:00:00:03")
    own = "; every interface has its own"
    assert errors(first, second, third, HOST, IMAGE) == [
        "m.yaml:15:29: spec.interfaces[0].address: VirtualMachine/web01 has the address 192.0.2.7 already" + own,
        "m.yaml:15:52: spec.interfaces[0].mac: VirtualMachine/web01 has the MAC address 52:54:00:00:00:01 already"
        + own,
        "m.yaml:23:29: spec.interfaces[0].address: Host/alpha has the address 192.0.2.1 already" + own,
    ]


def test_two_resources_of_one_name_in_two_files() -> None:
    write(HOST, IMAGE, name="d/a.yaml")
    write(HOST.replace("192.0.2.1", "192.0.2.2"), name="d/b.yaml")
    loaded = load([Path("d")])
    assert [str(e) for e in loaded.errors] == [
        "d/b.yaml:3:12: metadata.name: Host/alpha is written twice; first at d/a.yaml:3:12"
    ]


def test_moved_from_what_is_still_there() -> None:
    moved = VM.replace("{name: web01}", "{name: web02, annotations: {salv.us/moved-from: web01}}")
    place = "metadata.annotations.salv.us/moved-from"
    assert errors(moved, HOST, IMAGE) == []
    still = "VirtualMachine/web01 is still in the manifests"
    assert errors(moved, VM, HOST, IMAGE) == [
        f"m.yaml:3:39: {place}: {still}; take it out, as this resource is what it was"
    ]
    assert errors(moved, moved.replace("web02", "web03"), HOST, IMAGE) == [
        f"m.yaml:10:39: {place}: VirtualMachine/web02 was 'web01' too; only one can have been"
    ]
    assert errors(moved.replace("web02", "web01"), HOST, IMAGE) == [
        f"m.yaml:3:39: {place}: is this resource's own name; write the one that it had before"
    ]
    assert errors(moved.replace("from: web01", "from: VirtualMachine/web01"), HOST, IMAGE) == [
        f"m.yaml:3:39: {place}: 'VirtualMachine/web01' is no name; write the name alone that this VirtualMachine had"
    ]


def test_all_errors_of_a_directory_are_found_in_one_run_in_the_order_of_the_files() -> None:
    write(HOST.replace("192.0.2.1", "x y"), SERVICE + "  user: root\n", name="d/b.yaml")
    write(VM.replace("4Gi", "4GB").replace("image: debian12", "imag: x"), name="d/a.yaml")
    write("a: [\n", name="d/sub/c.yml")
    loaded = load([Path("d")])
    assert [str(e).partition(": ")[0] for e in loaded.errors] == [
        "d/a.yaml:4:1",
        "d/a.yaml:5:3",
        "d/a.yaml:6:14",
        "d/b.yaml:5:3",
        "d/b.yaml:14:3",
        "d/sub/c.yml:2:1",
    ]
    assert not loaded.ok
    assert not loaded.empty


def test_what_is_wrong_in_itself_may_be_named() -> None:
    assert errors(VM, HOST, IMAGE.replace(DIGEST, "abc")) == [
        "m.yaml:21:3: spec.sha256: 'abc' is not a SHA-256 digest: 64 hexadecimal digits in lower case"
    ]


def dangling(loaded: Loaded) -> list[str]:
    """The fields that name what there is not."""
    return [error.field for error in loaded.errors if " named '" in error.what]


@pytest.mark.parametrize(
    "unread",
    [
        IMAGE.replace("spec:", "spec: ["),  # not read to its end
        IMAGE.replace("spec:", "spec:\0"),
        IMAGE.replace("kind: Image", "kind: Imag"),  # which of them it is cannot be told
        IMAGE.replace("kind: Image\n", ""),
        IMAGE.replace("name: debian12", "nam: debian12"),
        IMAGE.replace("name: debian12", "name: Debian12"),
        IMAGE.replace("{name: debian12}", "debian12"),
    ],
)
def test_a_name_that_may_be_in_what_was_not_read_is_not_called_wrong_but_others_are(unread: str) -> None:
    write(VM + "  placement: {host: nowhere}\n", name="d/a.yaml")
    write("# web02\n", HOST, unread, name="d/b.yaml")
    assert dangling(load([Path("d")])) == ["spec.placement.host"]


def test_names_in_what_was_read_are_no_excuse() -> None:
    other = VM.replace("web01", "web02")
    assert dangling(load([write(VM, other, HOST, "a: [\n")])) == ["spec.image", "spec.image"]


def test_where_reading_ended_it_is_said_that_there_may_be_more_errors() -> None:
    (error,) = load([write(HOST, "a: [\n")]).errors
    assert error.hint == "mend this first: from here on the file was not read, and may have more errors"


def test_with_a_file_that_cannot_be_opened_no_name_is_called_wrong() -> None:
    write(VM, name="d/a.yaml")
    (error,) = load([Path("d"), Path("missing.yaml")]).errors
    assert str(error) == "missing.yaml: cannot be read: No such file or directory"


@pytest.mark.parametrize("text", ["a", "[]", "1", "{}", "- kind: Host"])
def test_a_document_that_is_no_manifest(text: str) -> None:
    (error, *_) = errors(text)
    assert error.startswith("m.yaml:1:1: ")


def test_empty_documents_and_files_are_nothing() -> None:
    assert refs(load([write("", HOST, "# nothing\n", "")])) == ["Host/alpha"]
    assert load([write("# nothing\n")]).empty
    assert load([write("")]).ok


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# " + "x" * 2**20, "m.yaml: has more than 1 MiB, the most a file may have; split it into several files"),
        ("a: " + "[" * 60, "m.yaml:1:53: is nested deeper than 50 levels, the most that is allowed"),
        ("a: &a x\nb: [" + "*a," * 201 + "]", "m.yaml:2:605: b[200]: is alias number 201; a file may have 200"),
    ],
)
def test_limits(text: str, message: str) -> None:
    assert errors(text) == [message]


def test_what_is_no_manifest_file_is_passed_over() -> None:
    for name in ("d/.git/a.yaml", "d/.a.yaml", "d/a.yaml~", "d/.#a.yaml", "d/a.yaml.swp", "d/README.md"):
        write("a: [", name=name)
    write(HOST, name="d/host.yml")
    loaded = load([Path("d")])
    assert loaded.ok
    assert refs(loaded) == ["Host/alpha"]


def test_a_file_that_is_named_is_read_whatever_its_name_and_once() -> None:
    file = write(HOST, name="d/host.txt")
    write(IMAGE, name="d/image.yaml")
    Path("d/link.yaml").symlink_to("image.yaml")
    loaded = load([file, Path("d/../d/host.txt"), Path("d"), Path("d/image.yaml")])
    assert loaded.ok
    assert refs(loaded) == ["Host/alpha", "Image/debian12"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HOST.replace("192.0.2.1", "x y").encode())))
    assert [str(e) for e in load([Path("-")]).errors] == [
        "stdin:5:3: spec.address: 'x y' is neither an IP address nor a DNS name"
    ]


def test_a_closed_standard_input_is_an_error_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert list(map(str, load([Path("-")]).errors)) == ["stdin: cannot be read: it is closed"]


def test_a_name_that_is_no_text_is_told_as_text() -> None:
    Path("d").mkdir()
    Path("d", os.fsdecode(b"a\xff.yaml")).write_text("{{{")
    (error,) = load([Path("d")]).errors
    assert str(error).encode().startswith(rb"d/a\udcff.yaml:1:")


def test_what_cannot_be_read_is_an_error_and_the_rest_is_read() -> None:
    write(HOST, name="d/host.yaml")
    write(IMAGE, name="outside.yaml")
    Path("d/out.yaml").symlink_to(Path("outside.yaml").resolve())
    Path("d/nowhere.yaml").symlink_to("missing.yaml")
    os.mkfifo("d/pipe.yaml")
    loaded = load([Path("d"), Path("missing")])
    assert [str(e) for e in loaded.errors] == [
        "d/nowhere.yaml: cannot be read: No such file or directory",
        "d/out.yaml: is a symbolic link that leads out of the directory; put the file itself here, or name it with -f",
        "d/pipe.yaml: is no regular file",
        "missing: cannot be read: No such file or directory",
    ]
    assert refs(loaded) == ["Host/alpha"]


def test_the_current_directory_is_not_in_the_names() -> None:
    write("kind: 1", name="d/a.yaml")
    assert str(load([Path()]).errors[0]).startswith("d/a.yaml:1:1: ")
    assert str(load([Path("d")]).errors[0]).startswith("d/a.yaml:1:1: ")
    assert load([Path()]).revision == load([Path.cwd()]).revision


def test_the_revision_is_of_names_and_contents_and_not_of_where_they_are() -> None:
    write(HOST, name="d/a.yaml")
    write(HOST, name="e/a.yaml")
    write(HOST, name="f/b.yaml")
    write(HOST + "# more\n", name="g/a.yaml")
    revisions = [load([Path(name)]).revision for name in "defg"]
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3


def test_a_cache_reads_only_what_changed_and_answers_the_same() -> None:
    cache = LoadCache()
    for name, text in (("host", HOST), ("image", IMAGE), ("vm", VM)):
        write(text, name=f"d/{name}.yaml")
    before = load([Path("d")], cache)
    assert load([Path("d")], cache) is before
    write(VM.replace("4Gi", "5Gi"), name="d/vm.yaml")
    after = load([Path("d")], cache)
    assert after == load([Path("d")])
    assert after.fleet.get("Host", "alpha") is before.fleet.get("Host", "alpha")
    assert after.documents["VirtualMachine/web01"] != before.documents["VirtualMachine/web01"]


def test_a_small_cache_forgets_and_answers_the_same() -> None:
    cache = LoadCache(max_bytes=len(HOST) + 10)  # one of them at a time
    write(HOST, name="d/a.yaml")
    write(IMAGE, name="d/b.yaml")
    write(VM, name="d/c.yaml")
    assert load([Path("d")], cache).documents == load([Path("d")]).documents
    first = load([Path("d/b.yaml")], cache).fleet.get("Image", "debian12")
    assert load([Path("d/a.yaml")], cache).fleet.get("Host", "alpha")
    again = load([Path("d/b.yaml")], cache).fleet.get("Image", "debian12")
    assert again == first
    assert again is not first, "the image was forgotten for the host"


def test_what_is_stored_is_what_was_written_and_no_defaults() -> None:
    document = load([write(VM)]).documents["VirtualMachine/web01"]
    assert document["spec"] == {"image": "debian12", "rootDisk": {"size": "4Gi"}}


def test_the_examples_load_and_what_is_stored_of_them_is_read_as_the_same() -> None:
    loaded = load([EXAMPLES])
    assert [str(error) for error in loaded.errors] == []
    assert {ref.partition("/")[0] for ref in loaded.documents} == set(kinds())
    for resource in loaded.fleet:
        stored = json.loads(json.dumps(loaded.documents[resource.ref]))
        assert resource_of(stored) == resource
        assert document_of(resource_of(stored)) == stored
