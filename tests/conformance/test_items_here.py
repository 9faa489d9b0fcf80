"""Every item type that needs no systemd and no apt, tried with the real programs in a folder of this machine."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Present, Rejected
from drivers.items import paths
from drivers.items.codec import item_types
from drivers.items.directory import Directory
from drivers.items.file import File
from drivers.items.file_block import FileBlock
from drivers.items.file_set import FileSet
from drivers.items.host_key import HostKey
from drivers.items.image_file import ImageFile
from drivers.items.key_pair import MARK, KeyPair
from drivers.items.seed import Seed
from drivers.items.shell import ShellItem
from drivers.items.system import PROBE, System
from drivers.items.tunnel import Tunnel
from drivers.items.volume import Volume
from tests.conformance.items import Example, Machine

pytestmark = pytest.mark.conformance

IMAGE = b"\0" * 200_000 + b"image"
HOSTILE = "-n a'b\"c $(touch x) `id` \\n;*\n\té\u2028\x0b\r"
MACHINE = Machine()
# These need a machine with systemd and an archive of packages: tests/lab/test_lab_items.py. System is never changed.
# Those of the trash are made by nobody: test_items_trash.py. What is in the kernel: test_nft_table.py; connections:
# test_reach_live.py.
ELSEWHERE = {
    "Attempts",
    "KeyPair",
    "NftTable",
    "Package",
    "SystemdUnit",
    "System",
    "Trash",
    "Tunnel",
    "UfwRules",
    "Undeleted",
    "UnitFiles",
}


def shell(text: str, *paths: str) -> str:
    return text.format(*map(shlex.quote, paths))


def file(root: str) -> Example:
    path = f"{root}/file"
    item = File(path, f"{HOSTILE}\nSALVUS_EOF\n$HOME", "0640", "daemon", "1")
    damages = ("echo more >>{0}", "chmod 0644 {0}", "chown root:root {0}", "rm {0}", ": >{0}")
    return Example(item, damages=tuple(shell(text, path) for text in damages))


def file_block(root: str) -> Example:
    path = f"{root}/hosts"
    theirs = File(path, f"127.0.0.1 localhost\n{HOSTILE}", "0640", "daemon", "1")
    item = FileBlock(path, "VPN/net", f"10.0.0.1 one\n{HOSTILE}\nSALVUS_EOF\n")
    damages = (
        "sed -i 's/one$/two/' {0}",
        "sed -i '/: begin/d' {0}",
        "sed -i '/: end/d' {0}",
        "cat {0} {0} >{0}.x; cat {0}.x >{0}; rm {0}.x",
        "rm {0}",
        ": >{0}",
    )
    return Example(item, (theirs,), tuple(shell(text, path) for text in damages))


def file_set(root: str) -> Example:
    path = f"{root}/set"
    item = FileSet(path, (("one", f"{HOSTILE}\nSALVUS_EOF\n"), ("two.b-c", ""), ("three", "3\n")))
    damages = (
        "echo more >>{0}/one",
        "rm {0}/three",
        "echo key >{0}/stranger",
        "mkdir {0}/one.d; touch {0}/one.d/x",
        "rm {0}/one; mkdir {0}/one",
        "ln -s /etc/passwd {0}/link",
        "mv {0}/one {0}/elsewhere; ln -s elsewhere {0}/one",
        "chmod 0777 {0}",
        "chown daemon {0}",
        "rm -r {0}",
        "touch {0}/'a\nb' {0}/'-n' {0}/'*'",
    )
    return Example(item, damages=tuple(shell(text, path) for text in damages))


def directory(root: str) -> Example:
    path = f"{root}/a/b"
    damages = ("chmod 2755 {0}", "chown daemon {0}", "rmdir {0}")
    return Example(Directory(path, "0750", "root", "daemon"), damages=tuple(shell(text, path) for text in damages))


def image_file(root: str) -> Example:
    source = Path(root, "source")
    source.write_bytes(IMAGE)
    path = f"{root}/images/image.raw"
    item = ImageFile(path, str(source), hashlib.sha256(IMAGE).hexdigest().upper())
    damages = ("echo more >>{0}", "touch {0}", "cp {0} {0}.x; mv {0}.x {0}", "rm {0}", "rm {1}/images/.salvus-*")
    return Example(item, (Directory(f"{root}/images"),), tuple(shell(text, path, root) for text in damages))


def volume(root: str) -> Example:
    base = image_file(root)
    path = f"{root}/volumes/root.qcow2"
    item = Volume(path, 1_000_001, base.item.name, "raw")
    return Example(item, (*base.before, base.item, Directory(f"{root}/volumes")), (shell("rm {0}", path),))


def host_key(root: str) -> Example:
    path = f"{root}/seeds/key"
    damages = ("rm {0}", "rm {0}.pub", "chmod 0644 {0}", ": >{0}.pub", ": >{0}")
    return Example(HostKey(path), (Directory(f"{root}/seeds"),), tuple(shell(text, path) for text in damages))


def seed(root: str) -> Example:
    key = host_key(root)
    path = f"{root}/seeds/one.iso"
    item = Seed(path, key.item.name, "id", "name", f"#cloud-config\n# {HOSTILE!r}\nusers: []", "version: 2\n")
    damages = (
        "rm {0}",
        "echo more >>{0}",
        "chmod 0644 {0}",
        "rm {1}/seeds/.salvus-*",
        "echo ssh-ed25519 B >{1}/seeds/key.pub",
    )
    return Example(item, (*key.before, key.item), tuple(shell(text, path, root) for text in damages))


EXAMPLES: dict[str, Callable[[str], Example]] = {
    "Directory": directory,
    "File": file,
    "FileBlock": file_block,
    "FileSet": file_set,
    "HostKey": host_key,
    "ImageFile": image_file,
    "Seed": seed,
    "Volume": volume,
}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    place = tmp_path / HOSTILE
    place.mkdir()
    yield str(place)
    assert not (Path.cwd() / "x").exists(), "a name was run as a command"


def contents(root: str) -> dict[str, tuple[int, ...]]:
    """All that a write could change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in Path(root).rglob("*"):
        about = path.lstat()
        found[str(path)] = (about.st_ino, about.st_mode, about.st_uid, about.st_gid, about.st_size, about.st_mtime_ns)
    return found


