"""Images into a store: every kind of source gives the same image, and nothing of a broken one stays."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.images import Images
from layerfs.oci.intake import FromSource, Intake, IntakeOptions
from layerfs.oci.sources import open_source
from layerfs.oci.unpack import chain_ids
from layerfs.snapshots.library import Store
from tests.oci.image import INDEX, LAYERS, MANIFEST, Made, digest, tarred, write_tar
from tests.oci.tars import brief


def take(store: Store, path: Path, driver: str | None = "overlay", **wishes: Any) -> list[str]:
    """Import all images of a source; return their names."""
    snapshotter = store.snapshotter(driver) if driver else None
    taken = []
    with open_source(bytes(path), store.root) as source:
        for root in source.roots():
            intake = Intake(Images(store), FromSource(source), IntakeOptions(snapshotter=snapshotter, **wishes))
            taken += [image.name for image in intake.take(root.names, root.top)]
    return taken


def tops(store: Store) -> Path:
    """The topmost layer as it is on disk."""
    name = chain_ids([digest(layer) for layer in LAYERS])[-1]  # type: ignore[misc]
    return Path(store.snapshotter("overlay").layer(name).path.decode())


SOURCES = {
    "a layout": lambda place: Made().layout(place / "i"),
    "a tar of a layout": lambda place: tarred(Made().layout(place / "l"), place / "i"),
    "a docker-archive": lambda place: Made().docker(place / "i"),
    "a docker-archive the other way round": lambda place: Made().docker(place / "i", -1),
    "a docker-archive of ./ names": lambda place: Made().docker(place / "i", prefix="./"),
    "a compressed docker-archive": lambda place: Made().docker(place / "i", mode="w:gz"),
    "compressed layers": lambda place: Made(packed=[gzip.compress(layer) for layer in LAYERS]).layout(place / "i"),
    "compressed layers in a docker-archive": lambda place: Made(
        packed=[gzip.compress(layer) for layer in LAYERS]).docker(place / "i"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_snapshots(kind: str, store: Store, scratch: Path) -> None:
    assert take(store, SOURCES[kind](scratch)) == ["made:1"]
    assert brief(tops(store)) == {"bin": "d", "bin/tool": "c", "bin/other": "f:o"}
    image = Images(store).load(Images(store).get("made:1"))
    assert image.config is not None and image.config.run == {"Cmd": ["/bin/other"]}
    info = store.snapshotter("overlay").stat(tops_name())
    assert info.labels["containerd.io/snapshot.ref"] == tops_name()


def tops_name() -> str:
    return chain_ids([digest(layer) for layer in LAYERS])[-1]  # type: ignore[misc]


def test_layers_that_are_there_are_not_unpacked_again(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "one"))
    before = tops(store).stat()
    assert take(store, Made().docker(scratch / "two")) == ["made:1"]
    assert tops(store).stat() == before
    Images(store).remove("made:1")
    assert (store.content.all(), list(store.snapshotter("overlay").walk())) == ([], [])


def test_what_two_images_share_stays_with_the_other(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "one"))
    images = Images(store)
    images.tag("made:1", "made:2")
    images.remove("made:1")
    assert images.load(images.get("made:2")).config is not None
    assert brief(tops(store))
    images.remove("made:2")
    assert store.content.all() == []


def spoil_config(key: str, value: object) -> Any:
    def make(place: Path) -> Path:
        made = Made()
        made.config[key] = value
        return made.layout(place / "i")

    return make


def spoil_manifest(**changes: object) -> Any:
    def make(place: Path) -> Path:
        made = Made()
        made.manifest |= changes
        return made.layout(place / "i")

    return make


def spoil_descriptor(**changes: object) -> Any:
    def make(place: Path) -> Path:
        made = Made()
        return made.layout(place / "i", made.finish() | changes)

    return make


def wrong_blob(place: Path) -> Path:
    layout = Made().layout(place / "i")
    blob = layout / "blobs" / digest(LAYERS[0]).replace(":", "/")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    return layout


def linked_blob(place: Path) -> Path:
    layout = Made().layout(place / "i")
    blob = layout / "blobs" / digest(LAYERS[0]).replace(":", "/")
    blob.rename(place / "outside")
    blob.symlink_to(place / "outside")
    return layout


def twice(place: Path) -> Path:
    made = Made()
    top = made.finish()
    layout = made.layout(place / "i", top)
    index = (layout / "index.json").read_text()
    (layout / "index.json").write_text(index.replace('"schemaVersion": 2', '"schemaVersion": 2, "schemaVersion": 2'))
    return layout


def docker_link(target: str) -> Any:
    def make(place: Path) -> Path:
        made = Made(LAYERS[:1])
        listed = [{"Config": "c.json", "RepoTags": ["made:1"], "Layers": ["1/layer.tar"]}]
        members: dict[str, bytes | str] = {
            "1/layer.tar": target,
            "layers/1.tar": LAYERS[0],
            "c.json": json.dumps(made.config).encode(),
            "manifest.json": json.dumps(listed).encode(),
        }
        write_tar(place / "i", members)
        return place / "i"

    return make


def docker_config_outside(place: Path) -> Path:
    write_tar(place / "i", {"manifest.json": b'[{"Config": "../../etc/passwd", "RepoTags": [], "Layers": []}]'})
    return place / "i"


REFUSED: dict[str, Any] = {
    "bytes that are not the digest's": wrong_blob,
    "a blob that is a symlink": linked_blob,
    "a key twice": twice,
    "a wrong DiffID": spoil_config("rootfs", {"type": "layers", "diff_ids": [digest(b"1"), digest(b"2")]}),
    "no DiffIDs": spoil_config("rootfs", {"type": "layers", "diff_ids": []}),
    "no rootfs": spoil_config("rootfs", None),
    "another system": spoil_config("os", "windows"),
    "a digest that is a path": spoil_descriptor(digest="sha256:../../x"),
    "a size too large by one": spoil_descriptor(size=10_000),
    "a size below zero": spoil_descriptor(size=-1),
    "a size that is no number": spoil_descriptor(size="5"),
    "a manifest that is an index too": spoil_manifest(manifests=[]),
    "a manifest that says it is an index": spoil_manifest(mediaType=INDEX),
    "schema 1": spoil_manifest(schemaVersion=1),
    "only attestations": spoil_descriptor(mediaType=INDEX),
    "a docker-archive's symlink out": docker_link("../../outside"),
    "a docker-archive's absolute symlink": docker_link("/etc/passwd"),
    "a docker-archive's config outside": docker_config_outside,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_broken_image_is_refused_and_leaves_nothing(kind: str, store: Store, scratch: Path) -> None:
    with pytest.raises(LayerfsError):
        take(store, REFUSED[kind](scratch))
    assert Images(store).all() == []
    assert (store.content.all(), list(store.snapshotter("overlay").walk())) == ([], [])


ACCEPTED: dict[str, Any] = {
    "no media type": spoil_manifest(mediaType=""),
    "more history than layers": spoil_config("history", [{}] * 9),
    "no platform": lambda place: _without_platform(place),
    "a docker-archive's symlink inside": docker_link("../layers/1.tar"),
}


def _without_platform(place: Path) -> Path:
    made = Made()
    del made.config["os"], made.config["architecture"]
    return made.layout(place / "i")


@pytest.mark.parametrize("kind", ACCEPTED)
def test_sloppy_image_is_taken(kind: str, store: Store, scratch: Path) -> None:
    assert take(store, ACCEPTED[kind](scratch)) == ["made:1"]


def test_image_without_layers_and_one_with_a_layer_twice(store: Store, scratch: Path) -> None:
    for number, layers in enumerate([[], [LAYERS[0], LAYERS[0]]]):
        made = Made(layers)
        top = made.finish(annotations={"org.opencontainers.image.ref.name": f"x:{number}"})
        take(store, made.layout(scratch / str(number), top))
        assert Images(store).get(f"x:{number}")


def test_platform_of_an_index_in_an_index_is_chosen_and_attestations_are_copied(store: Store, scratch: Path) -> None:
    made = Made()
    mine = made.finish(platform={"os": "linux", "architecture": made.config["architecture"]})
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": mine["digest"]}
    attested = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": made.descriptor(b"{}", "application/x"), "layers": []}
    ).encode()
    unknown = {"os": "unknown", "architecture": "unknown"}
    attestation = made.descriptor(attested, MANIFEST, platform=unknown, annotations=about)
    other = made.descriptor(b'{"other": 1}', MANIFEST, platform={"os": "linux", "architecture": "pdp11"})
    inner = made.descriptor(json.dumps({"schemaVersion": 2, "manifests": [attestation, other, mine]}).encode(), INDEX)
    outer = made.descriptor(
        json.dumps({"schemaVersion": 2, "manifests": [inner]}).encode(), INDEX,
        annotations={"org.opencontainers.image.ref.name": "made:1"},
    )  # fmt: skip
    del made.blobs[other["digest"]]
    assert take(store, made.layout(scratch / "i", outer)) == ["made:1"]
    image = Images(store).get("made:1")
    assert (image.top.digest, image.chosen.digest) == (outer["digest"], mine["digest"])
    assert Images(store).has(attestation["digest"])


def test_name_is_found_by_its_tag_and_by_the_digest(store: Store, scratch: Path) -> None:
    take(store, Made().layout(scratch / "i"), driver=None)
    images = Images(store)
    image = images.get("made:1")
    assert images.get(image.top.digest[:20]) == images.get(image.top.digest[7:20]) == image
    with pytest.raises(LayerfsError):
        images.get("made")
    images.tag("made:1", "made")
    assert images.get("made").name == "made:latest"


def test_layer_that_is_only_at_an_address_is_named_and_not_fetched(store: Store, scratch: Path) -> None:
    made = Made()
    foreign = made.descriptor(LAYERS[1], "application/vnd.docker.image.rootfs.foreign.diff.tar", urls=["http://x/y"])
    made.manifest["layers"] = [made.descriptor(LAYERS[0], "application/vnd.oci.image.layer.v1.tar"), foreign]
    top = made.finish(annotations={"org.opencontainers.image.ref.name": "made:1"})
    assert take(store, made.layout(scratch / "whole", top)) == ["made:1"], "one that is there is taken as any other"
    Images(store).remove("made:1")
    del made.blobs[digest(LAYERS[1])]
    with pytest.raises(LayerfsError, match="does not come with the image"):
        take(store, made.layout(scratch / "without", top))
    assert store.content.all() == []
