"""Builds a host's root file system and the guest image, once a recipe, into the cache.

mmdebstrap(1) with eatmydata and unsafe I/O: a build that was cut short is thrown away, so nothing needs to reach the
disk early. Downloaded packages are kept beside the products, and a changed recipe does not fetch them again. The file
system of the guest is made by `mke2fs -d`, without mounting.
"""

import fcntl
import hashlib
import json
import os
import pwd
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import machine
from lab.model import LabError, LabImage
from lab.progress import Progress
from lab.recipes import GUEST, HOST, SUITE, Recipe
from lab.run import run

_NEEDED = 6 << 30
_SIZE = "1G"
_CMDLINE = "root=/dev/vda console=ttyS0 net.ifnames=0 quiet systemd.show_status=0"
# Whatever a killed `up` was building ends with it, and nothing of it stays mounted: setpriv(1), unshare(1).
_MORTAL = ("setpriv", "--pdeathsig=KILL", "unshare", "--mount-proc", "--fork", "--kill-child", "--")
_EXCLUDED = ("man", "doc", "info", "locale")


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/salvus, else .cache/salvus in the user's home, which the password database knows also where
    HOME is not set.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "salvus"
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "salvus"


def products(progress: Progress) -> tuple[Path, LabImage]:
    """A host's root folder and the guest image, from the cache or built now, both at once."""
    with ThreadPoolExecutor(2) as pool:
        root = pool.submit(_product, HOST, progress)
        image = pool.submit(_product, GUEST, progress)
        return root.result() / "root", _image(image.result())


def _product(recipe: Recipe, progress: Progress) -> Path:
    folder = cache_dir() / f"{recipe.name}-{recipe.digest}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f"{recipe.name}.lock") as lock:
        if not folder.is_dir():
            if shutil.disk_usage(folder.parent).free < _NEEDED:
                raise LabError(
                    f"{folder.parent} has less than {_NEEDED >> 30} GiB free for the lab's images: "
                    "make room, or set XDG_CACHE_HOME"
                )
            progress(f"building the {recipe.name} image, a minute or two; kept in {folder.parent} for the next time")
            _build(recipe, folder, lock)
            progress(f"built the {recipe.name} image")
    return folder


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """A second run waits here, and then finds the product made. Whoever keeps the file open has the lock."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _build(recipe: Recipe, folder: Path, lock: int) -> None:
    """Builds beside the place and renames into it; what an earlier, interrupted build left is removed first, under
    the same lock, which is free only when the last process of that build has ended.
    """
    work = folder.parent / f"{recipe.name}.building"
    if work.exists():
        shutil.rmtree(work)
    work.mkdir()
    _bootstrap(recipe, work, lock)
    if recipe.disk:
        _finish_image(recipe, work)
    work.rename(folder)


def _bootstrap(recipe: Recipe, work: Path, lock: int) -> None:
    debs = work.parent / "debs"
    debs.mkdir(exist_ok=True)
    (work / "sources.list").write_text(machine.sources())
    apt = ['Acquire::Languages "none"', 'APT::Install-Recommends "false"', *machine.apt_options()]
    dpkg = ["force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in _EXCLUDED)]
    first, offline, last = recipe.scripts
    archives = "var/cache/apt/archives"
    hooks = [
        f'--setup-hook=mkdir -p "$1/{archives}" && find "{debs}" -name "*.deb" -exec cp -l -t "$1/{archives}" {{}} +',
        f'--customize-hook=cp -l -n -t "{debs}" "$1/{archives}"/*.deb || true',
        f'--customize-hook="{first}" "$1"',
        f'--customize-hook="{offline}" "$1" {" ".join(recipe.offline)}',
        f'--customize-hook="{last}" "$1"',
    ]
    run(
        [
            *_MORTAL,
            *("mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", "--quiet"),
            *(f"--aptopt={option}" for option in apt),
            *(f"--dpkgopt={option}" for option in dpkg),
            "--hook-dir=/usr/share/mmdebstrap/hooks/eatmydata",
            "--skip=essential/unlink,cleanup/apt/lists",
            f"--include={','.join(recipe.packages)}",
            *hooks,
            *(SUITE, str(work / "root"), str(work / "sources.list")),
        ],
        timeout=1800,
        keep=(lock,),
    )


def _finish_image(recipe: Recipe, work: Path) -> None:
    root = work / "root"
    for name in ("kernel", "initrd"):
        (root / "boot" / name).rename(work / name)
    raw = work / "image.raw"
    run(["mke2fs", "-q", *recipe.disk, "-d", str(root), str(raw), _SIZE], timeout=300)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(work / "image.qcow2")], timeout=300)
    raw.unlink()
    shutil.rmtree(root)
    digests = {name: _sha256(work / name) for name in ("image.qcow2", "kernel", "initrd")}
    (work / "digests.json").write_text(json.dumps(digests))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _image(folder: Path) -> LabImage:
    digests = json.loads((folder / "digests.json").read_text())
    image, kernel, initrd = (str(folder / name) for name in ("image.qcow2", "kernel", "initrd"))
    return LabImage(image, digests["image.qcow2"], kernel, digests["kernel"], initrd, digests["initrd"], _CMDLINE)
