"""A controller of its own process that shuts itself out: to be killed before it notices."""

from __future__ import annotations

import sys

from drivers.base import SshTarget
from drivers.items.nft_table import NftTable
from drivers.items.rules import RuleSet
from drivers.ssh import Connection, ShellDriver
from tests.conformance.items import needed


def main(port: str, address: str, host_key: str, identity: str, window: str) -> None:
    """Arguments as on the command line."""
    connection = Connection("web01", SshTarget((address,), int(port), "root", (host_key,), (identity,)))
    driver, item = ShellDriver(connection, state="/var/lib/salvus", window=int(window)), NftTable(RuleSet())
    change = needed(item, driver.observe([item])[item.key].state)
    assert change is not None
    driver.apply([change], 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
