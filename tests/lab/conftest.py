"""The labs for the lab tests, made when one asks for them. They are shared: a test undoes what it breaks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lab as lab_package
from lab import Lab

# Two runs on one machine each want a lab of their own.
NAME = os.environ.get("SALVUS_TEST_LAB", "salvus-test")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts, fresh."""
    with _fresh(NAME, hosts=2) as made:
        yield made


@pytest.fixture(scope="module")
def ha_lab() -> Iterator[Lab]:
    """Three hosts and three Cassandra nodes, fresh for each file; a lab of its own beside the other."""
    with _fresh(f"{NAME}-ha", hosts=3, nodes=3) as made:
        yield made


@pytest.fixture(scope="module")
def vpn_lab() -> Iterator[Lab]:
    """Three hosts, fresh: two that talk, and one that comes to them."""
    with _fresh(f"{NAME}-vpn", hosts=3) as made:
        yield made


@pytest.fixture(scope="module")
def cut_off_lab() -> Iterator[Lab]:
    """Five hosts, fresh: one for each way in which somebody is lost."""
    with _fresh(f"{NAME}-cut", hosts=5) as made:
        yield made


@contextmanager
def _fresh(name: str, hosts: int, nodes: int = 0) -> Iterator[Lab]:
    """On CI missing rights are a failure; a developer without them is told what to do."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("the lab needs root: run these tests with sudo")
    lab_package.down(name)
    try:
        yield lab_package.up(name, hosts, nodes=nodes)
    finally:
        lab_package.down(name)
