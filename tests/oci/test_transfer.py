"""Pull and push against docker-registry, and against one that misbehaves in every way we know of."""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci import push as push_module
from layerfs.oci import transport
from layerfs.oci.images import Images
from layerfs.oci.intake import Wishes
from layerfs.oci.transfer import pull, push
from layerfs.snapshots.library import Store, open_store
from tests.oci.image import LAYERS, MANIFEST, Made, digest
from tests.oci.registries import Naughty, break_off, docker_registry, reply
from tests.oci.test_intake import take

ONLY = Wishes()
BIG = os.urandom(3_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    """Waits are short, and nobody's credentials are found."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.01)
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(scratch / "home"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)


@pytest.fixture
def store(scratch: Path) -> Iterator[Store]:
    with open_store(scratch / "store") as opened:
        yield opened


@pytest.fixture
def naughty() -> Iterator[Naughty]:
    with Naughty().running() as running:
        yield running


def big() -> Made:
    return Made(packed=[*LAYERS[:1], LAYERS[1] + BIG], layers=[LAYERS[0], LAYERS[1] + BIG])


def get(store: Store, naughty: Naughty, **options: Any) -> str:
    return pull(Images(store), f"{naughty.host}/repo:1", ONLY, insecure=True, **options).images[0].top.digest


def offer(naughty: Naughty, made: Made | None = None) -> dict[str, Any]:
    made = made or big()
    top = made.finish()
    naughty.store(made.blobs, "1", top)
    return top


def layer_requests(naughty: Naughty) -> list[tuple[str, str | None]]:
    name = digest(LAYERS[1] + BIG)
    return [(method, headers.get("range")) for method, path, headers in naughty.seen if path.endswith(name)]


def test_round_trip_through_docker_registry(store: Store, scratch: Path) -> None:
    images = Images(store)
    take(store, big().layout(scratch / "i"), driver=None)
    with docker_registry(scratch) as host:
        ((name, pushed),) = push(images, "made:1", f"{host}/some/where:1", insecure=True)
        assert (name, pushed) == (f"{host}/some/where:1", images.get("made:1").top.digest)
        with open_store(scratch / "other") as other:
            done = pull(Images(other), name, ONLY, insecure=True)
            assert done.images[0].top.digest == pushed
            assert [blob.digest for blob in other.content.all()] == [blob.digest for blob in store.content.all()]
            words: list[str] = []
            images.tag("made:1", name)
            push(images, name, f"{host}/else/where:2", insecure=True, progress=lambda word, *_: words.append(word))
            assert "pushing" not in words  # mounted from the other repository
            assert pull(Images(other), f"{host}/else/where@{pushed}", ONLY, insecure=True).images


def test_referrers_travel_with_their_image(store: Store, scratch: Path) -> None:
    images = Images(store)
    made = Made()
    top = made.finish(annotations={"org.opencontainers.image.ref.name": "made:1"})
    about = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature", "layers": []}
    subject = {key: top[key] for key in ("mediaType", "digest", "size")}
    config = made.descriptor(b"{}", "application/vnd.oci.empty.v1+json")
    signature = made.descriptor(json.dumps(about | {"config": config, "subject": subject}).encode(), MANIFEST)
    take(store, made.layout(scratch / "i", top, signature), driver=None)
    with docker_registry(scratch) as host:
        assert len(push(images, "made:1", f"{host}/r:1", insecure=True, referrers=True)) == 2
        with open_store(scratch / "other") as other:
            done = pull(Images(other), f"{host}/r:1", ONLY, insecure=True, referrers=True)
            assert [image.top.digest for image in done.images] == [top["digest"], signature["digest"]]


def breaks_off(naughty: Naughty, times: int, **answer: Any) -> Callable[[BaseHTTPRequestHandler], bool]:
    name, data = digest(LAYERS[1] + BIG), LAYERS[1] + BIG
    left = [times]

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if not handler.path.endswith(name) or not left[0]:
            return False
        left[0] -= 1
        break_off(handler, data, 1_000_000)
        return True

    return rule


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


def ranged(handler: BaseHTTPRequestHandler, answer: Callable[[BaseHTTPRequestHandler, int, bytes], bool]) -> bool:
    if not handler.path.endswith(digest(LAYERS[1] + BIG)) or "Range" not in handler.headers:
        return False
    answer(handler, int(re.findall(r"\d+", handler.headers["Range"])[0]), LAYERS[1] + BIG)
    return True


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


def log_in(scratch: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    secret = base64.b64encode(b"me:secret").decode()
    (scratch / "auth.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(scratch / "auth.json"))


def asks(naughty: Naughty, challenge: str, accepted: str) -> None:
    """Have a registry ask who we are."""

    def rule(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.startswith("/token"):
            reply(handler, 200, b'{"token": "t0ken"}')
            return True
        if handler.headers.get("Authorization") == accepted:
            return False
        reply(handler, 401, b"", {"WWW-Authenticate": challenge})
        return True

    naughty.rules.append(rule)


def secrets_at(naughty: Naughty) -> set[str | None]:
    return {headers.get("authorization") for _, _, headers in naughty.seen}


BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


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
            name = str(len(other.uploads) + 100)
            other.uploads[name] = b""
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


def test_plain_http_must_be_asked_for(store: Store, naughty: Naughty) -> None:
    offer(naughty, Made())
    with pytest.raises(LayerfsError):
        pull(Images(store), f"{naughty.host}/repo:1", ONLY)
    assert naughty.seen == []


def test_name_without_a_registry_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch, naughty: Naughty) -> None:
    with pytest.raises(LayerfsError, match="names no registry"):
        pull(Images(store), "repo:1", ONLY, insecure=True)
    top = offer(naughty, Made())
    monkeypatch.setenv("LAYERFS_REGISTRY", naughty.host)
    assert pull(Images(store), "repo:1", ONLY, insecure=True).images[0].top.digest == top["digest"]
