"""Uploads that break, go elsewhere, or are counted wrongly."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from layerfs.oci import push as push_module
from layerfs.oci.images import Images
from layerfs.oci.transfer import push
from layerfs.snapshots.library import Store
from tests.oci.image import LAYERS, Made, digest
from tests.oci.registries import Naughty, reply
from tests.oci.remote import BASIC, BIG, asks, big, log_in, secrets_at
from tests.oci.test_intake import take

pytestmark = pytest.mark.usefixtures("quick")


def test_upload_to_another_host_gets_no_secret(
    store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(store, Made().layout(scratch / "i"), driver=None)
    log_in(scratch, monkeypatch, naughty.host)
    asks(naughty, 'Basic realm="r"', BASIC)
    with Naughty().running() as other:

        def elsewhere(handler: BaseHTTPRequestHandler) -> bool:
            if handler.command != "POST" or handler.headers.get("Authorization") != BASIC:
                return False
            name = other.begin_upload()
            reply(handler, 202, b"", {"Location": f"http://{other.host}/v2/repo/blobs/uploads/{name}"})
            return True

        naughty.rules.insert(0, elsewhere)
        push(Images(store), "made:1", f"{naughty.host}/repo:1", insecure=True)
        assert set(other.blobs) >= {digest(layer) for layer in LAYERS}
        assert secrets_at(other) == {None}


@pytest.mark.parametrize("kept", [0, 300_000, 700_000])
def test_upload_that_breaks_goes_on_by_what_the_registry_has(
    kept: int, store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "CHUNK", 700_000)
    take(store, big().layout(scratch / "i"), driver=None)
    broken: list[str] = []

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        name = handler.path.partition("uploads/")[2].partition("?")[0]
        if handler.command != "PATCH" or len(naughty.uploads[name]) != 700_000 or broken:
            return False
        broken.append(name)
        naughty.uploads[name] += handler.rfile.read(kept)
        handler.close_connection = True
        return True

    naughty.rules.append(rule)
    push(Images(store), "made:1", f"{naughty.host}/repo:1", insecure=True)
    assert broken
    assert naughty.blobs[digest(LAYERS[1] + BIG)] == LAYERS[1] + BIG


def test_upload_of_which_nothing_came_begins_again(store: Store, naughty: Naughty, scratch: Path) -> None:
    """The registry says 0-0 of no bytes, as of one: the blob went on at its second byte."""
    take(store, big().layout(scratch / "i"), driver=None)
    broken: list[str] = []

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command != "PATCH" or broken:
            return False
        broken.append(handler.path)
        handler.close_connection = True
        return True

    naughty.rules.append(rule)
    push(Images(store), "made:1", f"{naughty.host}/repo:1", insecure=True)
    assert broken
    starts = [headers["content-range"].partition("-")[0] for method, _, headers in naughty.seen if method == "PATCH"]
    assert set(starts) == {"0"}
    assert set(naughty.blobs) >= {digest(LAYERS[0]), digest(LAYERS[1] + BIG)}


def test_registry_whose_range_says_nothing_is_served_by_our_own_count(
    store: Store, naughty: Naughty, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "CHUNK", 500_000)
    take(store, big().layout(scratch / "i"), driver=None)
    original = reply

    def constant(handler: BaseHTTPRequestHandler, status: int, data: bytes = b"", headers: Any = None) -> bool:
        return original(handler, status, data, {**(headers or {}), **({"Range": "0-0"} if status == 202 else {})})

    monkeypatch.setattr("tests.oci.registries.reply", constant)
    push(Images(store), "made:1", f"{naughty.host}/repo:1", insecure=True)
    ranges = [headers["content-range"] for method, _, headers in naughty.seen if method == "PATCH"]
    assert "500000-999999" in ranges
    assert naughty.blobs[digest(LAYERS[1] + BIG)] == LAYERS[1] + BIG


def test_upload_whose_end_is_refused_is_sent_once_more_from_the_start(
    store: Store, naughty: Naughty, scratch: Path
) -> None:
    """A part that was sent again after a break may be there twice: the registry then says DIGEST_INVALID."""
    take(store, big().layout(scratch / "i"), driver=None)
    refused: list[str] = []

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command != "PUT" or "uploads/" not in handler.path or refused:
            return False
        refused.append(handler.path)
        return reply(handler, 400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')

    naughty.rules.append(rule)
    push(Images(store), "made:1", f"{naughty.host}/repo:1", insecure=True)
    assert refused
    assert naughty.blobs[digest(LAYERS[1] + BIG)] == LAYERS[1] + BIG
