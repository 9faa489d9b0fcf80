"""Manifests as texts, for tests of loading: four that are right together, and what can be made wrong in them."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from tests.fast.manifests import DIGEST, KEY

CASES = Path(__file__).parents[1] / "cases" / "load"

HOST = f"""\
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: [{KEY}]}}
  hypervisor: {{}}
"""
IMAGE = f"""\
apiVersion: salv.us/v1
kind: Image
metadata: {{name: debian12}}
spec:
  source: /srv/a.qcow2
  sha256: {DIGEST}
"""
VM = """\
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec:
  image: debian12
  rootDisk: {size: 4Gi}
"""
SERVICE = """\
apiVersion: salv.us/v1
kind: Service
metadata: {name: hub}
spec:
  machines: {names: [alpha]}
"""
FLEET = (HOST, IMAGE, VM, SERVICE)


def write(*documents: str, name: str = "m.yaml") -> Path:
    """A file of these documents."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))
    return path


def cases(kind: str) -> list[Any]:
    """What is changed in, or added to the spec of, the kind's manifest; and all errors, without the file's name."""
    return list(yaml.safe_load((CASES / f"{kind}.yaml").read_text()))


def changed(case: dict[str, Any], manifest: str) -> str:
    """The manifest with the case's change."""
    if "add" in case:
        return manifest + indent(case["add"], "  ") + "\n"
    assert case["old"] in manifest
    return manifest.replace(case["old"], case["new"], 1)
