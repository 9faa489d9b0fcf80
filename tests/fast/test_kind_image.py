"""``Image``."""

from __future__ import annotations

import pytest

from resources.fleet import kinds
from tests.fast.manifests import DIGEST, image, problems, refused, world

BASE = {"source": "/srv/a.qcow2", "sha256": DIGEST}
KERNEL = {"source": "/srv/vmlinuz", "sha256": DIGEST}


def test_an_image_is_on_no_machine_by_itself() -> None:
    assert list(kinds()["Image"].machines(image(), world(image()))) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"source": "https://example.org/a.qcow2"}, "download it"),
        ({"source": "images/a.qcow2"}, "looked for on the controller"),
        ({"sha256": "A" * 64}, "64 hexadecimal digits"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"format": "vmdk"}, "format"),
        ({"kernel": {"source": "/k"}}, "kernel.sha256"),
        ({"cmdline": "a\nb"}, "control character"),
    ],
)
def test_what_is_refused_and_why(change: dict[str, object], text: str) -> None:
    assert text in refused("Image", BASE | change)


def test_the_digest_is_required() -> None:
    assert "sha256" in refused("Image", {"source": "/srv/a.qcow2"})


def test_what_belongs_to_a_kernel_needs_one() -> None:
    found = problems(image(initrd=KERNEL, cmdline="quiet"))
    assert [line.partition(":")[0] for line in found] == ["Image/debian12 spec.initrd", "Image/debian12 spec.cmdline"]


def test_a_kernel_must_find_its_disk() -> None:
    assert "needs spec.cmdline" in "".join(problems(image(kernel=KERNEL)))
    assert problems(image(kernel=KERNEL, cmdline="root=/dev/vda")) == []
