"""Registries on loopback: Debian's docker-registry, and one that does whatever a test wants."""

import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.host import require
from tests.oci.image import digest
from tests.waiting import PATIENCE, wait_until

CONFIG = """\
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ROOT}, delete: {enabled: true}}
http: {addr: "ADDRESS"}
"""


def free_address() -> tuple[str, int]:
    """Return an address that nobody else uses: a port of 127.0.0.1 can be taken before its program listens there."""
    second, third, fourth = os.urandom(3)
    host = f"127.{second % 254 + 1}.{third}.{fourth % 254 + 1}"
    with socket.socket() as made:
        made.bind((host, 0))
        return host, int(made.getsockname()[1])


def certify(place: Path, host: str) -> Path:
    """Make an authority (ca.pem), and its certificate for an address (cert.pem, key.pem); return where they are."""
    require("openssl")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    (place / "ext").write_text(f"subjectAltName=IP:{host}\n")
    for words in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests"],
        ["req", *key[:-2], "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=here"],
        ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem",
         "-days", "2", "-extfile", "ext"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)
    return place


@contextmanager
def docker_registry(place: Path, extra: str = "", *, tls: bool = False) -> Iterator[str]:
    """Run docker-registry and give its host and port; with `tls` the authority of its certificate is place/ca.pem."""
    require("docker-registry")
    host, port = free_address()
    env = dict(os.environ)
    if tls:
        certify(place, host)
        env |= {"REGISTRY_HTTP_TLS_CERTIFICATE": f"{place}/cert.pem", "REGISTRY_HTTP_TLS_KEY": f"{place}/key.pem"}
    config = CONFIG.replace("ROOT", str(place / "registry")).replace("ADDRESS", f"{host}:{port}")
    (place / "registry.yml").write_text(config + extra)
    with (place / "registry.log").open("w") as log:
        program = subprocess.Popen(
            ["docker-registry", "serve", place / "registry.yml"], stdout=log, stderr=log, env=env
        )
    try:
        wait_until(lambda: program.poll() is not None or _listens(host, port), "the registry")
        assert program.poll() is None, (place / "registry.log").read_text()
        yield f"{host}:{port}"
    finally:
        program.terminate()
        program.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


class Server(ThreadingHTTPServer):
    """A server whose end waits for no client: connections that are kept alive are shut down."""

    daemon_threads = False  # server_close waits for them

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up in the middle, as tests have them do."""

    def server_close(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):  # its thread closes it just now
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class Naughty:
    """A registry in memory. `rules` are asked first: a function that returns True has answered."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self._names = itertools.count()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.rules: list[Callable[[BaseHTTPRequestHandler], bool]] = []
        naughty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                naughty.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                if not any(rule(self) for rule in naughty.rules):
                    naughty.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _any

        self.server = Server(Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Naughty"]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

    def begin_upload(self) -> str:
        """Name an upload as no other was, however many run side by side."""
        name = str(next(self._names))
        self.uploads[name] = b""
        return name

    def store(self, blobs: dict[str, bytes], name: str, top: dict[str, Any]) -> None:
        """Hold an image."""
        self.blobs |= blobs
        for known, data in blobs.items():
            with suppress(ValueError):
                kind = json.loads(data).get("mediaType")
                if kind:
                    self.manifests[known] = (kind, data)
        self.manifests[name] = self.manifests[top["digest"]]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer as a good registry does."""
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size) if size else b""
        path, _, query = handler.path.partition("?")
        kind, _, name = path.partition("/v2/repo/")[2].partition("/")
        if kind == "manifests" and handler.command == "PUT":
            self.manifests[name] = self.manifests[digest(body)] = (handler.headers["Content-Type"], body)
            reply(handler, 201, headers={"Docker-Content-Digest": digest(body)})
            return
        if kind == "manifests" and name in self.manifests:
            media_type, data = self.manifests[name]
            reply(handler, 200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest(data)})
            return
        if kind == "blobs" and name.startswith("uploads/"):
            return self._upload(handler, name.removeprefix("uploads/"), query, body)
        if kind == "blobs" and name in self.blobs:
            return self._blob(handler, self.blobs[name])
        reply(handler, 404, b'{"errors": [{"code": "UNKNOWN", "message": "not here"}]}')

    def _blob(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if match is None:
            reply(handler, 200, data)
            return
        at = int(match[1])
        reply(handler, 206, data[at:], {"Content-Range": f"bytes {at}-{len(data) - 1}/{len(data)}"})

    def _upload(self, handler: BaseHTTPRequestHandler, name: str, query: str, body: bytes) -> None:
        if handler.command == "POST":
            name = self.begin_upload()
        place = {"Location": f"/v2/repo/blobs/uploads/{name}?_state=x{len(self.uploads[name])}"}
        if handler.command in ("POST", "PATCH"):
            self.uploads[name] += body
            place["Range"] = f"0-{max(len(self.uploads[name]) - 1, 0)}"
            reply(handler, 202, headers=place)
            return
        if handler.command == "GET":
            reply(handler, 204, headers=place | {"Range": f"0-{max(len(self.uploads[name]) - 1, 0)}"})
            return
        self.uploads[name] += body
        data = self.uploads.pop(name)
        wanted = query.rpartition("digest=")[2].replace("%3A", ":")
        if digest(data) != wanted:
            reply(handler, 400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        self.blobs[wanted] = data
        reply(handler, 201, headers={"Docker-Content-Digest": wanted})


Headers = dict[str, str]


def reply(handler: BaseHTTPRequestHandler, status: int, data: bytes = b"", headers: Headers | None = None) -> bool:
    """Answer with a body; True, for rules."""
    handler.send_response(status)
    for key, value in (headers or {}).items():
        handler.send_header(key, value)
    if status != 204:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD" and status != 204:
        handler.wfile.write(data)
    return True


class Stall:
    """A registry that sends a part of a blob, or takes a part of one, and then does nothing until the test's end."""

    def __init__(self, naughty: Naughty, method: str, end: str) -> None:
        self.begun = threading.Event()
        self._naughty, self._method, self._end, self._goes_on = naughty, method, end, threading.Event()
        naughty.rules.append(self._rule)

    def __enter__(self) -> "Stall":
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on.set()

    def _rule(self, handler: BaseHTTPRequestHandler) -> bool:
        if self._goes_on.is_set() or handler.command != self._method or self._end not in handler.path:
            return False
        if self._method == "GET":
            handler.send_response(200)
            data = self._naughty.blobs[handler.path.rpartition("/")[2]]
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:1_000_000])
        self.begun.set()
        self._goes_on.wait(PATIENCE)
        handler.close_connection = True
        return True


def break_off(handler: BaseHTTPRequestHandler, data: bytes, part: int, status: int = 200, **headers: str) -> None:
    """Promise all bytes, send a part, and hang up."""
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:part])
    handler.close_connection = True
