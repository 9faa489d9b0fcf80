"""One lab for all lab tests of a run, made when the first asks for it. It is shared: a test undoes what it breaks."""

import os
from collections.abc import Iterator

import pytest

import lab as lab_package
from lab import Lab

# Two runs on one machine each want a lab of their own.
NAME = os.environ.get("SALVUS_TEST_LAB", "salvus-test")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts, fresh. On CI missing rights are a failure; a developer without them is told what to do."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("the lab needs root: run these tests with sudo")
    lab_package.down(NAME)
    try:
        yield lab_package.up(NAME, hosts=2)
    finally:
        lab_package.down(NAME)
