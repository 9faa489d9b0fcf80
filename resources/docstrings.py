"""The texts under the fields of classes, read when they are asked for: schemas need them, commands mostly do not."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise


def field_texts(class_: type) -> Mapping[str, str]:
    """Field → the text under it, of a class and of those that it is made from."""
    texts: dict[str, str] = {}
    for base in reversed(class_.__mro__):
        texts |= _texts(base.__module__).get(base.__qualname__, {})
    return texts


@cache
def _texts(module: str) -> Mapping[str, Mapping[str, str]]:
    """Class → field → text, of our own modules; classes within classes and functions have none."""
    if module.partition(".")[0] in sys.stdlib_module_names | {"pydantic"}:
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {one.name: dict(_in(one)) for one in tree.body if isinstance(one, ast.ClassDef)}


def _in(class_: ast.ClassDef) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for field, under in pairwise(class_.body):
        match field, under:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found.append((name, inspect.cleandoc(text)))
    return found
