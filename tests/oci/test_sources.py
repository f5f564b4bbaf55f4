"""Sources of images on disk."""

import io
import json
import os
import zlib
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError
from layerfs.oci.sources import open_source
from tests.oci.image import LAYERS, Made, write_tar


def roots(path: Path) -> list[tuple[str, ...]]:
    with open_source(bytes(path), bytes(path.parent)) as source:
        return [root.names for root in source.roots()]


def test_layers_may_be_left_out_or_come_twice(scratch: Path) -> None:
    made = Made([LAYERS[0], LAYERS[0]])
    listed = [{"Config": "c", "RepoTags": None, "Layers": ["", "l.tar", "l.tar", ""]}]
    config = json.dumps(made.config).encode()
    write_tar(scratch / "i", {"manifest.json": json.dumps(listed).encode(), "c": config, "l.tar": LAYERS[0]})
    assert roots(scratch / "i") == [()]


BAD = {
    "no list": b"{}",
    "no JSON": b"[",
    "no config": b'[{"Layers": []}]',
    "layers that are no list": b'[{"Config": "c", "Layers": {"a": 1}}]',
    "names that are no texts": b'[{"Config": "c", "RepoTags": [1], "Layers": []}]',
    "a key twice": b'[{"Config": "c", "Config": "c", "Layers": []}]',
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_docker_manifest_is_refused(kind: str, scratch: Path) -> None:
    write_tar(scratch / "i", {"manifest.json": BAD[kind], "c": b"{}"})
    with pytest.raises(LayerfsError):
        roots(scratch / "i")


def test_layout_of_another_version_is_refused(scratch: Path) -> None:
    Made().layout(scratch / "i")
    (scratch / "i/oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(LayerfsError, match="version"):
        roots(scratch / "i")


def test_fifo_is_read_and_a_device_refused(scratch: Path) -> None:
    with pytest.raises(LayerfsError):
        roots(Path("/dev/zero"))
    data = Made().docker(scratch / "i").read_bytes()
    read, write = os.pipe()
    with io.FileIO(write, "w") as out:
        out.write(data[:60_000])
    old = os.dup(0)
    os.dup2(read, 0)
    try:
        with open_source(b"-", bytes(scratch)) as source:
            assert source.roots()
    finally:
        os.dup2(old, 0)
        os.close(old)
        os.close(read)


def test_archive_that_is_a_bomb_ends_at_the_limit(scratch: Path) -> None:
    """It was copied to the store's filesystem until that was full."""
    (scratch / "bomb").write_bytes(zlib.compress(bytes(30_000_000), wbits=31))
    with pytest.raises(InvalidArgument, match="more than 1000000 bytes"):
        with open_source(bytes(scratch / "bomb"), bytes(scratch), most=1_000_000):
            pass
