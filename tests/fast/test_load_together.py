"""No error hides another: what is wrong anywhere does not change what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.load import load
from tests.fast.documents import FLEET, HOST, IMAGE, SERVICE, VM, cases, changed

BROKEN = "a: [\n"
NIC = "  interfaces: [{{name: eth0, address: 192.0.2.{}/24, mac: {}, model: {}}}]\n"
MAC = "52:54:00:00:00:01"


def told(folder: Path, files: dict[str, str]) -> list[str]:
    """All errors of a directory of these files, without where it is."""
    for old in folder.glob("*.yaml"):
        old.unlink()
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [str(error).removeprefix(f"{folder}/") for error in load([folder]).errors]


def vm(name: str, more: str = "") -> str:
    return VM.replace("web01", name) + more


def service(name: str, more: str = "") -> str:
    return SERVICE.replace("hub", name) + more


def test_one_of_each_kind_of_error_at_once(tmp_path: Path) -> None:
    files = {
        "a-syntax": BROKEN,
        "b-fleet": "---\n".join(FLEET),
        "c-bytes": vm("c", "  memory: 2 gigs\n").replace("debian12", "debain12"),
        "d-missing": vm("d", "  ssh: {via: bata}\n").replace("  rootDisk: {size: 4Gi}\n", ""),
        "e-unknown": vm("e", NIC.format(7, MAC, "virtio") + "  memry: 2Gi\n"),
        "f-double": vm("f", NIC.format(7, MAC, "vertio")),
        "g-kind": vm("g").replace("VirtualMachine", "VirtualMachin"),
        "h-twice": vm("web01", "  placement: {host: alhpa}\n"),
        "i-circle": service("i", "  needs: [{service: j}]\n  enabled: maybe\n"),
        "j-circle": service("j", "  needs: [{service: i}, {virtualMachine: g}]\n"),
        "k-template": service("k", "  files: [{path: x, template: '{{ nope }}'}]\n"),
        "l-jump": vm("l", "  ssh: {via: m}\n  cpu: -1\n"),
        "m-jump": vm("m", "  ssh: {via: l}\n  cpu: two\n"),
        "n-key": vm("n", "  memory: 2Gi\n  memory: 4Gi\n  cpuMax: 0\n"),
        "o-name": service("alpha").replace("kind: Service", "kind: VirtualMachine"),
    }
    own = "already; every interface has its own"
    errors = told(tmp_path, files)
    assert [(error[0], error.split(": ", 2)[1]) for error in errors] == [
        ("a", "is not YAML"),
        ("c", "spec.image"),
        ("c", "spec.memory"),
        ("d", "spec.rootDisk"),
        ("d", "spec.ssh.via"),
        ("e", "spec.memry"),
        ("f", "spec.interfaces[0].address"),
        ("f", "spec.interfaces[0].mac"),
        ("f", "spec.interfaces[0].model"),
        ("g", "kind"),
        ("h", "metadata.name"),
        ("h", "spec.placement.host"),
        ("i", "spec.needs[0].service"),
        ("i", "spec.enabled"),
        ("k", "spec.files[0].path"),
        ("k", "spec.files[0].template"),
        ("l", "spec.ssh.via"),
        ("l", "spec.cpu"),
        ("m", "spec.ssh.via"),
        ("m", "spec.cpu"),
        ("n", "spec.memory"),
        ("n", "spec.cpuMax"),
        ("o", "metadata.name"),
        ("o", "spec.image"),
        ("o", "spec.rootDisk"),
        ("o", "spec.machines"),
    ]
    assert errors[6].endswith(f"VirtualMachine/e has the address 192.0.2.7 {own}")


CASES = {"host": HOST, "service": SERVICE, "virtual_machine": VM}
CHANGES = {kind: [manifest, *(changed(case, manifest) for case in cases(kind))] for kind, manifest in CASES.items()}


@given(data=st.data(), broken=st.booleans())
def test_together_all_is_told_that_is_told_of_each_alone_and_nothing_else(
    data: st.DataObject, broken: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each kind's manifest changed, or right; first every one among others that are right, then all of them."""
    folder = tmp_path_factory.getbasetemp() / "together"
    folder.mkdir(exist_ok=True)
    right = {**CASES, "image": IMAGE}
    wrong = {kind: data.draw(st.sampled_from(changes)) for kind, changes in CHANGES.items()}
    alone = [error for kind, text in wrong.items() for error in told(folder, {**right, kind: text})]
    together = told(folder, {**right, **wrong, **({"a": BROKEN} if broken else {})})
    assert sorted(together) == sorted(alone + ([error for error in together if error.startswith("a.")]))
