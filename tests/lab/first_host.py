"""The lab's first host as items see it: their scripts, run there by root."""

from __future__ import annotations

from collections.abc import Sequence

from lab import Lab, exec_in
from tests.conformance.items import Done, Machine


def first_host(lab: Lab) -> Machine:
    """What is on trial there is put back after ten minutes, if a script does not set ``SALVUS_WINDOW``."""

    def run(shell: Sequence[str], text: str, stdin: bytes) -> Done:
        clock = "export SALVUS_NOW=1700000000 SALVUS_WINDOW=${SALVUS_WINDOW-600}\n"
        return exec_in(lab, lab.hosts[0], [*shell, "-c", clock + text], stdin, 120)

    return Machine(run)
