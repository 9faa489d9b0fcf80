"""The controller's page: ``/metrics``, ``/healthz``, ``/readyz``, ``/sync``. On loopback unless told otherwise."""

from __future__ import annotations

import errno
import re
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from controller.metrics import Metrics, make_wsgi_app
from controller.webhook import Answer
from drivers.base import SalvusError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Seconds: how soon stop() is noticed.
POLL = 0.1

MAX_PORT = 65535
FORMS = "write 127.0.0.1:9465, [::1]:9465, or :0 for any free port of loopback"
_ENDPOINT = re.compile(r"(\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,9})")

# What /healthz and /readyz say: an empty string is well; else a sentence.
Check = Callable[[], str]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer asks the resolver for our name here, which can hang without a network.
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    # Seconds for each read of a request: who is silent for longer holds no thread.
    timeout = 20

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Scrapes are not worth a line each."""


class BadAddress(SalvusError):
    """What is to be listened on is no address, or none of this machine's."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot listen on {address!r}: {why}", hint=FORMS)


def open_socket(address: str) -> socket.socket:
    """A listening socket on an ``endpoint``. Raises BadAddress, and SalvusError when it is not to be had (taken)."""
    family, host, port = endpoint(address)
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(16)
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise BadAddress(address, f"{host} is no address of this machine") from error
        raise SalvusError(
            f"cannot listen on {address!r}: {error.strerror}",
            hint="give another --http HOST:PORT, or end what listens there: ss -ltnp shows it",
        ) from error
    return listening


def endpoint(address: str) -> tuple[socket.AddressFamily, str, int]:
    """Family, host and port of ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT``, which is loopback. Raises BadAddress."""
    found = _ENDPOINT.fullmatch(address)
    if found is None:
        raise BadAddress(address, "it is not HOST:PORT")
    if (port := int(found["port"])) > MAX_PORT:
        raise BadAddress(address, f"{port} is no port: 0 to {MAX_PORT} are")
    if found["v6"]:
        return socket.AF_INET6, found["v6"], port
    return socket.AF_INET, found["host"] or "127.0.0.1", port


class Http:
    """Serves on a socket that is open already, so that it may have been opened in another network namespace.

    ``about`` is what /readyz adds when all is well, ``sync`` answers /sync.
    """

    def __init__(
        self,
        listening: socket.socket,
        metrics: Metrics,
        *,
        healthy: Check,
        ready: Check,
        about: Callable[[], str],
        sync: Callable[[WSGIEnvironment], Answer],
    ) -> None:
        scrape = make_wsgi_app(metrics.registry)

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/metrics":
                    page: Iterable[bytes] = scrape(environ, start_response)
                    return page
                case "/healthz":
                    return _answer(healthy(), start_response)
                case "/readyz":
                    return _answer(ready(), start_response, f"ok: {about()}")
                case "/sync":
                    return _said(sync(environ), start_response)
                case _:
                    there = "there are /metrics, /healthz, /readyz and /sync"
                    return _said(Answer(HTTPStatus.NOT_FOUND, there), start_response)

        address = listening.getsockname()
        self._server = _Server((address[0], address[1]), _Quiet, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.server_bind()
        self._server.set_app(app)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), name="http", daemon=True)
        host = f"[{address[0]}]" if listening.family == socket.AF_INET6 else address[0]
        self.address = f"{host}:{address[1]}"

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Closes the socket and waits for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(trouble: str, start_response: StartResponse, well: str = "ok") -> Iterable[bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
    return _said(Answer(status, trouble or well), start_response)


def _said(answer: Answer, start_response: StartResponse) -> Iterable[bytes]:
    status = f"{answer.status.value} {answer.status.phrase}"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{answer.text}\n".encode()]
