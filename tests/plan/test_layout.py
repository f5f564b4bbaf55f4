"""Layers as an OCI image."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.oci.digest import digest_of
from layerfs.plan.contents import LayerContents, slices
from layerfs.plan.layout import begin, finish, place, write_blob
from layerfs.plan.tree import UNOWNED
from tests.plan.scenes import opened_source
from tests.plan.trees import make_house, words_of

LAYERS = [(1, ["lib"]), (0, ["app", "words", UNOWNED])]


def test_a_layout_names_blobs_that_are_there_bottom_first(scratch: Path) -> None:
    out = os.fsencode(scratch / "out")
    begin(out)
    with opened_source(words_of(make_house(scratch))) as source:
        assert source.tree is not None
        blobs = [write_blob(out, LayerContents(source.tree, piece, b"")) for piece in slices(source.tree, LAYERS)]
    top = finish(out, blobs, ["calm", "wild"], "house:1", {"config": {"Cmd": ["sh"]}, "variant": "v8", "history": []})
    index = json.loads((scratch / "out/index.json").read_text())
    assert index["manifests"][0]["digest"] == top
    manifest = json.loads(Path(os.fsdecode(place(out, top))).read_bytes())
    config = json.loads(Path(os.fsdecode(place(out, manifest["config"]["digest"]))).read_bytes())
    assert (config["config"], config["variant"], len(config["history"])) == ({"Cmd": ["sh"]}, "v8", 2)
    assert config["rootfs"]["diff_ids"] == [blob.diff_id for blob in blobs]
    for layer in manifest["layers"]:
        data = Path(os.fsdecode(place(out, layer["digest"]))).read_bytes()
        assert (digest_of(data), len(data)) == (layer["digest"], layer["size"])
    (scratch / "src/etc/.wh.x").write_text("")
    with opened_source(words_of(scratch / "graph.json")) as source:
        assert source.tree is not None
        with pytest.raises(Unsupported, match=r"/etc/\.wh\.x has a name that means a deletion"):
            write_blob(out, LayerContents(source.tree, slices(source.tree, LAYERS)[1], b""))
    with tarfile.open(os.fsdecode(place(out, blobs[0].digest))) as tar:
        assert tar.getnames() == [".", "lib", "lib/deep", "lib/deep/er", "lib/deep/er/none", "lib/deep/two", "lib/one"]
        assert tar.getmember("lib/one").linkname == "lib/deep/two"
