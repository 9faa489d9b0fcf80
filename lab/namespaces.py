"""Network and mount namespaces for as long as a process lasts: a machine's network without a machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# Whoever starts it ends it; should that be killed, it ends too.
_HOLD = ("setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--propagation=private", "sh", "-euc")


@contextmanager
def held(script: str) -> Iterator[int]:
    """New namespaces, in which this was run: it says ``ready`` on a line, and stays. The number of its process.

    Needs root. Raises RuntimeError when it ends before it is ready.
    """
    with subprocess.Popen([*_HOLD, script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"no namespaces: what was run in them ended with {process.wait()}")
            yield process.pid
        finally:
            process.kill()
