"""The daemon's numbers, in Prometheus' form and as a page for people: /metrics and / at the metrics address."""

import html
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

from layerfs.daemon.config import host_and_port
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import NotReady

MOST: Final = 16  # connections at once: any user of the host may make them
BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)  # s
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>layerfs</title><style>body{{font:16px system-ui;margin:2em}}td{{padding:.1em 1em .1em 0}}</style>
<h1>layerfs</h1><p>The same numbers for Prometheus: <a href="metrics">/metrics</a></p><table>{rows}</table></html>"""


class Metrics:
    """All numbers of a daemon."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "layerfs_rpc_seconds",
            "Time from a request to its answer",
            ["method"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._answers = Counter("layerfs_rpcs", "Requests answered", ["method", "status"], registry=self.registry)
        self.up = Gauge("layerfs_up", "1 while the daemon takes requests", registry=self.registry)

    def answered(self, method: str, status: str, seconds: float) -> None:
        """Count an answered request."""
        self._seconds.labels(method).observe(seconds)
        self._answers.labels(method, status).inc()

    def watch(self, served: ServedStore) -> None:
        """Have the numbers of a store among the others; they are counted when somebody asks for them."""
        self.registry.register(_StoreNumbers(served))


class _StoreNumbers:
    """Snapshots by driver and kind, their bytes, and what is being packed; a collector of prometheus_client."""

    def __init__(self, served: ServedStore) -> None:
        self._served = served

    def collect(self) -> Iterable[GaugeMetricFamily]:
        snapshots = GaugeMetricFamily("layerfs_snapshots", "Snapshots", labels=["driver", "kind"])
        size = GaugeMetricFamily("layerfs_committed_bytes", "Bytes of committed snapshots", labels=["driver"])
        packing = GaugeMetricFamily("layerfs_packing", "Committed snapshots still to be packed", labels=["driver"])
        for name, counts in self._served.counts().items():
            for kind, count in counts.kinds.items():
                snapshots.add_metric([name, kind], count)
            size.add_metric([name], counts.size)
            packing.add_metric([name], counts.packing)
        return [snapshots, size, packing, *_servers()]


def _servers() -> Iterable[GaugeMetricFamily]:
    """Count the mounts that are on record here, by driver."""
    from collections import Counter as Count

    from layerfs.mounts import registry

    found = Count(record.driver.value for record in registry.records())
    mounts = GaugeMetricFamily("layerfs_mounts", "Mounts of layerfs on this host's record", labels=["driver"])
    for word in ("fuse", "kernel"):
        mounts.add_metric([word], found[word])
    yield mounts


def _rows(registry: CollectorRegistry) -> Iterator[tuple[str, str]]:
    for family in registry.collect():
        for sample in family.samples:
            if sample.name.endswith(("_bucket", "_created")):
                continue
            labels = ", ".join(f"{key} {value}" for key, value in sample.labels.items())
            yield f"{sample.name} {labels}".strip(), f"{sample.value:g}"


def _app(registry: CollectorRegistry) -> Callable[..., Any]:
    prometheus = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if environ.get("PATH_INFO") != "/":
            return prometheus(environ, start)
        rows = "".join(f"<tr><td>{html.escape(a)}<td>{html.escape(b)}" for a, b in _rows(registry))
        start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [_PAGE.format(rows=rows).encode()]

    return answer


class _Quiet(WSGIRequestHandler):
    timeout = 10  # s for a client to say what it wants

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """An HTTP server with MOST connections; each one more ends the oldest, so that slow clients keep nobody out."""

    daemon_threads = True  # whoever asks slowly keeps nobody waiting, at the end neither

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._guard = threading.Lock()
        self._open: list[Any] = []
        super().__init__((host, port), _Quiet)

    def server_bind(self) -> None:
        """Bind, and ask no name server who we are, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.append(request)
            if len(self._open) > MOST:
                with suppress(OSError):
                    self._open.pop(0).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            with suppress(ValueError):
                self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client has gone in the middle, or its connection was ended."""


def bind(address: str) -> WSGIServer:
    """Return an HTTP server at HOST:PORT that does not answer yet. Raises InvalidArgument, NotReady."""
    try:
        return _Server(*host_and_port(address))
    except OSError as error:
        raise NotReady(f"no numbers can be served at {address}: {error.strerror}", "give another --metrics") from None


class MetricsServer:
    """The HTTP server of the numbers, in a thread of its own."""

    def __init__(self, address: str, metrics: Metrics) -> None:
        self._server = bind(address)
        self._server.set_app(_app(metrics.registry))
        self._thread = threading.Thread(target=self._server.serve_forever, name="layerfs-metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was bound, also where 0 was asked for."""
        return self._server.server_port

    def close(self) -> None:
        """Take no more requests."""
        with suppress(OSError):
            self._server.shutdown()
        self._server.server_close()
        self._thread.join()
