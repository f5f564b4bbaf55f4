"""How a registry's host is reached: through which proxy, and whose certificates are trusted.

Both as other programs have it: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (names, addresses, networks), never for
this machine itself; the system's certificate authorities or SSL_CERT_FILE, and what is in certs.d/HOST[:PORT]/ of
containers or docker: *.crt authorities, *.cert and *.key our own (containers-certs.d(5)).
"""

import ipaddress
import os
import re
import ssl
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, ProxyError, SSLError

from layerfs.errors import InvalidArgument, LayerfsError, Unsupported

CONNECTIONS: Final = 8  # kept open to one host
_OBJECT: Final = re.compile(r"^HTTPS?Connection\(.*?\): ")
SYSTEM: Final = ("/etc/containers/certs.d", "/etc/docker/certs.d")


class Interrupted(LayerfsError):
    """The connection broke off, or could not be made."""


def is_loopback(host: str) -> bool:
    """Tell whether a host's name can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(scheme: str, host: str, port: int) -> str:
    """Return the address of the proxy through which a host is reached; empty for none. Raises Unsupported."""
    if is_loopback(host) or proxy_bypass(f"{host}:{port}" if ":" not in host else host) or _in_excepted_network(host):
        return ""
    found = getproxies()
    proxy = found.get(scheme) or found.get("all") or ""
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise Unsupported(
            f"the proxy {urlsplit(proxy).scheme}:// cannot be used", "name an http:// one, or except hosts by NO_PROXY"
        )
    return proxy


def _in_excepted_network(host: str) -> bool:
    """Tell whether NO_PROXY has a network (10.0.0.0/8) that an address is in."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for word in getproxies().get("no", "").split(","):
        with suppress(ValueError):
            if "/" in word and address in ipaddress.ip_network(word.strip(), strict=False):
                return True
    return False


def new_pool(proxy: str, place: str) -> urllib3.PoolManager:
    """Return connections for what goes through a proxy ("" for none), with the certificates in `place` ("" for none).

    Raises InvalidArgument for certificates that are none.
    """
    options: dict[str, Any] = {"maxsize": CONNECTIONS}
    if place:
        options["ssl_context"] = _context(place)
    if not proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=secret)
    return urllib3.ProxyManager(proxy, **options)


def certificates_for(host: str, port: int) -> str:
    """Return the directory with a host's certificates, the user's own before the system's; empty if there is none."""
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    for top in (os.path.join(own, "containers/certs.d"), *SYSTEM):
        for name in (f"{host}:{port}", host):
            if os.path.isdir(place := os.path.join(top, name)):
                return place
    return ""


def _context(place: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    names = sorted(os.listdir(place))
    try:
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"{path}: {error}", "there must be PEM certificates, and a key for each *.cert") from None
    return context


def reason(error: BaseException) -> str:
    """Return the short reason inside one of urllib3's errors."""
    while isinstance(inner := getattr(error, "reason", None) or getattr(error, "original_error", None), BaseException):
        error = inner
    return _OBJECT.sub("", str(error))[:200]


def is_lasting(error: HTTPError) -> bool:
    """Tell whether the next try to connect would fail in the same way (a refusal, a bad certificate)."""
    if isinstance(error, ProxyError):
        return True
    return isinstance(error, SSLError | NameResolutionError) or (
        isinstance(error, NewConnectionError) and "refused" in str(error).lower()
    )


def failure(host: str, error: HTTPError) -> Interrupted:
    """Return what to tell of a connection that failed."""
    why = reason(error)
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in why:
        hint = f"put its authority's certificate into {SYSTEM[0]}/{host}/ca.crt, or name it by SSL_CERT_FILE"
    elif isinstance(error, SSLError):
        hint = "if it speaks plain HTTP: --insecure"
    elif isinstance(error, ProxyError):
        hint = "the proxy is that of HTTPS_PROXY or HTTP_PROXY; NO_PROXY excepts hosts"
    elif isinstance(error, NewConnectionError | NameResolutionError):
        hint = "look at the name, at the port, and whether there is a network"
    else:
        hint = "begin again later: what is there is kept"
    return Interrupted(f"{host}: {why}", hint)
