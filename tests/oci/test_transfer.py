"""Pull and push through docker-registry, by name."""

import json
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.images import Images
from layerfs.oci.transfer import pull, push
from layerfs.snapshots.library import Store, open_store
from tests.oci.image import MANIFEST, Made
from tests.oci.registries import Naughty, docker_registry
from tests.oci.remote import ONLY, big, offer
from tests.oci.test_intake import take

pytestmark = pytest.mark.usefixtures("quick")


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
