"""Whatever is written in a manifest: it is taken, or refused at a place. Nothing is raised."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.load import load

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data())
def test_whatever_is_written_in_a_field_is_taken_or_refused_at_a_place(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any field of any example, replaced by anything."""
    document = json.loads(data.draw(st.sampled_from(_example_texts())))
    text = json.dumps(_with(document, data), ensure_ascii=False)
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    loaded = load([path])
    assert loaded.errors or len(loaded.documents) == 1 or text == "null"
    for error in loaded.errors:
        assert error.line >= 1
        assert error.what


@cache
def _example_texts() -> list[str]:
    return [json.dumps(document) for document in load([EXAMPLES]).documents.values()]


def _with(document: object, data: st.DataObject) -> object:
    """The document with one value in it replaced."""
    if isinstance(document, dict | list) and document and data.draw(st.booleans() | st.just(True)):
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = data.draw(st.sampled_from(keys))
        document[key] = _with(document[key], data)
        return document
    return data.draw(JUNK)
