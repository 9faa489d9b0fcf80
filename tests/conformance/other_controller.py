"""A controller of its own process: pushes a file as an image, twice, and prints how each went. To be paused."""

from __future__ import annotations

import sys

from drivers.base import DriverError, SshTarget
from drivers.items.image_file import ImageFile
from drivers.ssh import Connection, ShellDriver
from tests.conformance.ssh_world import creation


def main(port: str, host_key: str, identity: str, state: str, epoch: str, source: str, path: str) -> None:
    """Arguments as on the command line."""
    target = SshTarget(("127.0.0.1",), int(port), "root", (host_key,), (identity,))
    driver = ShellDriver(Connection("web01", target), state=state)
    for _ in range(2):
        try:
            (done,) = driver.apply([creation(ImageFile(path, source, "0" * 64))], int(epoch))
            print(repr(done.error))
        except DriverError as error:
            print(type(error).__name__)
    driver.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
