"""The virtual environment of the tools that salvus is measured against: made from its lock file, once a lock file."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LOCK = _ROOT / "requirements-bench.lock"
FOLDER = _ROOT / ".venv-bench"


def programs() -> Path:
    """Its ``bin``, after making the environment if it is not there or of another lock file."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    mark = FOLDER / ".installed"
    if not mark.exists() or mark.read_text() != digest:
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", _LOCK], check=True)
        mark.write_text(digest)
    return FOLDER / "bin"


def environment(home: Path) -> dict[str, str]:
    """What a tool sees of the caller's environment: nothing but programs and a home of its own."""
    path = f"{FOLDER / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8"}
