"""``salvusctl explain`` and ``salvusctl schema``: what the docstrings become."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from resources.base import AnyKind
from resources.envelope import manifest_model
from resources.errors import ManifestError
from resources.fleet import kinds
from resources.schema import DIALECT, FieldSummary, explain, schema
from resources.schema_tree import Node, root_node
from resources.words import WORDS

KINDS = list(kinds().values())


def paths(node: Node, path: str) -> Iterator[str]:
    """All fields there are, as a user may ask for them."""
    while (entry := node.entry()) is not None:
        node = entry
    yield path
    for name in node.fields():
        inner = node.field(name)
        assert inner is not None
        yield from paths(inner, f"{path}.{name}")


ALL_FIELDS = [path for kind in KINDS for path in paths(root_node(manifest_model(kind)), kind.name)]


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_every_field_of_every_kind_is_explained(path: str) -> None:
    found = explain(path)
    assert found.path == path
    assert found.description.endswith("."), "a sentence, from the docstring"
    assert found.type not in {"", "anything", "list of anything", "mapping of anything"}
    assert all(summary.description for summary in found.fields)


def test_a_field_with_all_that_can_be_said() -> None:
    found = explain("VirtualMachine.spec.disruption.ceiling")
    assert found.type == "one of live, reload, restart, reboot, replace"
    assert (found.required, found.default) == (False, '"restart"')
    assert found.allowed == ("live", "reload", "restart", "reboot", "replace")
    assert found.description == "The highest grade of change that is made by itself; changes above wait, and say so."


@pytest.mark.parametrize(
    ("field", "type_", "words"),
    [
        ("vm.interfaces.model", "one of virtio, e1000", ""),
        ("vm.rootDisk.cache", 'one of "", none, writeback, writethrough, directsync, unsafe', ""),
        ("vm.cpuMax", "whole number from 1 to 512", ""),
        ("vm.memory", "size", "a whole number with a unit: k, M, G, T, Ki, Mi, Gi or Ti"),
        ("vm.ssh.connectTimeout", "duration", "days, hours, minutes and seconds"),
        ("vm.interfaces.mac", "MAC address", "six pairs of hexadecimal digits"),
        ("vm.interfaces.nameservers", "list of IP address", "an IP address"),
        ("service.files.mode", "mode of four octal digits", 'a mode of four octal digits, as in "0644"'),
        ("service.packages", "list of Debian package name", "a Debian package name, as in nginx or libc6:amd64"),
    ],
)
def test_what_is_allowed_is_said_in_words(field: str, type_: str, words: str) -> None:
    found = explain(field)
    assert (found.type, found.words) == (type_, words)


def described(schema: object) -> Iterator[dict[str, object]]:
    """All schemas of values within one."""
    if isinstance(schema, dict):
        yield schema
        # What is said of keys belongs to the field that has them.
        for name, inner in schema.items():
            yield from described(inner) if name != "propertyNames" else ()
    elif isinstance(schema, list):
        for inner in schema:
            yield from described(inner)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_pattern_is_without_words_and_no_backticks_are_double(kind: AnyKind) -> None:
    found = schema(kind)
    assert [one for one in described(found) if isinstance(one.get("pattern"), str) and WORDS not in one] == []
    assert "``" not in json.dumps(found)


def test_defaults_are_shown_as_they_are_written() -> None:
    assert explain("vm.memory").default == '"1Gi"'
    assert explain("host.ssh.commandTimeout").default == '"1m"'
    assert explain("vm.graphics").default == "", "the fields inside have defaults of their own"


def test_fields_inside_are_listed_with_their_first_sentence() -> None:
    fields = explain("service.needs").fields
    assert fields[0] == FieldSummary("service", "name", False, "A Service.")
    assert [field.name for field in fields] == ["service", "virtualMachine", "host", "condition"]


def test_required_fields_say_so() -> None:
    assert explain("vm.spec.image").required
    assert not explain("vm.spec.cpu").required
    assert [field.name for field in explain("image.spec").fields if field.required] == ["source", "sha256"]


@pytest.mark.parametrize(
    "words",
    [
        "VirtualMachine.spec.interfaces.mac",
        "virtualmachines.spec.interfaces.mac",
        "vm.interfaces.mac",
        "vm.spec.interfaces[0].mac",
        "VMS.interfaces[].mac",
    ],
)
def test_fields_may_be_named_in_several_ways(words: str) -> None:
    found = explain(words)
    assert found.path == "VirtualMachine.spec.interfaces.mac"
    assert found.examples == ("52:54:00:12:34:56",)


def test_keys_that_users_choose_are_what_they_hold() -> None:
    assert explain("service.environment").type == "mapping of text"
    assert explain("service.environment.PATH").type == "text"
    assert explain("vm.metadata.labels").type == "mapping of label value"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("vm.spec.memry", "VirtualMachine.spec has no field 'memry'; did you mean 'memory'?"),
        ("vm.memry", "VirtualMachine.spec has no field 'memry'; did you mean 'memory'?"),
        ("vm.spec.memory_max", "VirtualMachine.spec has no field 'memory_max'; did you mean 'memoryMax'?"),
        ("vm.spec.memory.size", "VirtualMachine.spec.memory has no field 'size'"),
        ("host.zzz", "Host.spec has no field 'zzz'; there are: address, hypervisor, schedulable, ssh"),
        (
            "hots",
            f"there is no kind 'hots'; did you mean 'Host'? There are: {', '.join(kinds())}",
        ),
        ("", f"there is no kind ''; there are: {', '.join(kinds())}"),
    ],
)
def test_what_there_is_not(words: str, message: str) -> None:
    with pytest.raises(ManifestError) as error:
        explain(words)
    assert str(error.value) == message


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_schema_of_a_kind_is_whole(kind: AnyKind) -> None:
    found = schema(kind)
    text = json.dumps(found)
    assert found["$schema"] == DIALECT
    assert found["required"] == ["apiVersion", "kind", "metadata", "spec"]
    assert f'"const": "{kind.name}"' in text
    references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    definitions = found["$defs"]
    assert isinstance(definitions, dict)
    assert references <= definitions.keys()
    mappings = [d for d in (found, *definitions.values()) if d.get("type") == "object"]
    assert all(mapping["additionalProperties"] is False for mapping in mappings), "unknown fields are errors there too"
