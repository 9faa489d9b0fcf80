"""salvusctl enters the lab's network namespace, by name or by path, and everything it starts is there too."""

import subprocess
import sys

import pytest

from lab import Lab

pytestmark = pytest.mark.lab

LINKS = """
import subprocess, sys
from salvusctl.netns import enter
enter(sys.argv[1])
print(subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.parametrize("prefix", ["", "/run/netns/"])
def test_what_is_started_after_entering_sees_the_lab_only(lab: Lab, prefix: str) -> None:
    argv = [sys.executable, "-c", LINKS, prefix + lab.namespace]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    links = {line.split()[0].split("@")[0] for line in done.stdout.splitlines() if line}
    assert links == {"lo", "lab0", "host1", "host2"}
