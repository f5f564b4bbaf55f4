"""Proxies and certificates, as other programs have them; the registry speaks TLS with a certificate made here."""

import base64
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.oci.connect import Interrupted, certificates_for, new_pool, proxy_for
from layerfs.oci.documents import Descriptor
from layerfs.oci.images import Images
from layerfs.oci.parallel import Stop
from layerfs.oci.transfer import pull, push
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.registries import Naughty, certify, reply
from tests.oci.remote import BASIC, ONLY, asks, log_in, offer, secrets_at

pytestmark = pytest.mark.usefixtures("quick")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, and a certificate for 127.0.0.1 (cert.pem, key.pem)."""
    return certify(tmp_path_factory.mktemp("authority"), "127.0.0.1")


@pytest.fixture
def secure(authority: Path) -> Iterator[Naughty]:
    """A registry that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    with Naughty(context).running() as running:
        yield running


def fetch(store: Store, naughty: Naughty) -> Descriptor:
    return pull(Images(store), f"{naughty.host}/repo:1", ONLY).images[0].top


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again."""

    def wait(*_: object) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(Stop, "wait", wait)


@pytest.mark.usefixtures("_at_once")
def test_authority_that_nobody_knows_is_an_error_with_the_next_step(store: Store, secure: Naughty) -> None:
    offer(secure, Made())
    with pytest.raises(Interrupted, match="certificate") as raised:
        fetch(store, secure)
    assert f"/etc/containers/certs.d/{secure.host}/ca.crt" in raised.value.hint
    assert secure.seen == []


@pytest.mark.parametrize("way", ["SSL_CERT_FILE", "certs.d"])
def test_authority_of_the_users_own_is_believed(
    way: str, store: Store, secure: Naughty, authority: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offer(secure, Made())
    if way == "SSL_CERT_FILE":
        monkeypatch.setenv(way, str(authority / "ca.pem"))
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(scratch / "config"))
        place = scratch / "config/containers/certs.d" / secure.host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes((authority / "ca.pem").read_bytes())
    assert fetch(store, secure).digest == top["digest"]
    secure.blobs.clear()
    push(Images(store), f"{secure.host}/repo:1", f"{secure.host}/repo:2")
    assert set(Made().blobs) <= set(secure.blobs)


def test_secrets_go_to_an_encrypted_realm_elsewhere_and_not_along_its_redirect(
    store: Store, secure: Naughty, authority: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offer(secure, Made())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    log_in(scratch, monkeypatch, secure.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    with Naughty(context).running() as realm, Naughty(context).running() as other:
        asks(secure, f'Basic realm="r", Bearer realm="https://{realm.host}/token",service=s', "Bearer t0ken")

        def redirect(handler: BaseHTTPRequestHandler) -> bool:
            return reply(handler, 307, b"", {"Location": f"https://{other.host}/token"})

        realm.rules.append(redirect)
        other.rules.append(lambda handler: reply(handler, 200, b'{"token": "t0ken"}'))
        assert fetch(store, secure).digest == top["digest"]
        assert secrets_at(realm) == {BASIC}
        assert secrets_at(other) == {None}
        assert secrets_at(secure) == {None, "Bearer t0ken"}


def test_plain_registry_says_so_to_whoever_wants_tls(store: Store, naughty: Naughty) -> None:
    offer(naughty, Made())
    with pytest.raises(Interrupted) as raised:
        fetch(store, naughty)
    assert "--insecure" in raised.value.hint


@pytest.mark.usefixtures("_at_once")
def test_nobody_there_is_said_at_once(store: Store) -> None:
    with pytest.raises(Interrupted, match=r"127.0.0.1:1: .*refused"):
        pull(Images(store), "127.0.0.1:1/repo:1", ONLY, insecure=True)


def test_proxy_is_used_with_its_password(store: Store, naughty: Naughty, monkeypatch: pytest.MonkeyPatch) -> None:
    top = offer(naughty, Made())
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{naughty.host}")
    assert pull(Images(store), "registry.invalid/repo:1", ONLY, insecure=True).images[0].top.digest == top["digest"]
    secret = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert {headers.get("proxy-authorization") for _, _, headers in naughty.seen} == {secret}
    assert all(path.startswith("http://registry.invalid/v2/") for _, path, _ in naughty.seen)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("registry.test", "http://proxy:3128"),
        ("127.0.0.1", ""),
        ("localhost", ""),
        ("::1", ""),
        ("in.test", ""),
        ("deep.in.test", ""),
        ("10.1.2.3", ""),
        ("11.1.2.3", "http://proxy:3128"),
        ("only.port", ""),
    ],
)
def test_proxy_is_that_of_the_environment(host: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", "in.test, 10.0.0.0/8,only.port:443")
    assert proxy_for("https", host, 443) == wanted


def test_proxy_of_another_kind_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    with pytest.raises(Unsupported, match="socks5"):
        proxy_for("https", "registry.test", 443)


def test_broken_certificates_are_named(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(scratch))
    place = scratch / "containers/certs.d/registry.test"
    place.mkdir(parents=True)
    (place / "ca.crt").write_text("nonsense")
    assert certificates_for("registry.test", 443) == str(place)
    with pytest.raises(InvalidArgument, match=r"ca\.crt"):
        new_pool("", str(place))
