"""Entering a network namespace, where it cannot be: the rest is in tests/lab/test_netns.py."""

from pathlib import Path

import pytest

from drivers.base import SalvusError
from salvusctl.netns import enter


def test_a_namespace_that_is_not_there_is_named() -> None:
    with pytest.raises(SalvusError, match="'salvus-nowhere' cannot be opened: No such file") as caught:
        enter("salvus-nowhere")
    assert caught.value.hint == "is the lab up? see: salvusctl lab status"


def test_a_file_that_is_no_namespace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SalvusError, match="cannot enter the network namespace"):
        enter(str(tmp_path / "file"))
