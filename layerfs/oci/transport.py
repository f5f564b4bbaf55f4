"""HTTP to one registry: requests are tried again, redirects are followed by hand, and secrets go to one origin only.

urllib3 has the connections, TLS and time limits. Bodies come and go in pieces: memory stays flat.
"""

import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from layerfs import __version__
from layerfs.errors import LayerfsError, Unsupported
from layerfs.oci.connect import certificates_for, failure, is_lasting, new_pool, proxy_for
from layerfs.oci.parallel import Stop

TRIES: Final = 5
REDIRECTS: Final = 5
WAIT_MAX: Final = 60.0  # s; what a registry may ask us to wait
_FIRST_WAIT: Final = 0.5  # s; doubled for each further try
_TIMEOUT: Final = urllib3.Timeout(connect=15, read=60)
_MOVED: Final = (301, 302, 303, 307, 308)
_AGAIN: Final = (429, 500, 502, 503, 504)
ERROR_MAX: Final = 64 << 10  # bytes of what a registry says about an error

Response = urllib3.BaseHTTPResponse
Origin = tuple[str, str, int]


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; `body` is called for each try, since a stream can be read only once."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Callable[[], Any] | None = None
    retry: bool = True


class Transport:
    """The connections of one pull or push. `stop` is asked between tries."""

    def __init__(self, *, insecure: bool, stop: Stop | None = None) -> None:
        self.insecure = insecure
        self._stop = stop or Stop()
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._guard = Lock()
        self._answered = False  # whether anybody ever did: before that a refused connection is no passing fault

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    @contextmanager
    def send(self, request: HttpRequest, authorization: Callable[[Origin], str | None]) -> Iterator[Response]:
        """Send a request and give the answer, whose body is still to be read.

        authorization: returns the Authorization for an origin, None for all but the registry's.
        Raises Interrupted if nobody answers.
        """
        response = self._send(request, authorization)
        try:
            yield response
            left = response.length_remaining
            if left is not None and left <= ERROR_MAX:
                response.drain_conn()  # the connection can be used again
        finally:
            response.close()

    def _send(self, request: HttpRequest, authorization: Callable[[Origin], str | None]) -> Response:
        for attempt in range(TRIES):
            self._stop()
            try:
                response = self._follow(request, authorization)
            except HTTPError as error:
                hopeless = is_lasting(error) and not self._answered
                if attempt + 1 == TRIES or not request.retry or hopeless:
                    raise failure(urlsplit(request.url).netloc, error) from None
                # A server closes a connection that was idle just when it is used again: no reason to wait.
                if attempt or not isinstance(error, ProtocolError):
                    self._stop.wait(backoff(attempt))
                continue
            self._answered = True
            if response.status not in _AGAIN or attempt + 1 == TRIES or not request.retry:
                return response
            asked = response.headers.get("Retry-After", "")
            response.close()
            self._stop.wait(min(float(asked), WAIT_MAX) if asked.isdigit() else backoff(attempt))
        raise AssertionError("unreachable")

    def _follow(self, request: HttpRequest, authorization: Callable[[Origin], str | None]) -> Response:
        url = request.url
        for _ in range(REDIRECTS + 1):
            response = self._once(request, url, authorization)
            target = response.headers.get("Location")
            if (
                response.status not in (301, 302, 303, 307, 308)
                or target is None
                or request.method not in ("GET", "HEAD")
            ):
                return response
            response.close()
            url = self._allowed(url, urljoin(url, target))
        raise LayerfsError(f"{urlsplit(request.url).netloc} redirects without an end")

    def _allowed(self, before: str, url: str) -> str:
        """Return where a redirect leads, if it may lead there."""
        scheme, host, _ = origin_of(url)
        if scheme not in ("https", "http") or (scheme == "http" and not self.insecure):
            raise LayerfsError(f"{urlsplit(before).netloc} redirects to {scheme}://{host}, which is not encrypted")
        if is_link_local(host) and origin_of(before)[1] != host:
            raise LayerfsError(
                f"{urlsplit(before).netloc} redirects to {host}, an address of this machine's own network"
            )
        return url

    def _once(self, request: HttpRequest, url: str, authorization: Callable[[Origin], str | None]) -> Response:
        headers = {"User-Agent": f"layerfs/{__version__}"} | dict(request.headers)
        if (secret := authorization(origin_of(url))) is not None:
            headers["Authorization"] = secret
        return self._pool(url).request(
            request.method,
            url,
            headers=headers,
            body=request.body() if request.body is not None else None,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=_TIMEOUT,
        )

    def _pool(self, url: str) -> urllib3.PoolManager:
        scheme, host, port = origin_of(url)
        if scheme not in ("http", "https"):
            raise LayerfsError(f"{scheme}:// is no address of a registry")
        if scheme == "http" and not self.insecure:
            raise Unsupported(f"{host} would be spoken to without encryption", "--insecure allows plain HTTP")
        with self._guard:
            key = (proxy_for(scheme, host, port), certificates_for(host, port) if scheme == "https" else "")
            if key not in self._pools:
                self._pools[key] = new_pool(*key)
            return self._pools[key]


def is_link_local(host: str) -> bool:
    """Tell whether a host is an address like those of clouds' metadata services."""
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def backoff(attempt: int) -> float:
    """Return how long to wait after so many failures [s]."""
    return min(_FIRST_WAIT * float(1 << attempt) * random.uniform(0.8, 1.2), WAIT_MAX)
