"""The pages of the kinds say what is so: their examples load, their tables are the docstrings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resources.base import AnyKind
from resources.fleet import kinds
from resources.load import load
from resources.template_names import NAMES
from tools.field_tables import PAGES, page, rewritten, table

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"
KINDS = list(kinds().values())


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest) -> AnyKind:
    found: AnyKind = request.param
    return found


def test_every_kind_has_a_page_and_no_page_is_without_one() -> None:
    assert set(PAGES.glob("*.md")) == {page(kind) for kind in KINDS}


def test_every_kind_has_an_example_of_its_own() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {page(kind).stem for kind in KINDS}
    for kind in KINDS:
        documents = load([EXAMPLES / f"{page(kind).stem}.yaml"]).documents
        assert {ref.partition("/")[0] for ref in documents} == {kind.name}


def test_the_table_is_made_from_the_docstrings(kind: AnyKind) -> None:
    text = page(kind).read_text()
    assert table(kind) in text, "python -m tools.field_tables writes it anew"
    assert rewritten(text, kind) == text


def test_the_example_on_the_page_loads_beside_those_of_the_manifests(kind: AnyKind, tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page(kind).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    path = tmp_path / "page.yaml"
    path.write_text("---\n".join(blocks))
    loaded = load([path], base=load([EXAMPLES]).fleet)
    assert [str(error) for error in loaded.errors] == []
    assert {resource.kind for resource in loaded.fleet} == {kind.name}


def test_fields_that_the_text_names_are_there(kind: AnyKind) -> None:
    text = page(kind).read_text().partition("## Fields")[0]
    rows = "".join(map(table, KINDS))
    for name in re.findall(r"`([a-z][A-Za-z]*(?:\.[a-z][A-Za-z]*)+)`", text):
        if not name.endswith((".service", ".pub")):
            assert f"`spec.{name}`" in rows, name


def test_the_names_of_templates_are_all_told() -> None:
    text = page(kinds()["Service"]).read_text()
    assert [name for name in NAMES if f"| `{name}" not in text] == []
