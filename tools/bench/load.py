"""How long a large fleet takes to load: cold, warm with nothing changed, warm with one file changed.

``python -m tools.bench.load [NUMBER]`` makes that many manifests (10,000 by default), a file each, in a temporary
directory, and prints seconds and ratios as one line of JSON. It asserts nothing: a slow machine is no defect.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from resources.load import LoadCache, Loaded, load
from tools.bench.fleet import KEY

HOSTS = 100
DIGEST = "ab" * 32
_ROUNDS = 3


def manifests(number: int) -> Iterator[tuple[str, str]]:
    """Names and texts: a hundred hosts, an image, and as many services as virtual machines."""
    for n in range(HOSTS):
        spec = f"address: 192.0.2.{n}\n  ssh: {{hostKeys: [{KEY}]}}\n  hypervisor: {{}}"
        yield manifest("Host", f"host{n:03}", spec, "{site: padelford}")
    yield manifest("Image", "debian12", f"source: /srv/debian12.qcow2\n  sha256: {DIGEST}")
    for n in range((number - HOSTS - 1) // 2):
        nic = f"{{name: eth0, address: 10.{n // 250 + 1}.{n % 250 + 1}.2/8}}"
        spec = f"image: debian12\n  memory: 2Gi\n  rootDisk: {{size: 20Gi}}\n  interfaces:\n  - {nic}"
        yield manifest("VirtualMachine", f"web{n:05}", spec, f"{{role: web, shard: s{n % 50}}}")
        file = f"{{path: /etc/hub/{n}.conf, content: 'port = {n}\\n', mode: \"0600\"}}"
        selector = f"{{matchLabels: {{shard: s{n % 50}}}}}"
        spec = f"machines: {{selector: {selector}}}\n  packages: [nginx]\n  files:\n  - {file}\n  command: /bin/hub {n}"
        yield manifest("Service", f"hub{n:05}", spec)


def manifest(kind: str, name: str, spec: str, labels: str = "{}") -> tuple[str, str]:
    """A file's name and text."""
    head = f"apiVersion: salv.us/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  labels: {labels}\n"
    return f"{kind.lower()}-{name}.yaml", f"{head}spec:\n  {spec}\n"


def _timed(directory: Path, cache: LoadCache) -> tuple[float, Loaded]:
    begin = time.perf_counter()
    loaded = load([directory], cache)
    return time.perf_counter() - begin, loaded


def measure(directory: Path, number: int) -> dict[str, float]:
    """Seconds of each way, the best of a few rounds of the warm ones, and how much faster than cold these are."""
    for name, text in manifests(number):
        (directory / name).write_text(text)
    cache = LoadCache()
    cold, loaded = _timed(directory, cache)
    if not loaded.ok:
        raise SystemExit("\n".join(str(error) for error in loaded.errors[:5]))
    same = min(_timed(directory, cache)[0] for _ in range(_ROUNDS))
    changed = []
    file = directory / "virtualmachine-web00000.yaml"
    text = file.read_text()
    for turn in range(_ROUNDS):
        file.write_text(f"{text}  cpu: {turn + 2}\n")
        changed.append(_timed(directory, cache)[0])
    one = min(changed)
    return {
        "manifests": len(loaded.documents),
        "cold_seconds": round(cold, 3),
        "warm_seconds": round(same, 3),
        "warm_ratio": round(cold / same, 1),
        "one_changed_seconds": round(one, 3),
        "one_changed_ratio": round(cold / one, 1),
    }


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))
