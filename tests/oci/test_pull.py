"""Blobs of a registry that breaks off, lies about bytes, digests and ranges."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.images import Images
from layerfs.oci.transfer import pull
from layerfs.snapshots.library import Store
from tests.oci.image import LAYERS, Made, digest
from tests.oci.registries import Naughty, break_off, reply
from tests.oci.remote import BIG, ONLY, breaks_off, get, layer_requests, offer, ranged

pytestmark = pytest.mark.usefixtures("quick")


def test_broken_blob_is_gone_on_with(store: Store, naughty: Naughty) -> None:
    top = offer(naughty)
    naughty.rules.append(breaks_off(naughty, 1))
    assert get(store, naughty) == top["digest"]
    (first, second) = layer_requests(naughty)
    assert first[1] is None
    assert second[1] is not None and int(second[1][6:-1]) > 0


def test_blob_goes_on_in_the_next_pull(store: Store, naughty: Naughty) -> None:
    top = offer(naughty)
    name, data, count = digest(LAYERS[1] + BIG), LAYERS[1] + BIG, [0]

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if not handler.path.endswith(name):
            return False
        count[0] += 1
        if count[0] == 1:
            break_off(handler, data, 1_000_000)
        else:
            reply(handler, 503)
        return True

    naughty.rules.append(rule)
    with pytest.raises(LayerfsError):
        get(store, naughty)
    naughty.rules.clear()
    assert get(store, naughty) == top["digest"]
    assert (layer_requests(naughty)[-1][1] or "bytes=0-") != "bytes=0-"


JOINS: dict[str, Callable[[BaseHTTPRequestHandler, int, bytes], bool]] = {
    "all bytes as answer to a range": lambda h, at, data: reply(h, 200, data),
    "206 of another range": lambda h, at, data: reply(
        h, 206, data[at + 5 :], {"Content-Range": f"bytes {at + 5}-{len(data) - 1}/{len(data)}"}),
    "206 of another length": lambda h, at, data: reply(
        h, 206, data[at:], {"Content-Range": f"bytes {at}-{len(data)}/{len(data) + 1}"}),
    "206 without a range": lambda h, at, data: reply(h, 206, data[at:]),
    "416": lambda h, at, data: reply(h, 416),
}  # fmt: skip


@pytest.mark.parametrize("kind", JOINS)
def test_bytes_are_joined_only_if_they_follow(kind: str, store: Store, naughty: Naughty) -> None:
    top = offer(naughty)
    naughty.rules += [breaks_off(naughty, 1), lambda handler: ranged(handler, JOINS[kind])]
    assert get(store, naughty) == top["digest"]


LIES: dict[str, Callable[[Naughty], None]] = {
    "other bytes for a blob": lambda n: n.blobs.update({digest(LAYERS[0]): LAYERS[0][:-1] + b"x"}),
    "too many bytes for a blob": lambda n: n.blobs.update({digest(LAYERS[0]): LAYERS[0] + b"x"}),
    "too few bytes for a blob": lambda n: n.blobs.update({digest(LAYERS[0]): LAYERS[0][:-1]}),
    "a digest that is not the manifest's": lambda n: n.rules.append(
        lambda h: "/manifests/" in h.path
        and reply(h, 200, n.manifests["1"][1], {"Docker-Content-Digest": digest(b"x")})),
    "a manifest without an end": lambda n: n.rules.append(
        lambda h: "/manifests/" in h.path and reply(h, 200, b"{" + b" " * (5 << 20))),
    "no blob": lambda n: n.blobs.clear(),
    "redirects without an end": lambda n: n.rules.append(
        lambda h: "/blobs/" in h.path and reply(h, 307, headers={"Location": h.path})),
    "a redirect to a file": lambda n: n.rules.append(
        lambda h: "/blobs/" in h.path and reply(h, 307, headers={"Location": "file:///etc/passwd"})),
    "a redirect to the local link": lambda n: n.rules.append(
        lambda h: "/blobs/" in h.path and reply(h, 307, headers={"Location": "http://169.254.1.1/"})),
    "errors only": lambda n: n.rules.append(lambda h: reply(h, 500)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIES)
def test_lie_is_refused_and_leaves_no_image(kind: str, store: Store, naughty: Naughty) -> None:
    offer(naughty, Made())
    LIES[kind](naughty)
    with pytest.raises(LayerfsError):
        get(store, naughty)
    assert Images(store).all() == []


def test_manifest_by_digest_must_be_that(store: Store, naughty: Naughty) -> None:
    offer(naughty, Made())
    other = digest(b"other")
    naughty.manifests[other] = naughty.manifests["1"]
    with pytest.raises(LayerfsError, match="and calls it"):
        pull(Images(store), f"{naughty.host}/repo@{other}", ONLY, insecure=True)