def test_every_item_type_is_tried_here_or_in_the_lab() -> None:
    shell_items = {name for name, type_ in item_types().items() if issubclass(type_, ShellItem)}
    assert shell_items == set(EXAMPLES) | ELSEWHERE


@pytest.mark.parametrize("kind", EXAMPLES)
def test_applied_twice_it_writes_nothing(kind: str, root: str) -> None:
    example = EXAMPLES[kind](root)
    MACHINE.making_it_twice_writes_nothing(example)
    before = contents(root)
    MACHINE.mended(example.item)
    assert contents(root) == before


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_damage_is_seen_and_mended(kind: str, root: str) -> None:
    example = EXAMPLES[kind](root)
    for item in (*example.before, example.item):
        MACHINE.mended(item)
    MACHINE.every_damage_is_seen_and_mended(example)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_killed_anywhere_it_converges_and_leaves_nothing_over(kind: str, root: str) -> None:
    left: set[frozenset[str]] = set()

    def clean() -> None:
        if Path(root, "marker").exists():
            left.add(frozenset(contents(root)))
        shutil.rmtree(root)
        Path(root).mkdir()
        Path(root, "marker").touch()
        EXAMPLES[kind](root)

    steps = MACHINE.killed_anywhere_it_converges(EXAMPLES[kind](root), clean)
    clean()
    assert steps > 3
    assert len(left) == 1, left


