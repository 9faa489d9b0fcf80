"""What goes through a VPN: one TCP connection between two network namespaces, in megabits a second.

``python -m tools.bench.tunnels [--seconds N]``, as root, with the packages tinc, wireguard-go and wireguard-tools: by
the bare veth, through tinc and through wireguard-go; then again while others have more to do than there are CPUs, with
the daemons before all else (nice -19, as salvus starts both) and as any other process. All in one run, so that the
ratios tell something; nothing fails on a clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from lab.namespaces import held

# Addresses in the veth and in the tunnels, of either end.
BARE, INSIDE = ("198.18.255.1", "198.18.255.2"), ("10.77.0.1", "10.77.0.2")
NAMES = ("one", "two")
PORT, TUNNEL_PORT = 5001, 51820
PROGRAMS = ("tincd", "wireguard-go", "wg")
# Whoever starts them ends them.
_TIED = ("setpriv", "--pdeathsig=KILL")
_SERVER = """\
import socket, sys, time
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
caller, _ = server.accept()
begin, size = time.monotonic(), 0
while data := caller.recv(1 << 20):
    size += len(data)
print(size * 8 / (time.monotonic() - begin) / 1e6)
"""
_CLIENT = """\
import socket, sys, time
caller = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
end, data = time.monotonic() + float(sys.argv[3]), bytes(1 << 17)
while time.monotonic() < end:
    caller.sendall(data)
"""
_UP = (
    "ip link set lo up\nmkdir -p /run/wireguard\nmount -t tmpfs none /run/wireguard\necho ready\nexec sleep infinity\n"
)

# Nobody listens yet: to be refused is an answer of the other end.
_REACHES = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
except ConnectionRefusedError:
    print("refused")
except OSError:
    pass
"""


class Bench:
    """Two ends, as namespaces joined by a veth; daemons of one tunnel at a time."""

    def __init__(self, stack: ExitStack, folder: Path, seconds: int) -> None:
        self._stack, self._folder, self._seconds = stack, folder, seconds
        self._pids = [stack.enter_context(held(_UP)) for _ in NAMES]
        self._in(0, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(self._pids[1]))
        for end, address in enumerate(BARE):
            self._address(end, "eth0", f"{address}/30")

    def _into(self, end: int, *argv: str) -> Sequence[str]:
        return (*_TIED, "nsenter", f"--target={self._pids[end]}", "--net", "--mount", "--", *argv)

    def _in(self, end: int, *argv: str, stdin: str = "") -> str:
        return subprocess.run(self._into(end, *argv), input=stdin, text=True, stdout=subprocess.PIPE, check=True).stdout

    def _address(self, end: int, device: str, address: str) -> None:
        self._in(end, "ip", "address", "add", address, "dev", device)
        self._in(end, "ip", "link", "set", device, "up")

    def rate(self, address: str) -> float:
        """Megabits a second into the first end, as they came in."""
        server = self._into(0, sys.executable, "-c", _SERVER, address, str(PORT))
        with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            self._in(1, sys.executable, "-c", _CLIENT, address, str(PORT), str(self._seconds))
            return float(process.stdout.readline())

    @contextmanager
    def tunnel(self, make: Callable[[Bench, int], Sequence[str]], nice: int) -> Iterator[None]:
        """The tunnel's daemons at both ends, until the first end is reached through it."""
        with ExitStack() as running:
            for end in (0, 1):
                daemon = ("nice", "-n", str(nice), *make(self, end))
                process = subprocess.Popen(
                    self._into(end, *daemon), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                running.callback(process.wait)
                running.callback(process.terminate)
            self._ready()
            yield

    def _ready(self) -> None:
        for end, address in enumerate(INSIDE):
            _until(partial(_ok, self._into(end, "ip", "link", "show", "vpn0")))
            self._address(end, "vpn0", f"{address}/24")
        self._join()
        _until(lambda: self._in(1, sys.executable, "-c", _REACHES, INSIDE[0], str(PORT)) == "refused\n")

    def _join(self) -> None:
        """Tells each WireGuard of the other one; tinc has it in files."""
        if not _ok(self._into(0, "wg", "show", "vpn0")):
            return
        keys = [subprocess.run(["wg", "genkey"], text=True, stdout=subprocess.PIPE, check=True).stdout for _ in NAMES]
        for end, key in enumerate(keys):
            own = self._folder / f"key{end}"
            own.touch(0o600)
            own.write_text(key)
            other = self._in(end, "wg", "pubkey", stdin=keys[1 - end]).strip()
            peer = ("peer", other, "allowed-ips", f"{INSIDE[1 - end]}/32", "endpoint", f"{BARE[1 - end]}:{TUNNEL_PORT}")
            self._in(end, "wg", "set", "vpn0", "listen-port", str(TUNNEL_PORT), "private-key", str(own), *peer)

    def tinc(self, end: int) -> Sequence[str]:
        """tincd of an end, with the settings that salvus gives it."""
        home = self._folder / f"tinc{end}"
        if not home.exists():
            self._keys()
        return ("tincd", "--no-detach", f"--config={home}", f"--pidfile={home}/pid")

    def _keys(self) -> None:
        for end, name in enumerate(NAMES):
            home = self._folder / f"tinc{end}"
            (home / "hosts").mkdir(parents=True)
            (home / "hosts" / name).write_text(f"Address = {BARE[end]}\nSubnet = {INSIDE[end]}/32\n")
            to = f"ConnectTo = {NAMES[1 - end]}\n"
            (home / "tinc.conf").write_text(f"Name = {name}\nInterface = vpn0\nMACLength = 16\n{to}")
            subprocess.run(
                ["tincd", f"--config={home}", "--generate-keys=2048"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        for end, name in enumerate(NAMES):
            shutil.copy(self._folder / f"tinc{end}" / "hosts" / name, self._folder / f"tinc{1 - end}" / "hosts" / name)

    def wireguard(self, end: int) -> Sequence[str]:
        """wireguard-go of an end."""
        del end
        return ("wireguard-go", "--foreground", "vpn0")


def _ok(argv: Sequence[str]) -> bool:
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("the tunnel does not come up")
        time.sleep(0.1)


@contextmanager
def busy() -> Iterator[None]:
    """Twice as much to do as there are CPUs."""
    count = 2 * (os.cpu_count() or 1)
    others = [subprocess.Popen([*_TIED, "sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


def measured(seconds: int) -> Iterator[tuple[str, float]]:
    """What was measured, and megabits a second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salvus-bench-")))
        bench = Bench(stack, folder, seconds)
        yield "bare veth", bench.rate(BARE[0])
        with busy():
            yield "bare veth, busy", bench.rate(BARE[0])
        for name, make in (("tinc", Bench.tinc), ("wireguard-go", Bench.wireguard)):
            for nice in (0, -19):
                with bench.tunnel(make, nice):
                    yield f"{name} at nice {nice}", bench.rate(INSIDE[0])
                    with busy():
                        yield f"{name} at nice {nice}, busy", bench.rate(INSIDE[0])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.tunnels")
    parser.add_argument("--seconds", type=int, default=5, help="how long each is measured")
    seconds = parser.parse_args().seconds
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise SystemExit(f"{', '.join(missing)} not found: apt-get install tinc wireguard-go wireguard-tools")
    for what, rate in measured(seconds):
        print(f"{what:40} {rate:8.0f} Mbit/s", flush=True)


if __name__ == "__main__":
    main()
