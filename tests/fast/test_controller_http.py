"""The controller's page, over a real socket on loopback; what it is given by systemd; what it logs."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controller import notify as notifying
from controller.http import BadAddress, Http, open_socket
from controller.log import LOGGER, Json, Lines, configure, log
from controller.metrics import Metrics, Snapshot, names
from controller.notify import inherited_socket, notify, watchdog_seconds
from controller.webhook import MOST, answer
from drivers.base import SalvusError


class Page:
    """A page whose health the test decides."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.trouble = ""
        self.secret: Path | None = None
        self.called = threading.Semaphore(0)
        self.metrics = Metrics("1.2.3")
        self.http = Http(
            open_socket(address),
            self.metrics,
            healthy=lambda: self.trouble,
            ready=lambda: self.trouble and "no lease",
            about=lambda: "holds 3 of 17 leases",
            sync=lambda environ: answer(environ, self.secret, self.called.release),
        )
        self.http.start()

    def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type, body."""
        try:
            with urllib.request.urlopen(f"http://{self.http.address}{path}", timeout=20) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Page]:
    made = Page()
    yield made
    made.http.stop()


@pytest.fixture
def page(shared: Page) -> Iterator[Page]:
    yield shared
    shared.trouble = ""
    shared.secret = None


SECRET = b"sixteen bytes of it"
BODY = b'{"ref": "refs/heads/main"}' * 10_000


def posted(page: Page, headers: dict[str, str], body: bytes = BODY, method: str = "POST") -> tuple[int, str]:
    connection = http.client.HTTPConnection(page.http.address, timeout=20)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may be refused before it is read
            connection.request(method, "/sync", body, headers)
        with connection.getresponse() as found:
            return found.status, found.read().decode()
    finally:
        connection.close()


def signed(body: bytes = BODY, secret: bytes = SECRET, kind: str = "sha256") -> dict[str, str]:
    return {"X-Hub-Signature-256": f"{kind}=" + hmac.new(secret, body, hashlib.sha256).hexdigest()}


def test_who_has_the_secret_may_call_and_nobody_else(page: Page, tmp_path: Path) -> None:
    assert posted(page, signed())[0] == 404, "no secret is configured"
    page.secret = tmp_path / "secret"
    assert posted(page, signed())[0] == 503
    page.secret.write_bytes(b"")
    assert posted(page, signed(secret=b""))[0] == 503, "nobody is let in with nothing"
    page.secret.write_bytes(b"short")
    assert posted(page, signed(secret=b"short"))[0] == 503
    page.secret.write_bytes(SECRET + b"\n")
    wrong = [
        {},
        signed(secret=b"another one of sixteen"),
        signed(BODY[1:]),
        signed(kind="sha1"),
        {"X-Hub-Signature-256": "sha256=" + "é" * 64},
        {"X-Hub-Signature-256": ""},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": "sixteen bytes of i"},
    ]
    for headers in wrong:
        assert posted(page, {name: value.encode().decode("latin-1") for name, value in headers.items()})[0] == 403
    assert posted(page, {}, method="GET", body=b"")[0] == 405
    assert not page.called.acquire(blocking=False)
    assert posted(page, signed()) == (202, "the manifests are read at once\n")
    assert posted(page, signed(b""), b"")[0] == 202
    assert posted(page, {"X-Gitlab-Token": SECRET.decode()})[0] == 202
    assert [page.called.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_a_call_has_a_length_and_comes_to_its_end(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.secret = tmp_path / "secret"
    page.secret.write_bytes(SECRET)
    assert posted(page, {"Content-Length": str(MOST + 1)}, b"")[0] == 413
    assert posted(page, {"Content-Length": "9" * 5000}, b"")[0] in {413, 400}
    assert posted(page, {"Content-Length": "-1"}, b"")[0] == 411
    assert posted(page, {"Transfer-Encoding": "chunked", **signed(b"")}, b"0\r\n\r\n")[0] == 411
    monkeypatch.setattr("controller.http._Quiet.timeout", 0.2)
    assert posted(page, {"Content-Length": "5"}, b"1")[0] == 408, "who is silent holds no thread"
    assert not page.called.acquire(blocking=False)


def test_health_and_readiness_say_why_not(page: Page) -> None:
    assert page.get("/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert page.get("/readyz")[::2] == (200, "ok: holds 3 of 17 leases\n")
    page.trouble = "all workers hang"
    assert page.get("/healthz")[::2] == (503, "all workers hang\n")
    assert page.get("/readyz")[::2] == (503, "no lease\n")


def test_other_pages_are_not_there(page: Page) -> None:
    status, _, body = page.get("/metrics/../etc/passwd")
    assert status == 404
    assert "/metrics, /healthz, /readyz and /sync" in body
    assert page.get("/")[0] == 404


def test_metrics_are_those_that_are_named_and_as_of_now(page: Page) -> None:
    page.metrics.watch(
        lambda: Snapshot(
            queue_depth=7, reachable={"alpha": False}, leases={"fleet": 42}, store_nodes={"10.0.0.1": False}
        )
    )
    page.metrics.passes.labels("synced").observe(0.1)
    page.metrics.writes.labels("alpha").inc(3)
    status, kind, body = page.get("/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert "salvus_queue_depth 7.0" in body
    assert 'salvus_machine_reachable{machine="alpha"} 0.0' in body
    assert 'salvus_lease_epoch{lease="fleet"} 42.0' in body
    assert 'salvus_store_node_up{node="10.0.0.1"} 0.0' in body
    assert 'salvus_driver_writes_total{machine="alpha"} 3.0' in body
    assert 'salvus_build_info{version="1.2.3"} 1.0' in body
    page.metrics.forget_machine("alpha")
    assert "salvus_driver_writes_total{" not in page.get("/metrics")[2]


def test_names_are_as_prometheus_wants_them() -> None:
    found = list(names(Metrics("1")))
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"salvus_[a-z_]+", name) for name in found)


def test_a_socket_that_is_taken(page: Page) -> None:
    with pytest.raises(SalvusError, match="cannot listen on") as raised:
        open_socket(page.http.address)
    assert not isinstance(raised.value, BadAddress), "it may be free later"
    assert "--http" in raised.value.hint


def test_an_ipv6_address_is_understood_also_where_there_is_none() -> None:
    with suppress(SalvusError), open_socket("[::1]:0") as listening:
        assert listening.getsockname()[0] == "::1"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "it is not HOST:PORT"),
        ("", "it is not HOST:PORT"),
        ("127.0.0.1:http", "it is not HOST:PORT"),
        ("127.0.0.1:-1", "it is not HOST:PORT"),
        ("::1:80", "it is not HOST:PORT"),
        ("127.0.0.1:65536", "65536 is no port: 0 to 65535 are"),
        ("192.0.2.1:80", "192.0.2.1 is no address of this machine"),
        ("[2001:db8::1]:80", "2001:db8::1 is no address of this machine"),
    ],
)
def test_an_address_that_is_none(address: str, why: str) -> None:
    with pytest.raises(BadAddress) as raised:
        open_socket(address)
    assert str(raised.value) == f"cannot listen on {address!r}: {why}"
    assert "[::1]:9465" in raised.value.hint


def test_only_loopback_unless_told_otherwise() -> None:
    with open_socket(":0") as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


class Manager:
    """A service manager that listens."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(20)

    def heard(self) -> str:
        return self.socket.recv(100).decode()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_over_either_kind_of_socket(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"salvus-test-{os.getpid()}"
    manager = Manager(f"\0{name}" if abstract else str(tmp_path / "notify"))
    with manager.socket:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else str(tmp_path / "notify"))
        assert notify("READY=1")
        assert manager.heard() == "READY=1"


