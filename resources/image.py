"""``Image``: a disk that virtual machines start from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

from resources.base import Column, Kind, Model, Problem, Resource
from resources.fields import PATH_SCHEMA, Line, Sha256, absolute_path
from resources.fleet import Fleet


def source_path(text: str) -> str:
    """An absolute path on the controller. Raises ValueError, with what to do for an URL."""
    if re.match("[a-z+]+://", text):
        raise ValueError("only files on the controller can be used so far: download it, and write its absolute path")
    try:
        return absolute_path(text)
    except ValueError as error:
        raise ValueError(f"{error} (it is looked for on the controller)") from None


Source = Annotated[str, AfterValidator(source_path), WithJsonSchema(PATH_SCHEMA)]


class BootFile(Model):
    """A kernel or an initial RAM disk."""

    source: Source
    """The file on the controller: an absolute path."""
    sha256: Sha256
    """The file's digest, as ``sha256sum`` prints it."""


class ImageSpec(Model):
    """A disk that virtual machines start from. It is pushed to a host once, when the first machine there needs it."""

    source: Source
    """The disk image on the controller: an absolute path."""
    sha256: Sha256
    """The file's digest, as ``sha256sum`` prints it. A new digest is a new version."""
    format: Literal["qcow2", "raw"] = "qcow2"
    """How the file is written."""
    kernel: BootFile | None = None
    """A kernel to boot directly, for disks without a boot loader."""
    initrd: BootFile | None = None
    """The initial RAM disk of the kernel."""
    cmdline: Line = ""
    """The kernel's command line, as in ``root=/dev/vda rw console=ttyS0``."""


class ImageKind(Kind[ImageSpec]):
    """Images. They have no items of their own: their machines put them where they are needed, in their name."""

    name = "Image"
    plural = "images"
    spec = ImageSpec
    stays = True
    columns = (
        Column("FORMAT", ("spec", "format")),
        Column("SHA256", ("spec", "sha256"), wide=True),
        Column("SOURCE", ("spec", "source"), wide=True),
    )

    def check(self, resource: Resource[ImageSpec], fleet: Fleet) -> Iterator[Problem]:
        """What belongs to a kernel needs one."""
        spec = resource.spec
        if spec.kernel is None:
            for field, value in (("initrd", spec.initrd), ("cmdline", spec.cmdline)):
                if value:
                    yield Problem(
                        resource.ref, ("spec", field), "is of use with spec.kernel only; add it, or remove this"
                    )
        elif not spec.cmdline:
            message = "a kernel needs spec.cmdline to find its disk, as in: root=/dev/vda rw console=ttyS0"
            yield Problem(resource.ref, ("spec", "kernel"), message)


KIND = ImageKind()
