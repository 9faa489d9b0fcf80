"""Texts that end up on machines, addresses, MACs, and quantities."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from resources import fields, net, quantity
from resources.words import WORDS
from tests.fast.manifests import KEY

NASTY = ["", " ", "a\nb", "a\0b", "a\tb", "../a", "a/../b", "/a/../b", "//a", "/a/", "/a//b", "/", "/./a", " /a", "/a "]


def refuses(type_: Any, text: object) -> bool:
    try:
        TypeAdapter(type_).validate_python(text)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("text", [*NASTY, "a", "~/a", "/a\u2028b", "/a\x85b", "/a\x7f"])
def test_paths_are_absolute_normal_and_of_one_line(text: str) -> None:
    assert refuses(fields.AbsolutePath, text)


@pytest.mark.parametrize("text", ["/a", "/a b/ü", "/etc/x\\x2dy", "/..a/b..", "/a'\"$`"])
def test_any_name_may_be_in_a_path(text: str) -> None:
    assert not refuses(fields.AbsolutePath, text)


def test_paths_on_the_controller_may_begin_at_home() -> None:
    assert not refuses(fields.ControllerPath, "~/.ssh/id")
    assert refuses(fields.ControllerPath, "~root/.ssh/id")
    assert refuses(fields.ControllerPath, "~/../id")


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (fields.User, ["www-data", "_apt", "root"], ["-x", "Root", "a b", "a;b", "", "a\n", "1a"]),
        (fields.DebianPackage, ["nginx", "libc6:amd64", "g++"], ["-y", "Nginx", "a b", "nginx;x", "nginx=1", "a\n"]),
        (
            fields.UnitName,
            ["nginx.service", "getty@tty1.service", "dev-a\\x2db.mount"],
            ["nginx", "--x.service", "a b.service", "a/b.service", "a.service\n", "a.slice", "$x.service"],
        ),
        (fields.DeviceName, ["br0", "eth0.100"], ["-x", "a b", "a/b", "a" * 16, "", "eth0\n"]),
        (fields.VariableName, ["A", "_x9"], ["A B", "9A", "A=B", ""]),
        (fields.PlainPath, ["/srv/hub", "/usr/bin/a+b"], ["/a b", "/a\\", "/a'", "a", "/a\n", "/a$b"]),
        (fields.Sha256, ["a" * 64], ["A" * 64, "a" * 63, "a" * 65, "g" * 64]),
        (fields.Mode, ["0644", "4755"], ["644", "0o644", "0888", "rw-r--r--", 644, 420]),
    ],
)
def test_names_let_nothing_through_that_a_shell_or_systemd_would_read(
    type_: Any, good: list[str], bad: list[object]
) -> None:
    assert [text for text in good if refuses(type_, text)] == []
    assert [text for text in bad if not refuses(type_, text)] == []


def test_a_mode_without_quotes_is_told_to_have_quotes() -> None:
    with pytest.raises(ValidationError, match="in quotes"):
        TypeAdapter(fields.Mode).validate_python(644)


def test_the_schema_has_the_patterns() -> None:
    found = TypeAdapter(fields.User).json_schema()
    assert found["pattern"] == "^(?:[a-z_][a-z0-9_-]{0,31})$"
    assert found[WORDS].startswith("a user or group name: ")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-dss AAAA",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 not*base64",
        KEY[:-4],
        KEY.replace("ssh-ed25519", "ssh-rsa", 1),
        'command="x" ' + KEY,
        KEY + "\n" + KEY,
        KEY + "\ncommand",
    ],
)
def test_broken_public_keys_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"key|control character"):
        fields.public_key(line)


def test_public_keys_may_have_a_comment_which_pins_do_without() -> None:
    assert fields.public_key(KEY + " who@where it is") == KEY + " who@where it is"
    assert fields.bare_key(KEY + " who@where it is") == KEY


@given(st.binary(min_size=32, max_size=32))
def test_every_ed25519_key_is_taken_and_none_that_is_cut(data: bytes) -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + data
    assert fields.public_key("ssh-ed25519 " + base64.b64encode(blob).decode())
    with pytest.raises(ValueError, match="cut short"):
        fields.public_key("ssh-ed25519 " + base64.b64encode(blob[:-1]).decode())


@given(st.uuids(), st.text())
def test_derived_macs_are_stable_unicast_and_valid(uid: object, interface: str) -> None:
    mac = net.derived_mac(str(uid), interface)
    assert mac == net.derived_mac(str(uid), interface)
    assert net.mac(mac) == mac
    assert mac.startswith("52:54:")


def test_derived_macs_are_those_that_running_machines_have() -> None:
    """A change of this number changes the MAC of every machine there is."""
    assert net.derived_mac("6f1e3c1e-52f5-4f0b-9f6e-5f8f6f1b7a01", "eth0") == "52:54:bc:25:5b:a7"


def test_interfaces_and_machines_have_different_macs() -> None:
    macs = {net.derived_mac(uid, nic) for uid in map(str, range(500)) for nic in ("eth0", "eth1")}
    assert len(macs) == 1000


@pytest.mark.parametrize(
    "text", ["", "52:54:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", "52-54-00-12-34-56", "g" * 17]
)
def test_macs_that_no_machine_may_have(text: str) -> None:
    assert refuses(net.Mac, text)


def test_a_mac_has_one_spelling() -> None:
    assert net.mac("52:54:00:AB:cd:EF") == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize(
    "text",
    ["10.1.1.2", "10.1.1.0/24", "10.1.1.255/24", "10.1.1.2/33", "10.1.1/24", "x/24", "/", "fd00::/64", "10.1.1.2/"],
)
def test_interface_addresses_need_a_prefix_and_must_be_usable(text: str) -> None:
    assert refuses(net.InterfaceAddress, text)


@pytest.mark.parametrize("text", ["10.1.1.2/24", "10.1.1.0/31", "10.1.1.1/32", "fd00::2/64", "fd00::/127"])
def test_interface_addresses(text: str) -> None:
    assert net.interface_address(text) == text


def test_interface_addresses_have_one_spelling() -> None:
    assert net.interface_address("FD00:0:0::2/64") == "fd00::2/64"


@pytest.mark.parametrize("text", ["", "a b", "-a", "a..b", "a.", "10.1.1", "300.1.1.1", "a;b", "x" * 64, "a\n", "a/b"])
def test_hosts_have_an_address_or_a_dns_name(text: str) -> None:
    assert refuses(net.HostAddress, text)


def test_host_addresses_have_one_spelling() -> None:
    assert net.host_address("Host1.Example.ORG") == "host1.example.org"
    assert net.host_address("FD00::0:1") == "fd00::1"


@given(st.ip_addresses(), st.data())
def test_an_address_is_in_its_own_network(address: ipaddress.IPv4Address, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    text = f"{address}/{prefix}"
    assert ipaddress.ip_address(net.without_prefix(text)) in net.network_of(text)


@given(st.integers(0, 2**60))
def test_sizes_are_written_as_they_are_read(size: int) -> None:
    adapter: TypeAdapter[int] = TypeAdapter(quantity.Bytes)
    assert adapter.validate_python(quantity.format_bytes(size)) == size
    assert adapter.validate_python(json.loads(adapter.dump_json(size))) == size


@given(st.integers(0, 10**7))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    assert quantity.parse_duration(quantity.format_duration(seconds)) == seconds


@given(st.integers(0, 2**60))
def test_whole_mebibytes_are_the_next_ones(size: int) -> None:
    rounded = quantity.whole_mebibytes(size)
    assert rounded % 2**20 == 0
    assert 0 <= rounded - size < 2**20


@pytest.mark.parametrize("text", ["2Gi\n", "2 Gi", "-1", "1.5Gi", "2gi", "", 2, None, "01"])
def test_sizes_that_are_refused(text: object) -> None:
    assert refuses(quantity.Bytes, text)


@pytest.mark.parametrize("text", ["30s\n", "30", "s", "", "1m1h", 30])
def test_durations_that_are_refused(text: object) -> None:
    assert refuses(quantity.Seconds, text)


@given(st.text())
def test_lines_have_one_line_for_every_tool(text: str) -> None:
    if not refuses(fields.Line, text):
        assert len(text.splitlines()) <= 1
        assert re.search("[\x00-\x1f\x7f]", text) is None
        text.encode()
