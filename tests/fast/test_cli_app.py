"""The frame around the verbs: help, loading when used, exit codes, errors, completion."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import salvusctl.exits
from controller.store.base import Conflict, StoreUnavailable
from drivers.base import SalvusError, Unreachable
from resources.errors import ManifestError
from salvusctl.app import VERBS, load
from salvusctl.exits import Code, Missing, UseError, code_of
from salvusctl.get import Output
from tests.fast.cli import HOST, Cli, cli

__all__ = ["cli"]
ROOT = Path(__file__).parents[2]
KNOWN = {*VERBS, "up", "break"}
DOCS = (ROOT / "docs" / "salvusctl.md").read_text()


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb", **environment},
    )


def test_help_lists_every_verb_as_its_own_help_begins(cli: Cli) -> None:
    out = cli("--help").out
    for name, verb in VERBS.items():
        assert re.search(rf"{name} +{re.escape(verb.help[:30])}", out)


@pytest.mark.parametrize("name", sorted(set(VERBS) - {"lab"}))
def test_a_verb_says_of_itself_what_the_list_says(name: str) -> None:
    first = (load(name).help or "").splitlines()[0]
    assert first.rstrip(".").startswith(VERBS[name].help.rstrip("."))


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_takes_the_common_options(cli: Cli, name: str) -> None:
    command = load(name)
    while hasattr(command, "commands"):
        command = next(iter(command.commands.values()))
    assert {"config", "context", "store", "namespace"} <= {param.name for param in command.params}


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"salvusctl \d+\.\d+\.\d+\n", cli("--version").out)


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["valdate"], "salvusctl has no verb 'valdate'; did you mean 'validate'?", "salvusctl"),
        (["lab", "break", "frieze"], "salvusctl lab break has no verb 'frieze'; did you mean 'freeze'?", None),
        (["get", "vms", "-o", "bogus"], f"'bogus' is no value of --output; allowed: {', '.join(Output)}", None),
        (["events", "-o", "jsn"], "'jsn' is no value of --output; allowed: text, json; did you mean 'json'?", None),
        (["completion", "tcsh"], "'tcsh' is no value of SHELL; allowed: bash, zsh, fish", None),
        (["completion"], "SHELL is missing; allowed: bash, zsh, fish", None),
        (["get"], "WHAT is missing", None),
        (["get", "--otput", "json"], "there is no option --otput; did you mean '--output'?", None),
        (["apply", "--timeout", "soon"], "'soon' is no value of --timeout; allowed: a number, at least 0", None),
        (["apply", "--timeout", "-1"], "'-1' is no value of --timeout; allowed: a number, at least 0", None),
        (["lab", "up", "--hosts", "x"], "'x' is no value of --hosts; allowed: a whole number", "salvusctl lab up"),
        (["get", "vms", "-o"], "option '-o' requires an argument", "salvusctl"),
        (["--store", "x"], "missing command", "salvusctl"),
    ],
)
def test_what_cannot_be_meant_is_told_as_all_errors_are(
    cli: Cli, words: list[str], said: str, hint: str | None
) -> None:
    path = hint or " ".join(["salvusctl", *itertools.takewhile(lambda word: word in KNOWN, words)])
    assert cli(*words, code=Code.INPUT).err == f"error: {said}\n  hint: {path} --help\n"


def test_without_a_verb_the_help_is_shown(cli: Cli) -> None:
    answer = cli(code=Code.INPUT)
    assert (answer.out.rstrip(), answer.err) == (cli("--help").out.rstrip(), "")


# What these need for their answer, and no more: the first one is to come at once.
UNWANTED = {
    "--help": "controller resources lab pydantic yaml jinja2",
    "get all": "controller.lower controller.plan controller.leases resources.load resources.templates yaml jinja2",
    "validate": "controller salvusctl.fleet resources.templates resources.vm_items jinja2 sqlite3",
}
NEVER = {"libvirt", "paramiko", "prometheus_client", "watchdog", "lab", "salvusctl.outputs", "salvusctl.apply"}


@pytest.mark.parametrize("words", UNWANTED)
def test_python_m_salvusctl_and_what_quick_verbs_do_not_import(cli: Cli, words: str) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    more = {"--help": [], "get all": ["--store", str(cli.store)], "validate": [str(cli.folder / "fleet.yaml")]}[words]
    code = (
        "import sys, runpy\n"
        "sys.argv = ['salvusctl', *sys.argv[1:]]\n"
        "try: runpy.run_module('salvusctl', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules)"
    )
    done = python("-c", code, *words.split(), *more, SALVUS_CONFIG="", XDG_CONFIG_HOME=str(cli.folder))
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "salvusctl.app" in loaded, done
    assert not loaded & (NEVER | set(UNWANTED[words].split()))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestError("x"), Code.INPUT),
        (UseError("x"), Code.INPUT),
        (Missing("x"), Code.DIFFERENT),
        (Unreachable("x"), Code.DIFFERENT),
        (StoreUnavailable("x"), Code.TROUBLE),
        (Conflict("x"), Code.TROUBLE),
        (SalvusError("x"), Code.TROUBLE),
    ],
)
def test_codes_of_errors(error: SalvusError, code: Code) -> None:
    assert code_of(error) is code


def test_the_table_of_exit_codes_is_complete() -> None:
    rows = re.findall(r"^\| (\d+) \|", DOCS, re.MULTILINE)
    assert [int(row) for row in rows] == [code.value for code in Code]


def test_every_verb_is_documented() -> None:
    for name in VERBS:
        assert f"`salvusctl {name}" in DOCS


def test_an_error_is_one_block_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), salvusctl.exits.expected_errors():
        raise UseError("bad \x1b[31m thing\nsecond line", hint="do this")
    shown = capsys.readouterr()
    assert shown.err == "error: bad \\x1b[31m thing\n  second line\n  hint: do this\n"
    assert shown.out == ""


def test_a_broken_store_is_trouble_and_no_traceback(cli: Cli) -> None:
    cli.store.write_bytes(b"this is no database, and longer than a page header\n" * 200)
    err = cli("get", "all", code=Code.TROUBLE).err
    assert err.startswith("error: the store ")
    assert "hint:" in err


@pytest.mark.parametrize("words", [["explain"], ["schema"], ["--help"], ["get", "--help"], ["lab", "--help"]])
def test_a_closed_pipe_ends_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "salvusctl", *words]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False, cwd=ROOT)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (Code.PIPE, b"")


@pytest.mark.parametrize("words", ["--help", "--version", "schema", "explain", "completion bash", "get -h"])
def test_output_that_cannot_be_written_is_one_line_and_no_success(words: str) -> None:
    command = [sys.executable, "-m", "salvusctl", *words.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, cwd=ROOT)
    said = b"error: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (Code.TROUBLE, said)


def test_an_error_that_cannot_be_told_is_still_an_error() -> None:
    command = [sys.executable, "-m", "salvusctl", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == Code.TROUBLE


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us(shell: str) -> None:
    done = python("-m", "salvusctl", "completion", shell)
    assert f"_SALVUSCTL_COMPLETE=complete_{shell}" in done.stdout
    assert done.returncode == 0


def completed(cli: Cli, line: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_SALVUSCTL_COMPLETE": "complete_bash"}
    done = python("-m", "salvusctl", SALVUS_CONFIG=str(cli.folder / "config.yaml"), **words)
    return done.stdout.split()


def test_completion_knows_verbs_kinds_and_names(cli: Cli) -> None:
    cli("apply", "--no-wait", "-f", cli.write(HOST))
    assert completed(cli, "salvusctl val") == ["validate"]
    assert completed(cli, "salvusctl get hosts a") == ["alpha"]
    assert completed(cli, "salvusctl why ho") == ["hosts"]