@pytest.mark.parametrize("kind", EXAMPLES)
def test_failing_anywhere_it_leaves_nothing_half_written(kind: str, root: str) -> None:
    """Nobody would take it away: a deletion of what is not there is none."""

    def clean() -> None:
        shutil.rmtree(root)
        Path(root).mkdir()
        EXAMPLES[kind](root)

    def left() -> list[str]:
        return [str(path) for path in Path(root).rglob(".salvus-*.new*")]

    assert MACHINE.failing_anywhere_it_leaves_nothing(EXAMPLES[kind](root), clean, left) > 3


@pytest.mark.parametrize("kind", sorted(EXAMPLES.keys() - {"Directory", "FileSet"}))
def test_what_a_killed_script_left_goes_with_the_item(kind: str, root: str) -> None:
    example = EXAMPLES[kind](root)
    for item in (*example.before, example.item):
        MACHINE.mended(item)
    new = Path(paths.temporary(getattr(example.item, "path", example.item.name)))
    new.mkdir()
    for ending in ("iso", "pub", "note"):
        Path(f"{new}.{ending}").touch()
    assert MACHINE.delete(example.item).returncode == 0
    assert not list(new.parent.glob(".salvus-*.new*"))


def test_a_script_that_is_ended_for_taking_too_long_sweeps(root: str) -> None:
    script = paths.begin(f"{root}/file") + ': >"$new"\n: >"$new.part"\nkill -TERM $$\nsleep 60\n'
    assert MACHINE.run(["sh", "-eu"], script, b"").returncode == 143
    assert contents(root) == {}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_deleting_it_twice_leaves_nothing_of_it(kind: str, root: str) -> None:
    example = EXAMPLES[kind](root)
    for item in example.before:
        MACHINE.mended(item)
    before = set(contents(root))
    MACHINE.mended(example.item)
    MACHINE.deleting_it_twice_leaves_nothing(example)
    made = {path for path in set(contents(root)) - before if not path.startswith(f"{root}/trash")}
    assert made <= {f"{root}/a"}, "but for a directory's parent, which others may use by now"


