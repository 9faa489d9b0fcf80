"""How the lab runs programs: argument lists, a deadline always, and an error that shows what the program said."""

import os
import subprocess
from collections.abc import Sequence

from lab.model import LabError

# What a program of the lab sees of the caller's environment: messages in English, nothing that changes what it does.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "TMPDIR")


def environment() -> dict[str, str]:
    """ENVIRONMENT and the proxies of this machine."""
    return ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def run(argv: Sequence[str], timeout: float = 60, stdin: bytes | None = None, keep: Sequence[int] = ()) -> str:
    """Runs a program and gives back its standard output; it keeps the open files `keep`.

    LabError with the end of what it said if it fails or takes longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=timeout, env=environment(), pass_fds=keep, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {timeout:g} s") from error
    except OSError as error:
        raise LabError(f"{argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()[-2000:]
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
