"""validate, explain and schema: verbs that need no store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resources.fleet import kinds
from salvusctl.exits import Code
from salvusctl.outputs import Validation
from salvusctl.schema import SCHEMAS, output_schema
from tests.fast.cli import HOST, IMAGE, SERVICE, Cli, cli

__all__ = ["cli"]
OF_GROUPS = ("disk trash", "firewall show", "firewall test", "lab status", "store status", "vpn revoke", "vpn status")
SCHEMA_FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def test_validate_says_what_is_in_order_and_stores_nothing(cli: Cli) -> None:
    assert cli("validate", cli.write(HOST, IMAGE)).out == "2 resources in order\n"
    assert not cli.store.exists()


def test_validate_shows_all_errors_of_all_files(cli: Cli) -> None:
    cli.write(HOST.replace("address: 192.0.2.1", "adress: 192.0.2.1"), name="a.yaml")
    cli.write(SERVICE.replace("content:", "contents:"), name="b.yaml")
    err = cli("validate", "-f", str(cli.folder / "a.yaml"), str(cli.folder / "b.yaml"), code=Code.INPUT).err
    assert f"error: {cli.folder}/a.yaml:6:3: spec.adress: " in err
    assert "did you mean 'address'" in err
    assert f"error: {cli.folder}/b.yaml:7:35: spec.files[0].contents: " in err


def test_validate_as_json(cli: Cli) -> None:
    answer = cli("validate", cli.write(SERVICE), "-o", "json", code=Code.INPUT)
    found = Validation.model_validate_json(answer.out)
    assert not found.valid
    assert found.errors[0].field == "spec.machines.names[0]"
    assert found.errors[0].line == 6
    assert answer.err == ""


@pytest.mark.parametrize("name", [None, "notes.txt", "comment.yaml"])
def test_nothing_to_validate_is_an_error(cli: Cli, name: str | None) -> None:
    folder = cli.folder / "empty"
    folder.mkdir()
    if name:
        (folder / name).write_text("# nothing\n")
    message = f"there are no manifests in {folder}"
    answer = cli("validate", str(folder), code=Code.INPUT)
    assert answer.err.startswith(f"error: {message}\n  hint: ")
    assert answer.out == ""
    found = Validation.model_validate_json(cli("validate", str(folder), "-o", "json", code=Code.INPUT).out)
    assert not found.valid
    assert [error.message for error in found.errors] == [message]
    assert message in cli("diff", "-f", str(folder), code=Code.INPUT).err


def test_validate_reads_standard_input(cli: Cli) -> None:
    assert cli("validate", "-", stdin=HOST).out == "1 resource in order\n"
    assert "stdin:" in cli("validate", "-f", "-", stdin="kind: Hots", code=Code.INPUT).err


def test_the_manifests_of_the_context_are_the_default(cli: Cli) -> None:
    assert "no manifests were named" in cli("validate", code=Code.INPUT).err
    (cli.folder / "config.yaml").write_text("contexts: [{name: test, manifests: fleet}]")
    (cli.folder / "fleet").mkdir()
    (cli.folder / "fleet/host.yaml").write_text(HOST)
    assert cli("validate").out == "1 resource in order\n"


def test_explain(cli: Cli) -> None:
    out = cli("explain", "vm.spec.memory").out
    assert out.startswith("VirtualMachine.spec.memory: size\n")
    assert "Memory" in out
    assert "allowed: a whole number with a unit" in out
    lines = cli("explain", "host.spec").lines
    assert any(line.startswith("address IP address or DNS name *") for line in lines)
    assert "did you mean" in cli("explain", "hots", code=Code.INPUT).err
    assert {line.split()[0] for line in cli("explain").lines[1:]} == set(kinds())


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_schema_of_each_kind(cli: Cli, kind: str) -> None:
    schema = cli("schema", kind.lower()).data
    assert schema["properties"]["kind"]["const"] == kind


def test_schema_of_all_kinds(cli: Cli) -> None:
    schema = cli("schema").data
    assert [one["title"] for one in schema["oneOf"]] == list(kinds())


def test_schema_of_what_there_is_not(cli: Cli) -> None:
    assert "there is no kind 'hots'" in cli("schema", "hots", code=Code.INPUT).err
    assert "'got' prints no JSON; did you mean 'get'" in cli("schema", "--of", "got", code=Code.INPUT).err
    assert "not both" in cli("schema", "host", "--of", "get", code=Code.INPUT).err


@pytest.mark.parametrize("verb", [*SCHEMAS, *OF_GROUPS])
def test_committed_schemas_are_what_is_printed_by(verb: str) -> None:
    path = SCHEMA_FOLDER / f"{verb.replace(' ', '-')}.json"
    assert json.loads(path.read_text()) == output_schema(verb), f"salvusctl schema --of '{verb}' > {path}"


def test_no_other_schemas_are_committed() -> None:
    assert {path.stem for path in SCHEMA_FOLDER.iterdir()} == {v.replace(" ", "-") for v in [*SCHEMAS, *OF_GROUPS]}
