"""What a virtual machine is told at its first boot: read back as cloud-init reads it."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from resources.cloud_init import network_config, user_data
from resources.vm_spec import CloudInit, Interface
from tests.fast.manifests import KEY

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def told(**spec: Any) -> dict[str, Any]:
    """``user-data``, as PyYAML, and so cloud-init, reads it."""
    text = user_data(CloudInit.model_validate(spec))
    assert text.startswith("#cloud-config\n")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def network(nic: dict[str, Any], mac: str = "52:54:00:00:00:01") -> dict[str, Any]:
    """What an interface of that name is told."""
    config = json.loads(network_config([(Interface.model_validate({"name": "eth0"} | nic), mac)]))
    assert config["version"] == 2
    found: dict[str, Any] = config["ethernets"]["eth0"]
    return found


def test_root_gets_the_keys_and_may_log_in() -> None:
    data = told(sshAuthorizedKeys=[KEY])
    assert data["users"] == [{"name": "root", "ssh_authorized_keys": [KEY]}]
    assert data["disable_root"] is False


def test_another_user_is_made_who_may_become_root_and_has_no_password() -> None:
    data = told(user="operator", sshAuthorizedKeys=[KEY])
    assert data["disable_root"] is True
    assert data["users"] == [
        {
            "name": "operator",
            "ssh_authorized_keys": [KEY],
            "shell": "/bin/bash",
            "lock_passwd": True,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
        }
    ]


def test_the_controller_may_log_in_too_and_no_key_is_there_twice() -> None:
    other = KEY.replace("IeIn", "IeIm")
    text = user_data(CloudInit.model_validate({"sshAuthorizedKeys": [KEY]}), (other, KEY))
    assert yaml.safe_load(text)["users"][0]["ssh_authorized_keys"] == [KEY, other]


def test_nobody_comes_in_with_a_password_or_knows_the_host_keys_of_the_image() -> None:
    assert told()["ssh_pwauth"] is False
    assert told()["ssh_deletekeys"] is True


def test_host_keys_are_added_where_they_are_made() -> None:
    """The seed appends a block to this text: it must be a block mapping without such a key."""
    text = user_data(CloudInit())
    assert "ssh_keys" not in yaml.safe_load(text)
    assert yaml.safe_load(f"{text}ssh_keys:\n  ed25519_public: a\n") == told() | {"ssh_keys": {"ed25519_public": "a"}}


def test_hot_plugged_cpus_and_memory_are_brought_online() -> None:
    (rule,) = told()["write_files"]
    assert rule["path"].startswith("/etc/udev/rules.d/")
    assert [line.split(",")[0] for line in rule["content"].splitlines()] == ['SUBSYSTEM=="cpu"', 'SUBSYSTEM=="memory"']


@given(st.lists(TEXT, max_size=4))
def test_commands_are_read_as_they_were_written(commands: list[str]) -> None:
    assert told(runcmd=commands).get("runcmd", []) == commands


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_equal_machines_are_told_equal_text(commands: list[str]) -> None:
    spec = CloudInit.model_validate({"runcmd": commands})
    assert user_data(spec) == user_data(spec.model_copy())


def test_packages_need_fresh_lists() -> None:
    assert told(packages=["nginx"])["package_update"] is True
    assert "package_update" not in told()


def test_interfaces_are_known_by_their_mac_and_get_the_name_that_is_written() -> None:
    assert network({}, "52:54:00:00:00:09") == {
        "match": {"macaddress": "52:54:00:00:00:09"},
        "set-name": "eth0",
        "dhcp4": False,
    }


def test_a_static_address_with_a_way_out() -> None:
    nic = {"address": "10.1.1.2/24", "gateway": "10.1.1.1", "nameservers": ["10.1.1.1"]}
    config = network(nic)
    assert config["addresses"] == ["10.1.1.2/24"]
    assert config["routes"] == [{"to": "0.0.0.0/0", "via": "10.1.1.1"}]
    assert config["nameservers"] == {"addresses": ["10.1.1.1"]}
    assert network({"dhcp": True})["dhcp4"] is True


def test_the_way_out_of_the_new_internet() -> None:
    config = network({"address": "fd00::2/64", "gateway": "fd00::1"})
    assert config["gateway6"] == "fd00::1"
    assert "routes" not in config