LINES = st.lists(
    st.sampled_from(["127.0.0.1 localhost", "# salvus VPN/net: end", "# salvus VPN/other: end", "é", " x"]),
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(before=LINES, content=LINES, behind=LINES, mode=st.sampled_from([0o644, 0o600]), ended=st.booleans())
def test_a_block_leaves_the_rest_of_its_file_as_it_is(
    before: list[str], content: list[str], behind: list[str], mode: int, ended: bool
) -> None:
    first, inner, last = ("".join(f"{line}\n" for line in lines) for lines in (before, content, behind))
    inner = inner.replace("# salvus VPN/net: end\n", "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hosts")
        path.write_text(first)
        path.chmod(mode)
        old, new = (FileBlock(str(path), "VPN/net", text) for text in ("old", inner))
        MACHINE.mended(old)
        with path.open("a") as file:
            file.write(last if ended else last.removesuffix("\n"))
        MACHINE.mended(new)
        assert path.read_text() == first + new.text + last, "where it was"
        assert MACHINE.delete(new).returncode == 0
        assert path.read_text() == first + last
        assert path.stat().st_mode & 0o7777 == mode


def test_without_its_end_a_block_is_none_and_what_follows_is_the_operators(tmp_path: Path) -> None:
    item = FileBlock(f"{tmp_path}/hosts", "VPN/net", "10.0.0.1 one\n")
    MACHINE.mended(item)
    path = Path(item.path)
    path.write_text(path.read_text().replace(f"{item.marks[1]}\n", "10.9.9.9 mine\n"))
    MACHINE.mended(item)
    assert path.read_text() == "10.0.0.1 one\n10.9.9.9 mine\n" + item.text
    path.unlink()
    MACHINE.mended(item)
    assert path.read_text() == item.text
    assert path.stat().st_mode & 0o7777 == 0o644


def test_of_a_set_only_the_files_that_differ_are_written(root: str) -> None:
    item = file_set(root).item
    assert isinstance(item, FileSet)
    MACHINE.mended(item)
    before = contents(root)
    MACHINE.sh(shell("chmod 0700 {0}", item.path))
    MACHINE.mended(item)
    more = FileSet(item.path, (*item.files, ("four", "4\n")))
    MACHINE.mended(more)
    after = contents(root)
    assert {path for path in after if after[path] != before.get(path)} == {item.path, f"{item.path}/four"}


@pytest.mark.parametrize("with_key", [False, True])
def test_a_tinc_network_of_somebody_else_is_left_alone(with_key: bool, tmp_path: Path) -> None:
    item = KeyPair(f"{tmp_path}/rsa_key.priv", "tinc", "public_key/m")
    if with_key:
        Path(item.path).write_text("a key")
        Path(item.public_path).write_text("its public half")

    def refusal() -> Rejected | None:
        state = KeyPair.read([item], MACHINE.probe(item))[item.key]
        return item.refusal(state.fields) if isinstance(state, Present) else None

    assert refusal() is None
    Path(tmp_path, "tinc.conf").write_text("Name = m\n")
    found = refusal()
    assert found is not None
    assert f"{tmp_path}/tinc.conf is there already, and was not written by salvus" in str(found)
    Path(tmp_path, "tinc.conf").write_text(f"{MARK}: x\nName = m\n")
    assert refusal() is None


NAME = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 200
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAME, st.text(st.characters(codec="utf-8"))), max_size=6, unique_by=lambda x: x[0]))
def test_files_of_any_name_and_content_are_written_and_read(named: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [File(f"{folder}/{name}", content) for name, content in named]
        missing = File(f"{folder}/not there", "")
        for item in files:
            MACHINE.mended(item)
            assert Path(item.path).read_bytes() == item.content.encode()
        states = File.read([missing, *files], MACHINE.probe(missing, *files))
    for item in files:
        assert getattr(states[item.key], "fields", None) == item.fields()


def test_a_machine_without_os_release_tells_the_rest_of_itself() -> None:
    text = PROBE.replace("/etc/os-release", "/nothing/here")
    state = System.read([System()], MACHINE.run(["sh"], text, b"").stdout.decode())["System:self"]
    assert isinstance(state, Present)
    assert set(state.facts) == {"boot_id", "hostname", "kernel", "architecture"}


# As iputils-ping prints it with -q: one that answers, and one that does not.
PING = r"""#!/bin/sh
for address; do :; done
echo "PING $address ($address) 56(84) bytes of data."
echo; echo "--- $address ping statistics ---"
case $address in
10.0.0.1|fd00::1) echo '1 packets transmitted, 1 received, 0% packet loss, time 0ms'
    echo 'rtt min/avg/max/mdev = 0.412/0.412/0.412/0.000 ms' ;;
*) echo '1 packets transmitted, 0 received, 100% packet loss, time 0ms'; echo; exit 1 ;;
esac
"""


def test_a_tunnel_is_tried_with_what_ping_says(tmp_path: Path) -> None:
    (tmp_path / "ping").write_text(PING)
    (tmp_path / "ping").chmod(0o755)
    one, two = Tunnel("vpn-a", ("10.0.0.1", "10.0.0.2", "fd00::1")), Tunnel("vpn-b", ())
    done = MACHINE.run(["sh"], f"PATH={shlex.quote(str(tmp_path))}:$PATH\n{Tunnel.probe([one, two])}", b"")
    assert done.stderr == b""
    states = Tunnel.read([one, two], done.stdout.decode())
    nothing = {"handshakes": (), "endpoints": ()}
    assert states[one.key] == Present({"reached": ("10.0.0.1 0.412", "fd00::1 0.412"), **nothing})
    assert states[two.key] == Present({"reached": (), **nothing})