def test_without_a_manager_or_with_one_that_is_gone_nobody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify("READY=1")


def test_the_watchdog_is_told_twice_as_often_as_asked_and_only_by_who_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert watchdog_seconds() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


def test_a_socket_that_systemd_opened_is_taken_by_who_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_socket("127.0.0.1:0") as listening:
        os.set_inheritable(listening.fileno(), True)
        monkeypatch.setattr(notifying, "FIRST_FD", listening.fileno())
        monkeypatch.setenv("LISTEN_PID", "1")
        monkeypatch.setenv("LISTEN_FDS", "1")
        assert inherited_socket() is None
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "0")
        assert inherited_socket() is None
        monkeypatch.setenv("LISTEN_FDS", "1")
        inherited = inherited_socket()
        assert inherited is not None
        assert inherited.getsockname() == listening.getsockname()
        assert not inherited.get_inheritable(), "what we start must not keep the port"
        inherited.detach()


@pytest.fixture
def records(own_log: None) -> list[logging.LogRecord]:
    found: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    LOGGER.handlers[:] = [Keep()]
    LOGGER.setLevel(logging.INFO)
    return found


def test_a_line_for_people(records: list[logging.LogRecord]) -> None:
    log(logging.WARNING, "a pass was dropped", machine="web01", error='a "quote"\nand a line')
    log(logging.DEBUG, "too much")
    (record,) = records
    record.created = 0.0
    line = Lines().format(record)
    assert line == (
        '1970-01-01T00:00:00Z WARNING a pass was dropped machine="web01" error="a \\"quote\\"\\nand a line"'
    ), "what machines say cannot forge a line"


def test_an_object_for_machines(records: list[logging.LogRecord]) -> None:
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        LOGGER.exception("a defect", extra={"salvus": {"machine": "web01", "at": Path("/x")}})
    line = Json().format(records[0])
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["message"], told["machine"], told["at"]) == ("ERROR", "a defect", "web01", "/x")
    assert "ZeroDivisionError: oops" in told["exception"]
    assert "ZeroDivisionError: oops" in Lines().format(records[0])


@pytest.mark.parametrize(("style", "first"), [("text", "1"), ("json", "{")])
def test_logs_go_to_stderr(
    style: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "1970")
    configure(style, "warning")
    log(logging.INFO, "not this")
    log(logging.WARNING, "this")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith(first)
    assert "not this" not in written.err
