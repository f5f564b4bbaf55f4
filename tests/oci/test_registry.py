"""Secrets go to the registry and to its realm, and nowhere else."""

from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.registries import Naughty
from tests.oci.remote import BASIC, asks, get, log_in, offer, secrets_at

pytestmark = pytest.mark.usefixtures("quick")


def test_name_and_password_go_to_the_registry(
    store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offer(naughty, Made())
    log_in(scratch, monkeypatch, naughty.host)
    asks(naughty, 'Basic realm="r"', BASIC)
    assert get(store, naughty) == top["digest"]


def test_token_comes_from_the_realm_and_goes_to_the_registry(
    store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offer(naughty, Made())
    log_in(scratch, monkeypatch, naughty.host)
    asks(
        naughty, f'Bearer realm="http://{naughty.host}/token",service="s",scope="repository:repo:pull"', "Bearer t0ken"
    )
    assert get(store, naughty) == top["digest"]
    for _, path, headers in naughty.seen:
        if path.startswith("/token"):
            assert headers["authorization"] == BASIC
            assert "scope=repository%3Arepo%3Apull" in path and "service=s" in path
        else:
            assert headers.get("authorization") in (None, "Bearer t0ken")


@pytest.mark.parametrize("realm", ["http://203.0.113.1/token", "http://169.254.169.254/", "file:///etc/passwd", ""])
def test_realm_elsewhere_without_encryption_gets_nothing(
    realm: str, store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(naughty, Made())
    log_in(scratch, monkeypatch, naughty.host)
    asks(naughty, f'Bearer realm="{realm}"', "Bearer t0ken")
    with pytest.raises(LayerfsError, match="no secret may be sent"):
        get(store, naughty)
    assert secrets_at(naughty) == {None}
