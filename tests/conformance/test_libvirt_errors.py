"""Every error of libvirt is in the table, and only one of them means absent."""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import pytest

from drivers.base import DriverError, Failed, Rejected, Unreachable
from drivers.libvirt import errors
from drivers.libvirt.errors import NoDomain, translate
from drivers.libvirt.events import start_event_loop
from tests.conformance.libvirt_machine import error

pytestmark = pytest.mark.conformance

# virErrorLevel, whose names look the same.
LEVELS = {"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"}
NAMES = sorted({name for name in dir(libvirt) if name.startswith("VIR_ERR_")} - LEVELS)


def test_libvirts_whole_list_is_in_the_table() -> None:
    assert len(NAMES) > 100
    assert set(NAMES) - set(errors.TABLE) == set()


def test_only_no_domain_means_absent() -> None:
    means = {name for name in NAMES if isinstance(translate(error(getattr(libvirt, name)), "h", "asking"), NoDomain)}
    assert means == {"VIR_ERR_NO_DOMAIN"}


@pytest.mark.parametrize("name", NAMES)
def test_every_error_says_what_was_done_where(name: str) -> None:
    found = translate(error(getattr(libvirt, name)), "host1", "starting web")
    assert type(found) is errors.TABLE[name]
    assert "host1: starting web" in str(found)
    assert found.machine == "host1"


def test_an_error_of_a_newer_libvirt_is_failed() -> None:
    assert type(translate(error(99_999), "h", "asking")) is Failed


@pytest.mark.parametrize("domain", [libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE])
@pytest.mark.parametrize("code", [libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR])
def test_what_the_connection_says_is_unreachable_whatever_its_code(code: int, domain: int) -> None:
    assert type(translate(error(code, domain), "h", "asking")) is Unreachable
    assert type(translate(error(code), "h", "asking")) is Failed


def test_an_error_without_a_code_is_unreachable() -> None:
    assert type(translate(libvirt.libvirtError("virConnectOpen() failed"), "h", "connecting")) is Unreachable


@pytest.mark.parametrize(
    ("expected", "cause"),
    [
        (Unreachable, lambda: libvirt.open("qemu+unix:///system?socket=/nowhere")),
        (NoDomain, lambda: libvirt.open("test:///default").lookupByName("nobody")),
        (Rejected, lambda: libvirt.open("test:///default").defineXML("<domain/>")),
        (Failed, lambda: libvirt.open("test:///default").lookupByName("test").create()),
    ],
)
def test_real_errors(expected: type[DriverError], cause: Callable[[], object]) -> None:
    start_event_loop()  # or libvirt prints its errors
    with pytest.raises(libvirt.libvirtError) as caught:
        cause()
    assert type(translate(caught.value, "h", "trying")) is expected
