"""Requests are tried again, and redirects get no secret."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from layerfs.snapshots.library import Store
from tests.oci.image import Made
from tests.oci.registries import Naughty, reply
from tests.oci.remote import BASIC, asks, get, log_in, offer, secrets_at

pytestmark = pytest.mark.usefixtures("quick")


def test_registry_that_is_busy_is_asked_again(store: Store, naughty: Naughty) -> None:
    top = offer(naughty, Made())
    answers = iter([(429, {"Retry-After": "0"}), (503, {}), (429, {})])

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        status, headers = next(answers, (0, {}))
        if status:
            reply(handler, status, b"", headers)
        return bool(status)

    naughty.rules.append(rule)
    assert get(store, naughty) == top["digest"]


def test_redirect_gets_no_secret(
    store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offer(naughty, Made())
    log_in(scratch, monkeypatch, naughty.host)
    asks(naughty, 'Basic realm="r"', BASIC)
    with Naughty().running() as other:
        other.blobs = naughty.blobs

        def redirect(handler: BaseHTTPRequestHandler) -> bool:
            if "/blobs/" not in handler.path or handler.headers.get("Authorization") != BASIC:
                return False
            reply(handler, 307, b"", {"Location": f"http://{other.host}{handler.path}"})
            return True

        naughty.rules.insert(0, redirect)
        assert get(store, naughty) == top["digest"]
        assert other.seen
        assert secrets_at(other) == {None}
