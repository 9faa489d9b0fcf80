"""Data as YAML that reads back as the same data by the rules of YAML 1.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from resources.yaml_scalars import Odd, plain_scalar


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: every value is written out."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text and text.isascii():
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _plainly_text(text) else '"')


def _plainly_text(text: str) -> bool:
    """PyYAML quotes what YAML 1.1 takes for something else than text; YAML 1.2 has other ideas, as of ``1e3``."""
    try:
        return isinstance(plain_scalar(text), str)
    except Odd:
        return False


_Dumper.add_representer(str, _text)


def to_yaml(document: Mapping[str, Any]) -> str:
    """One document, in the order it has."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
    return text
